"""Reads CSV files as spreadsheets, databases and statistics programs write them. What is ambiguous is refused."""

import codecs
import csv
import gzip
import io
import math
import re
import reprlib
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import batched, chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from stagekit import BadInput

SEPARATORS = ",;\t"
INDEX = ("", "Unnamed: 0")
"""How R and pandas call a column of row names. It comes first and is left out."""
BLANKS = " \t"
"""What may stand around a cell and is no part of it."""
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
"""How a number is written. To Python's float(), 5_1 is 51, inf is a number, and so are the digits of other scripts."""
CHARACTERS = re.compile(r"[0-9+\-.eE \t]*")
"""What is written in these alone is a number to float() just if it is a NUMBER."""
THOUSANDS = re.compile(r"[ \t]*[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+[ \t]*")
"""A cell whose comma may mark thousands. A point marks decimals, as any reader of CSV takes it."""
SWAPPED = str.maketrans(",.", ".,")

GZIP = b"\x1f\x8b"
OTHERS = {
    b"PK\3\4": "an Excel workbook or another ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
}
"""What is often taken for a CSV file, by its first bytes."""
LONGEST = 1_000_000  # characters in a line: where none ends, memory would fill
BATCH = 2_000  # rows: few enough for the processor's cache

shown = reprlib.Repr(maxstring=60).repr
"""Return a cell as it is shown in a message: in quotation marks, not too long, on one line."""


