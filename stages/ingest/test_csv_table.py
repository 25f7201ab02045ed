import codecs
import csv
import gzip
import io
import math
import random
import tracemalloc
from collections.abc import Sequence

import pandas as pd
import pytest

import csv_table
from stagekit import BadInput

NUMBERS, TEXTS = ["length", "width"], ["kind"]
TABLE = pd.DataFrame({"length": [5.1, 60.0, 0.25], "width": [3.5, 4.0, 1e-05], "kind": ["rose", "lily", "white rose"]})
PLAIN = "length,width,kind\n5.1,3.5,rose\n60,4,lily\n0.25,1e-05,white rose\n"
GERMAN = PLAIN.replace(",", ";").replace(".", ",")


@pytest.fixture
def read(tmp_path):
    """Reads the table that a file holds."""

    def run(content: str | bytes, largest: int = 10**9, name: str = "table.csv") -> pd.DataFrame:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return csv_table.read(path, "table.csv", numbers=NUMBERS, texts=TEXTS, largest=largest)

    return run


@pytest.fixture
def refusal(read):
    """Gives the one line with which a file is refused."""

    def run(content: str | bytes, **options) -> str:
        with pytest.raises(BadInput) as error:
            read(content, **options)
        said = str(error.value)
        assert said.startswith("table.csv") and "expected" in said and said.isprintable() and len(said) < 400
        return said

    return run


# --- what programs write


def of_pandas(**options) -> bytes:
    return TABLE.to_csv(**options).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(PLAIN.rstrip("\n"), id="no line break at the end"),
        pytest.param(f"\n\n{PLAIN}\n\n", id="empty lines around it"),
        pytest.param(PLAIN.replace(",", ", "), id="a blank after each comma"),
        pytest.param(
            of_pandas(index=False, quoting=csv.QUOTE_ALL).replace(b",", b", "), id="a blank before each quotation mark"
        ),
        pytest.param(PLAIN.replace(",", " , ").replace("\n", " \n"), id="blanks around each cell"),
        pytest.param(of_pandas(index=False), id="pandas"),
        pytest.param(of_pandas(), id="pandas with its index"),
        pytest.param(b"Unnamed: 0" + of_pandas(), id="pandas with an index that was read back"),
        pytest.param(of_pandas(sep=";", decimal=","), id="pandas, German"),
        pytest.param(of_pandas(sep="\t", quoting=csv.QUOTE_ALL), id="pandas, tabs, all quoted"),
        pytest.param(
            '"length","width","kind"\n5.1,3.5,"rose"\n60,4,"lily"\n0.25,1e-05,"white rose"\n',
            id="R: write.csv(row.names=FALSE)",
        ),
        pytest.param(
            '"","length","width","kind"\n"1",5.1,3.5,"rose"\n"2",60,4,"lily"\n"3",0.25,1e-05,"white rose"\n',
            id="R: write.csv",
        ),
        pytest.param(
            '"";"length";"width";"kind"\n"1";5,1;3,5;"rose"\n"2";60;4;"lily"\n"3";0,25;1e-05;"white rose"\n',
            id="R: write.csv2",
        ),
        pytest.param(PLAIN.replace("\n", "\r\n").replace("1e-05", "1.00E-05"), id="Excel"),
        pytest.param(codecs.BOM_UTF8 + PLAIN.replace("\n", "\r\n").encode(), id="Excel, CSV UTF-8"),
        pytest.param(PLAIN.replace("\n", "\r"), id="Excel, Macintosh"),
        pytest.param(GERMAN.replace("\n", "\r\n").replace("1e-05", "0,00001"), id="Excel, German"),
        pytest.param(codecs.BOM_UTF8 + GERMAN.replace("\n", "\r\n").encode(), id="Excel, German, CSV UTF-8"),
        pytest.param(f"sep=;\r\n{GERMAN}", id="Excel, German, its separator stated"),
        pytest.param(codecs.BOM_UTF8 + f'"sep=,"\n{PLAIN}'.encode(), id="the separator stated in quotation marks"),
        pytest.param(PLAIN.replace(",", "\t").encode("utf-16"), id="Excel, Unicode text"),
        pytest.param(codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"), id="UTF-16, big-endian"),
        pytest.param(
            '"length";"width";"kind"\n"5,1";"3,5";"rose"\n"60";"4";"lily"\n"0,25";"1E-005";"white rose"\n',
            id="LibreOffice, German, all quoted",
        ),
        pytest.param("length,width,kind\n5.1,3.5,rose\n60.0,4.0,lily\n0.25,1e-05,white rose\n", id="DuckDB"),
        pytest.param(gzip.compress(PLAIN.encode()), id="gzip"),
        pytest.param(gzip.compress(GERMAN[:40].encode()) + gzip.compress(GERMAN[40:].encode()), id="gzip, two parts"),
        pytest.param(gzip.compress(GERMAN.encode("utf-16")), id="gzip, UTF-16"),
        pytest.param(
            ',length,width,kind\n"the\r\nfirst",5.1,3.5,rose\nb,60,4,lily\n"a ""c""",0.25,1e-05,white rose\n',
            id="a line break in a row's name",
        ),
    ],
)
def test_what_programs_write_is_read(read, content):
    """A table is the same table, whichever program wrote it, in whichever country."""
    pd.testing.assert_frame_equal(read(content), TABLE, check_exact=True)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table"])
