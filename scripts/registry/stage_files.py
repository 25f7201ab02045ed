"""Reads what stages write: a stranger's data, bounded in size and never read through a link."""

import csv
import io
import itertools
import json
import math
import os
import re
import stat
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from scripts import places
from scripts.pipeline.console import printable
from scripts.project import ROOT, UserError
from scripts.yaml12 import load_strangers_yaml

MOST_BYTES = 10_000_000  # of a file that is parsed whole
TABLE_BYTES = 100_000_000
TABLE_ROWS, TABLE_COLUMNS = 100_000, 1_000
MOST_FILES = 1_000  # in a folder
DEPTH = 20
OBJECTS = (".json", ".yaml", ".yml", ".toml")
TABLES = (".csv", ".tsv", *OBJECTS)
"""The suffixes of plots that can hold a table."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


class Refused(UserError):
    """What a stage wrote is not what the project takes; the text is one sentence: file, found, expected."""


class Table(NamedTuple):
    """Cells as text, row by row; an empty text where a row has no value."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def column(self, name: str) -> list[str]:
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> list[float] | None:
        """Return a column's numbers, NaN for an empty cell; None if a cell holds anything else."""
        return numbers(self.column(name))


def numbers(cells: Sequence[str]) -> list[float] | None:
    """Return the numbers in cells, NaN for an empty one; None if one holds anything else."""
    found = [number(cell) if cell else math.nan for cell in cells]
    return None if None in found else found


def shown(path: Path) -> str:
    """Return how messages name a file: below the project by its path there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def number(text: str) -> float | None:
    """Return the number that a text is, NaN and infinity among them; None if it is not one (`5_1`, `0x1f`)."""
    return float(text) if _NUMBER.fullmatch(text.strip(" ")) else None


def check_regular(path: Path, most: int) -> None:
    """Raise Refused if `path` is no regular file of at most `most` bytes, UserError if it cannot be looked at."""
    try:
        found = behind(path).lstat()
    except OSError as error:
        raise UserError(
            f"{shown(path)} cannot be read ({error.strerror}); expected a file that its stage wrote"
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{shown(path)} is {_kind(found.st_mode)}; expected a regular file: let its stage write one")
    if found.st_size > most:
        raise Refused(
            f"{shown(path)} has {found.st_size} bytes; expected at most {most}: let its stage write less into it"
        )


def behind(path: Path) -> Path:
    """Return the file in DVC's cache that a link leads to, which is how DVC may place outputs; else the path."""
    return Path(os.path.realpath(path)) if path.is_symlink() and places.is_in_cache(path) else path


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return a file's bytes. Raise as `check_regular` does."""
    check_regular(path, most)
    return _first_bytes(path, most)