def read(path: Path, name: str, *, numbers: Sequence[str], texts: Sequence[str], largest: int) -> pd.DataFrame:
    """Return the columns `numbers` and `texts` of the CSV file at `path`, which messages call `name`.

    The file may be packed by gzip, from at most `largest` characters. Its text is UTF-8, or UTF-16 with a byte order
    mark; its header says whether commas, semicolons or tabs separate the cells. Decimals have points, or else, where
    commas do not separate, all of them commas. Raise BadInput for any other file, column or number.
    """
    with path.open("rb") as plain:
        packed = plain.peek(len(GZIP)).startswith(GZIP)
        file = gzip.GzipFile(fileobj=plain) if packed else plain
        try:
            lines = _lines(_text(file, name), name, largest if packed else math.inf)
            return _table(lines, name, numbers, texts)
        except UnicodeDecodeError as error:
            byte = file.tell() - len(error.object) + error.start
            raise BadInput(
                f"{name} is not {error.encoding.upper()} (byte {byte}); expected a CSV file in UTF-8: convert it"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadInput(
                f"{name} cannot be unpacked: {error}; expected a whole file of gzip: copy or pack it again"
            ) from None


def _text(file: BinaryIO, name: str) -> io.TextIOWrapper:
    """Return `file` as text, its line breaks as they are."""
    head = file.peek(8)
    for start, what in OTHERS.items():
        if head.startswith(start):
            raise BadInput(f"{name} is {what}; expected a CSV file, plain or packed by gzip: save it as one")
    utf_16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return io.TextIOWrapper(file, "utf-16" if utf_16 else "utf-8-sig", newline="")


def _lines(text: io.TextIOWrapper, name: str, largest: float) -> Iterator[str]:
    """Yield the lines of `text` with their ends, and hold no more than one in memory."""
    length = 0
    while line := text.readline(LONGEST):
        length += len(line)
        if len(line) == LONGEST:
            raise BadInput(f"{name} has a line of {LONGEST:,} characters or more; expected a row: correct the file")
        if length > largest:
            raise BadInput(
                f"{name} is larger than {largest // 1_000_000} MB, unpacked; expected at most that: raise "
                "DOWNLOAD_MEGABYTES in .env, or unpack a file of yours yourself"
            )
        yield line


def _table(lines: Iterator[str], name: str, numbers: Sequence[str], texts: Sequence[str]) -> pd.DataFrame:
    before, first = next(((number, line) for number, line in enumerate(lines) if line.strip()), (0, ""))
    if not first:
        raise BadInput(f"{name} is empty; expected a header line and rows: correct the file")
    if stated := re.fullmatch(r'"?sep=([,;\t])"?[\r\n]*', first):  # Excel's own line, before the header
        before, separator = before + 1, stated[1]
    else:
        lines, separator = chain([first], lines), _separator(first, name, [*numbers, *texts])
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        rows = filter(None, reader)  # no empty lines
        header = [cell.strip(BLANKS) for cell in next(rows, [""])]
        _check_header(header, name, [*numbers, *texts])
        columns = _Columns(name, header, numbers, texts, separator)
        for batch in batched(rows, BATCH, strict=False):
            columns.add(batch)
        return columns.table()
    except csv.Error as error:
        why = str(error).replace("\t", "tab")
        raise BadInput(
            f"{name} cannot be split into cells in line {before + reader.line_num} ({why}); expected quotation marks "
            "at both ends of a cell or at none: correct the file"
        ) from None


def _separator(line: str, name: str, columns: Sequence[str]) -> str:
    """Return the separator by which `line` has most of the names of `columns`."""

    def known(separator: str) -> int:
        (cells,) = csv.reader([line[:10_000]], delimiter=separator, skipinitialspace=True)
        return sum(cell.strip(BLANKS) in columns for cell in cells)

    separator = max(SEPARATORS, key=known)
    if not known(separator):
        raise BadInput(
            f"{name} begins with {shown(line.rstrip())}; expected a header line with the columns {', '.join(columns)}, "
            "separated by commas, semicolons or tabs: correct the file"
        )
    return separator


def _check_header(header: Sequence[str], name: str, columns: Sequence[str]) -> None:
    expected = f"expected the columns {', '.join(columns)}, each once: correct the file"
    for number, column in enumerate(header):
        if column in header[:number] or (column not in columns and (number or column not in INDEX)):
            raise BadInput(f"{name}: column {number + 1} is {shown(column)}; {expected}")
    for column in columns:
        if column not in header:
            raise BadInput(f"{name}: column {column} is missing; {expected}")


class _Columns:
    """Gathers the cells of all rows, batch by batch."""

    def __init__(self, name: str, header: Sequence[str], numbers: Sequence[str], texts: Sequence[str], separator: str):
        self._name, self._header, self._numbers, self._texts = name, header, numbers, texts
        self._found: dict[str, list] = {column: [] for column in (*numbers, *texts)}
        self._rows = 0
        self._mark = "."  # of decimals
        self._settled = separator == ","  # False: the next cell with a mark decides
        self._doubt = ""  # the first cell whose comma may mark thousands, while none has been seen that cannot

    def add(self, rows: Sequence[list[str]]) -> None:
        """Take the next rows. Raise BadInput for one of another length, and for a cell that is no number."""
        width = len(self._header)
        if set(map(len, rows)) != {width}:
            row = next(row for row, cells in enumerate(rows) if len(cells) != width)
            raise BadInput(
                f"{self._name}: data row {self._rows + row + 1} has {len(rows[row])} cells; expected {width}, as the "
                "header has: correct the file"
            )
        cells = dict(zip(self._header, zip(*rows, strict=True), strict=True))
        for column in self._numbers:
            self._found[column].append(self._values(column, cells[column]))
        for column in self._texts:
            self._found[column] += [sys.intern(cell.strip(BLANKS)) for cell in cells[column]]  # few different ones
        self._rows += len(rows)

    def table(self) -> pd.DataFrame:
        """Return what was gathered. Raise BadInput if it is in doubt what its commas mean."""
        if self._doubt:
            raise BadInput(
                f"{self._doubt}, whose comma may mark thousands or decimals, and no cell shows which; expected "
                "decimal points: correct the file"
            )
        return pd.DataFrame(
            self._found | {column: np.concatenate([[], *self._found[column]]) for column in self._numbers}
        )

    def _values(self, column: str, cells: Sequence[str]) -> np.ndarray:
        if not self._settled:
            self._settle(column, cells)
        values = _floats([cell.translate(SWAPPED) for cell in cells] if self._mark == "," else cells)
        if not np.isfinite(values).all():
            row = int(np.isfinite(values).argmin())
            where = self._cell(column, row, cells[row])
            raise BadInput(f"{where}; expected a number, such as 5{self._mark}1: correct the file")
        return values

    def _settle(self, column: str, cells: Sequence[str]) -> None:
        """Find out which mark the decimals have."""
        for row, cell in enumerate(cells):
            if mark := re.search("[.,]", cell):
                self._mark = "," if self._doubt else mark[0]
                self._settled = not THOUSANDS.fullmatch(cell)
                self._doubt = "" if self._settled else self._doubt or self._cell(column, row, cell)
                if self._settled:
                    return

    def _cell(self, column: str, row: int, cell: str) -> str:
        return f"{self._name}: column {column} in data row {self._rows + row + 1} holds {shown(cell)}"


def _floats(cells: Sequence[str]) -> np.ndarray:
    """Return the numbers that `cells` hold; NaN where a cell holds none, and infinity where it is too large."""
    if CHARACTERS.fullmatch("".join(cells)):  # all at once, which is faster
        with suppress(ValueError):
            return np.fromiter(map(float, cells), float, len(cells))
    return np.array([float(cell) if NUMBER.fullmatch(cell) else math.nan for cell in cells])