@pytest.mark.parametrize("content", [PLAIN.encode(), gzip.compress(PLAIN.encode())])
def test_what_a_file_is_called_says_nothing(read, content, name):
    """A file is unpacked if it is packed, whatever its name ends in."""
    pd.testing.assert_frame_equal(read(content, name=name), TABLE, check_exact=True)


def test_a_text_is_read_as_it_is(read):
    """A text may hold separators, quotation marks and line breaks; but for the blanks around it, none is lost."""
    text = 'a,b;c\t\u00e9 "d"\r\ne\rf\ng 1,5 NA'
    for separator in ",;\t":
        file = io.StringIO()
        csv.writer(file, delimiter=separator).writerows([[*NUMBERS, *TEXTS], [1.5, 2, f" {text} "]])
        assert read(file.getvalue()).to_numpy().tolist() == [[1.5, 2, text]]


# --- the property: the same table or a refusal, never another number


FORMATS = ["{!r}", "{:.1f}", "{:.3f}", "{:.15g}", "{:.17g}", "{:.2E}", "{:+.4f}", "{:.0f}", "{:,.0f}", "{:,.2f}"]
"""How programs write a number, the last two with thousands separated. A table has one way for all cells, or any."""


def random_rows(chance: random.Random) -> list[list[str]]:
    """Return the rows of a table, two numbers and a text each, as a program writes them."""
    formats = chance.choice([FORMATS, *([each] for each in FORMATS)])
    largest = 10 ** chance.randint(-5, 9)
    return [
        [*(chance.choice(formats).format(chance.uniform(-largest, largest)) for _ in NUMBERS), chance.choice("abc")]
        for _ in range(chance.randint(1, 6))
    ]


def written(rows: Sequence[Sequence[str]], chance: random.Random) -> bytes:
    """Return the bytes of those rows below a header, in one of the many ways there are, some of them wrong."""
    separator = chance.choice(",;\t")
    if chance.random() < 0.5 and not any("," in cell for row in rows for cell in row):
        rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    rows = [[*NUMBERS, *TEXTS], *rows]
    if chance.random() < 0.3:
        name = chance.choice(["", "Unnamed: 0", "row"])
        rows = [[name if not number else str(number), *row] for number, row in enumerate(rows)]
    if chance.random() < 0.2:  # the order of columns says nothing
        rows = [row[::-1] for row in rows]
    end = chance.choice(["\n", "\r\n", "\r"])
    file = io.StringIO()
    quoting = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    text = file.getvalue()
    if chance.random() < 0.2:  # a program that knows no quotation marks
        text = text.replace('"', "")
    if chance.random() < 0.2:
        text = f"sep={chance.choice([separator, separator, ','])}{end}{text}"
    content = text.encode(chance.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))
    return gzip.compress(content) if chance.random() < 0.2 else content


def test_a_random_table_is_the_same_or_refused(read):
    """However a random table is written, it is read as the numbers that it holds, or refused; half of them are read."""
    chance = random.Random(5)
    refused = 0
    for _ in range(1500):
        rows = random_rows(chance)
        content = written(rows, chance)
        expected = [[*(float(cell.replace(",", "")) for cell in row[:-1]), row[-1]] for row in rows]
        try:
            found = read(content)
        except BadInput:
            refused += 1
        else:
            assert found.to_numpy().tolist() == expected, content
    assert 100 < refused < 1000