def _first_bytes(path: Path, most: int) -> bytes:
    # What it was a moment ago it need not be now: no link is followed, no pipe waited for, no more than that is read.
    try:
        descriptor = os.open(behind(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(
            f"{shown(path)} cannot be read ({error.strerror}); expected a file that its stage wrote"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return a file's text. Raise Refused if it is no regular file, too large, or not UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{shown(path)} is not UTF-8 at byte {error.start}; expected a text") from None


def read_value(path: Path) -> Any:
    """Return what a JSON, TOML or, by any other suffix, YAML file holds. Raise Refused if it holds no such thing."""
    text = read_text(path)
    kind = {".json": "JSON", ".toml": "TOML"}.get(path.suffix.lower(), "YAML")
    try:
        return {"JSON": json.loads, "TOML": tomllib.loads, "YAML": load_strangers_yaml}[kind](text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        why = "too deep" if isinstance(error, RecursionError) else " ".join(printable(error).split())[:200]
        raise Refused(
            f"{shown(path)} is no {kind} ({why}); expected {kind}: correct the stage that writes it"
        ) from None


def files_below(path: Path) -> list[Path]:
    """Return the file itself, or the files of a folder, sorted.

    Raise Refused if there are too many, or if a folder in it is a link.
    """
    if path.is_symlink() or not path.is_dir():
        return [path]
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        if links := [name for name in folders if Path(folder, name).is_symlink()]:
            check_regular(Path(folder, links[0]), 0)
        found += [Path(folder, name) for name in names]
    if len(found) > MOST_FILES:
        raise Refused(
            f"{shown(path)} has {len(found)} files; expected at most {MOST_FILES}: write fewer, or one archive"
        )
    return sorted(found)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """Return what a value is, as messages say it."""
    kinds = {"NoneType": "nothing", "str": "a text", "bool": "true or false", "list": "a list", "date": "a date"}
    return kinds.get(type(value).__name__, f"a {type(value).__name__}")


def read_table(path: Path) -> Table:
    """Return the table in the first list of objects of a JSON, YAML or TOML file or, by any other suffix, a CSV file.

    Raise Refused if there is none, or one that is too large.
    """
    suffix = path.suffix.lower()
    table = _objects(path) if suffix in OBJECTS else _separated(path, "\t" if suffix == ".tsv" else ",")
    if len(table.rows) > TABLE_ROWS or len(table.columns) > TABLE_COLUMNS:
        raise Refused(
            f"{shown(path)} has more than {TABLE_ROWS} rows or {TABLE_COLUMNS} columns; expected no more: let its "
            "stage write fewer"
        )
    return table


def read_head(path: Path, most: int) -> Table:
    """Return the table in the first `most` bytes of a CSV file, without a row that is cut off. Raise Refused."""
    check_regular(path, sys.maxsize)
    data = _first_bytes(path, most)
    text = data.rpartition(b"\n")[0].decode("utf-8-sig", errors="replace")
    return _parsed(path, text, "\t" if path.suffix.lower() == ".tsv" else ",")


def _separated(path: Path, delimiter: str) -> Table:
    return _parsed(path, read_text(path, TABLE_BYTES), delimiter)


def _parsed(path: Path, text: str, delimiter: str) -> Table:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[list[str]] = []
    try:
        for row in lines:
            if row:
                rows.append(row)
            if len(rows) > TABLE_ROWS + 1:
                break
    except csv.Error as error:
        raise Refused(f"{shown(path)}, line {lines.line_num}: {error}; expected a table with a header") from None
    if not rows:
        raise Refused(f"{shown(path)} is empty; expected a table with a header")
    for place, row in enumerate(rows[1:], 1):
        if len(row) != len(rows[0]):
            raise Refused(f"{shown(path)}, row {place}, has {len(row)} cells; expected {len(rows[0])}, as its header")
    return Table(rows[0], rows[1:])


def _objects(path: Path) -> Table:
    found = next(_lists_of_objects(read_value(path), DEPTH, set()), None)
    if found is None:
        raise Refused(f"{shown(path)} has no list of objects; expected one, an object a row")
    found = found[: TABLE_ROWS + 1]
    keys = dict.fromkeys(key for row in found for key in row)
    columns = list(itertools.islice(keys, TABLE_COLUMNS + 1))  # objects with other keys each would fill the memory
    return Table([str(key) for key in columns], [[_cell(row.get(key)) for key in columns] for row in found])


def _lists_of_objects(value: Any, depth: int, seen: set[int]) -> Iterator[Sequence[Mapping[Any, Any]]]:
    if id(value) in seen:  # by the aliases of YAML a few bytes stand for any number of values
        return
    seen.add(id(value))
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        yield value
    elif isinstance(value, Mapping) and depth:
        for inner in value.values():
            yield from _lists_of_objects(inner, depth - 1, seen)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value) if -(2**63) < value < 2**63 else repr(as_float(value))
    return value if isinstance(value, str) else ""


def as_float(value: int | float) -> float:
    """Return the nearest float, which is infinite for a whole number beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
