"""`make predict` in the container: each record as it stands, and what the model says of it beside."""

import csv
import hashlib
import io
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_server import batch
from model_server.rows import BadRows

TABLE = 'id,x,word\r\n"a, ""b""",1.50,one\r\n\r\nc,2e0,"two\nlines"\r\nd,3,3'


@pytest.fixture
def run(tmp_path, version, capsys):
    """Predict for a text; return the output and what is said at the end."""
    about = tmp_path / "about.json"
    about.write_text(json.dumps(version(4)))

    def predict(text, name="in.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        batch.main(str(about), str(tmp_path), str(tmp_path / name), str(tmp_path / "out"))
        return (tmp_path / "out").read_bytes().decode(), json.loads(capsys.readouterr().out)

    return predict


def test_rows_stay_as_they_are(run, version, monkeypatch):
    """Quotes, line breaks in a cell, and how a number is written stay; in chunks it is the same as at once."""
    digest = version(4)["sha256"][:12]
    expected = (
        f'id,x,word,prediction,half,model_version,model_sha256\n"a, ""b""",1.50,one,3.0,0.75,4,{digest}\n'
        f'c,2e0,"two\nlines",4.0,1.0,4,{digest}\nd,3,3,6.0,1.5,4,{digest}\n'
    )
    found, said = run(TABLE)
    assert found == expected
    assert said == {"rows": 3, "input_sha256": hashlib.sha256(TABLE.encode()).hexdigest()}
    monkeypatch.setattr(batch, "ROWS", 1)
    monkeypatch.setattr(batch, "BYTES", 1)
    assert run("\ufeff" + TABLE)[0] == "\ufeff" + expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the table is empty"),
        ("x,word\n", "a header and no rows"),
        ("x,word\n1,a\n2,b\nthree,c\n", 'row 3, column "x": "three"; expected a number'),
        ("x,word\n1,a\n2,b\n3,b,c\n", "row 3 has 3 cells"),
        ("x,word,half\n1,a,2\n", "has a column 'half' already"),
        ('x,word\n1,"a\n', "the last quotation mark has no second one"),
    ],
)
def test_bad_tables_get_a_sentence(run, text, sentence, monkeypatch):
    """Row, column, what was found and what is expected, also in a later chunk."""
    monkeypatch.setattr(batch, "ROWS", 2)
    with pytest.raises(BadRows, match=sentence.replace("(", r"\(")):
        run(text)


@given(
    cells=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1), min_size=2, max_size=2),
        min_size=1,
    )
)
def test_records_are_those_of_the_csv_module(cells):
    """Records are split where csv splits them, whatever is in the cells."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    for pieces in ([text.getvalue().encode()], io.BytesIO(text.getvalue().encode())):
        found = [record for some in batch.records(pieces) for record in some]
        assert [next(csv.reader([*io.StringIO(record.decode(), newline="\n")])) for record in found] == cells


COLUMNS = [
    st.floats(),
    st.floats(allow_nan=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_characters="\r")),
    st.none() | st.text('ab,"\n'),
    st.dates(),
]


@given(st.sampled_from(COLUMNS).flatmap(lambda cells: st.lists(st.tuples(cells, st.floats(width=32)), min_size=1)))
def test_what_is_said_is_written_as_pandas_does(cells):
    """Numbers, gaps, texts and whatever else: the records are those of `to_csv`."""
    said = pd.DataFrame(cells, columns=["a", "b"]).astype({"b": "float32"})
    for table in (said, said[["a"]], said.astype({"b": "float64"})):
        text = table.assign(version=3).to_csv(header=False, index=False, lineterminator="\n")
        assert b"\n".join(batch.written(table, {"version": 3})) + b"\n" == text.encode()


def test_parquet_without_its_library(run, monkeypatch):
    """Without pyarrow a sentence says what is missing, and where."""
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadRows, match="no pyarrow for it; expected CSV"):
        run(b"PAR1", "in.parquet")