def test_a_damaged_table_is_refused_or_read(read):
    """A file of which bytes were lost, doubled or changed is read or refused in a sentence; nothing else happens."""
    chance = random.Random(6)
    for _ in range(1500):
        content = bytearray(written(random_rows(chance), chance))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(content))
            content[place : place + chance.randint(0, 2)] = chance.choice(
                [b"", b'"', b"\0", b"\xff", b"\n", b",", b"9_9"]
            )
        try:
            read(bytes(content))
        except BadInput as error:
            assert str(error).isprintable()


# --- numbers


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("5", 5.0),
        ("5.1", 5.1),
        ("05.10", 5.1),
        ("5.", 5.0),
        (".5", 0.5),
        ("+5.1", 5.1),
        ("-5.1", -5.1),
        ("51e-1", 5.1),
        ("0.51E+01", 5.1),
        (" 5.1\t", 5.1),
        ("5.1000000000000000000000000000001", 5.1),  # the nearest that there is, as in any program
        ("0." + "0" * 400 + "51e401", 5.1),
        ("9007199254740993", 9007199254740992.0),
        ("1e-400", 0.0),
    ],
)
def test_a_number_is_what_it_says(read, cell, number):
    """However a number is written in CSV, it is the float nearest to it."""
    assert read(f'length,width,kind\n{cell},"{cell}",rose\n')[NUMBERS].to_numpy().tolist() == [[number, number]]


@pytest.mark.parametrize(
    "cell",
    [
        *["5_1", "1_000.5", "0x1p3", "0x10", "0b1", "0o7", "True", "FALSE", "yes", "1e400", "-1e999", "9" * 400],
        *["inf", "-Infinity", "INF", "nan", "NaN", "-nan", "NA", "N/A", "null", "None", "#N/A", "#DIV/0!", "", " "],
        *["\uff15.1", "\u0665", "5\u00b2", "\u00bd", "\u22125", "5.1\xa0", "\ufeff5.1", "5\u2009100", "5\x0b", "5.1\0"],
        *["5,1", "1,234", "1.234,5", "1'234", "1 234", "5 1", "5\t1", "- 5", "5. 1", "5 e1", "5.1\n", "\n5.1", "5\n1"],
        *["5.1cm", "5.1 cm", "5.1%", "$5", "5\u20ac", "'5.1", "=5.1", '="5.1"', "(5.1)", "5.1f", "5L", "5d0", '5"1'],
        *[
            "5.1.2",
            "5-1",
            "--5",
            "+-5",
            "5e",
            "e5",
            "1e5.5",
            ".",
            "+",
            "-",
            "1/2",
            "05.Jan",
            "2026-05-01",
            "5;1",
            "5:1",
        ],
    ],
    ids=ascii,
)
def test_what_is_no_number_is_refused(refusal, cell):
    """A cell that is no number in CSV is refused with its column, its row and what it holds, not bent into one."""
    quoted = cell.replace('"', '""')
    said = refusal(f'length,width,kind\n5.1,3,rose\n5.1,"{quoted}",rose\n')
    assert said.startswith("table.csv: column width in data row 2 holds ")
    assert repr(cell) in said or "..." in said
    assert said.endswith("; expected a number, such as 5.1: correct the file")


def test_just_numbers_are_read(read):
    """Of the words that numbers' letters make, those of digits, a point and an exponent are read, and no other."""
    chance = random.Random(7)
    seen = {True: 0, False: 0}
    for _ in range(2000):
        word = "".join(chance.choices("0159.+-eE_ infa\u0665", k=chance.randint(1, 5)))
        try:
            number = float(word) if word.isascii() and "_" not in word else math.nan
        except ValueError:
            number = math.nan
        try:
            found = read(f'length,width,kind\n7,"{word}",rose\n')["width"].item()
        except BadInput:
            found = math.nan
        assert found == number or (not math.isfinite(number) and math.isnan(found)), word
        seen[math.isfinite(found)] += 1
    assert min(seen.values()) > 200


def test_the_rows_of_a_long_table_are_counted(read, refusal):
    """The row of a fault is counted from the first row of the whole table, without empty lines."""
    rows = [f"{number},1,rose\n" for number in range(1, 5001)]
    assert read(f"length,width,kind\n{''.join(rows)}")["length"].tolist() == list(range(1, 5001))
    rows[4321] = "\n5_1,1,rose\n"
    assert "column length in data row 4322 holds '5_1'" in refusal(f"length,width,kind\n{''.join(rows)}")
    rows[4321] = "\n5,1,1,rose\n"
    assert "data row 4322 has 4 cells; expected 3" in refusal(f"length,width,kind\n{''.join(rows)}")


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("content", [PLAIN, GERMAN, "length\twidth\tkind\n1,234\t2\ta\n3,4\t5,25\tb\n"])
def test_how_many_rows_are_taken_at_once_changes_nothing(read, monkeypatch, content, rows):
    """However many rows are read at once, the table is the same."""
    whole = read(content)
    monkeypatch.setattr(csv_table, "BATCH", rows)
    pd.testing.assert_frame_equal(read(content), whole, check_exact=True)


# --- decimals


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("length\twidth\tkind\n12,345,678\t2\ta\n", "holds '12,345,678'", id="millions"),
        pytest.param("length;width;kind\n1,234;2.5;rose\n", "width in data row 1 holds '2.5'", id="thousands, one row"),
        pytest.param("length;width;kind\n1,5;2.5;rose\n", "width in data row 1 holds '2.5'", id="one row"),
        pytest.param(
            "length;width;kind\n1.5;2;rose\n2,5;1;rose\n", "length in data row 2 holds '2,5'", id="one column"
        ),
        pytest.param("length\twidth\tkind\n5\t1\ta\n1.234,5\t2\ta\n", "holds '1.234,5'", id="German thousands"),
        pytest.param('length;width;kind\n"1,234.5";2;rose\n', "holds '1,234.5'", id="American thousands"),
        pytest.param(
            'length,width,kind\n"5,1","3,5",rose\n', "holds '5,1'; expected a number, such as 5.1", id="commas"
        ),
        pytest.param(
            "length,width,kind\n5,1,3,5,rose\n", "data row 1 has 5 cells; expected 3", id="commas, not quoted"
        ),
    ],
)
def test_a_table_has_one_mark_of_decimals(refusal, content, told):
    """Decimal commas are read only where commas do not separate, and only if there is no decimal point as well."""
    assert told in refusal(content)


@pytest.mark.parametrize("numbers", [["1,234", "5,678"], ["12", "1,234"], ["-1,000", "2"]])
def test_a_comma_that_may_mark_thousands_is_refused(read, refusal, numbers):
    """Where each comma has three digits after it, it may mark thousands; one cell that shows which is enough."""
    rows = "".join(f"{number}\t1\trose\n" for number in numbers)
    said = refusal(f"length\twidth\tkind\n{rows}")
    assert "whose comma may mark thousands or decimals, and no cell shows which" in said
    found = read(f"length\twidth\tkind\n{rows}1\t0,5\trose\n")
    assert found["length"].tolist()[:2] == [float(number.replace(",", ".")) for number in numbers]


# --- columns


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("length,widht,kind", "column 2 is 'widht'; expected the columns length, width, kind, each once"),
        ("length,Width,kind", "column 2 is 'Width'"),
        ("length,wi dth,kind", "column 2 is 'wi dth'"),
        ("length,\ufeffwidth,kind", r"column 2 is '\ufeffwidth'"),
        ('length,"wi\ndth",kind', r"column 2 is 'wi\ndth'"),
        ("length,width,kind,colour", "column 4 is 'colour'"),
        ("length,width,kind,", "column 4 is ''"),
        ("length,,width,kind", "column 2 is ''"),
        (",,length,width,kind", "column 2 is ''"),
        (",Unnamed: 0,length,width,kind", "column 2 is 'Unnamed: 0'"),
        ("Unnamed: 0.1,length,width,kind", "column 1 is 'Unnamed: 0.1'"),
        ("length,width,length,kind", "column 3 is 'length'"),
        ("length,kind", "column width is missing; expected the columns length, width, kind"),
        ("length;width,kind", "column 1 is 'length;width'"),
        ("length|width|kind", "begins with 'length|width|kind'; expected a header line with the columns length, width"),
        ("5.1,3.5,rose", "begins with '5.1,3.5,rose'"),
        ("# a comment", "begins with '# a comment'"),
        ("sep=|", "begins with 'sep=|'"),
        ("sep=;\nlength,width,kind", "column 1 is 'length,width,kind'"),
        ("sep=;", "column 1 is '1,2,rose'"),
        ("x" * 10_000, "begins with 'xxxx"),
    ],
)
def test_other_columns_are_refused(refusal, header, told):
    """A header that is not the one expected is refused with the first name that is wrong, shown as it is."""
    assert told in refusal(f"{header}\n1,2,rose\n")


@pytest.mark.parametrize("header", [" length ,\twidth, kind", '"length" , " width","kind "'])
def test_blanks_around_a_name_are_no_part_of_it(read, refusal, header):
    """A blank before or after a column's name, which nobody sees, is no other name."""
    if '" ,' in header:  # the quotation mark is in the middle of a cell
        assert "cannot be split into cells in line 1" in refusal(f"{header}\n1,2,rose\n")
    else:
        assert read(f"{header}\n1,2,rose\n").to_numpy().tolist() == [[1, 2, "rose"]]


# --- rows


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (gzip.compress(b""), "is empty"),
        ("length,width,kind\n1,2\n", "data row 1 has 2 cells; expected 3, as the header has"),
        ("length,width,kind\n1,2,rose\n1,2,rose,\n", "data row 2 has 4 cells; expected 3"),
        ("length,width,kind\n1,1,2,rose\n2,1,2,rose\n", "data row 1 has 4 cells; expected 3"),  # R's write.table
        ('length,width,kind\n"5.1"3,2,rose\n', "cannot be split into cells in line 2"),
        ('\n\nlength,width,kind\n1,2,"rose\n', "cannot be split into cells in line 4 (unexpected end of data)"),
        ('sep=,\nlength,width,kind\n""5.1"",2,rose\n', "cannot be split into cells in line 3"),
        (f'length,width,kind\n1,2,"{"1,2,rose\n" * 20_000}', "cannot be split into cells in line"),
    ],
)
def test_what_is_no_table_is_refused(refusal, content, told):
    """A row of more or fewer cells than the header has, and a quotation mark without another, are refused."""
    assert told in refusal(content)


# --- files


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (PLAIN.replace("rose", "ros\u00e9").encode("latin-1"), "is not UTF-8 (byte 29)"),
        (gzip.compress(b"length,width,kind\n" + b"1,2,rose\n" * 3000 + b"\xff"), "is not UTF-8 (byte 27018)"),
        (b"\xef\xbb\xbf" + b"length,width,kind\n" + b"1,2,rose\n" * 3000 + b"\xe9", "is not UTF-8 (byte 27021)"),
        (PLAIN.encode("utf-16")[:-1], "is not UTF-16"),
        (PLAIN.encode("utf-16-le"), r"begins with 'l\x00e\x00n"),
        (PLAIN.encode("utf-32"), r"begins with '\x00l\x00e\x00n"),
        (b"PK\3\4" + bytes(9), "is an Excel workbook or another ZIP archive; expected a CSV file"),
        (b"\xd0\xcf\x11\xe0" + bytes(9), "is an old Excel workbook"),
        (b"PAR1" + bytes(9), "is a Parquet file"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "is packed by zstd"),
        (gzip.compress(b"PK\3\4"), "is an Excel workbook"),
        (gzip.compress(gzip.compress(PLAIN.encode())), "is not UTF-8"),
        (gzip.compress(PLAIN.encode())[:-9], "cannot be unpacked"),
        (gzip.compress(PLAIN.encode())[:-5] + bytes(5), "cannot be unpacked"),
        (gzip.compress(PLAIN.encode()) + b"more", "cannot be unpacked"),
        (b"\x1f\x8b", "cannot be unpacked"),
        (b"\x1f\x8b\x08" + bytes(20), "cannot be unpacked"),
    ],
)
def test_what_is_no_text_is_refused(refusal, content, told):
    """A file that is no text, or damaged, is refused with what it is, or where it begins to be something else."""
    assert told in refusal(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"length,width,kind\n" + b"1,2,rose\n" * 5_000_000, "is larger than", id="rows"),
        pytest.param(b"\n" * 50_000_000, "is larger than", id="empty lines"),
        pytest.param(bytes(50_000_000), "has a line of 1,000,000 characters or more", id="zeros"),
        pytest.param(b'length,width,kind\n1,2,"' + b"x" * 50_000_000, "has a line of 1,000,000", id="a cell"),
        pytest.param(b'length,width,kind\n1,2,"' + b"x\n" * 5_000_000, "larger than field limit", id="a cell of lines"),
    ],
)
def test_what_is_packed_small_fills_no_memory(refusal, content, told):
    """A packed file is unpacked no further than to the limit, and a line or cell without an end not even so far."""
    packed = gzip.compress(content, 1)
    tracemalloc.start()
    try:
        assert told in refusal(packed, largest=200_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
