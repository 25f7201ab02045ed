"""What can be said of a data set without its rows: columns, types, how many rows there are, what is usual in each."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from scripts.pipeline.console import printable
from scripts.project import UserError
from scripts.registry.stage_files import OBJECTS, TABLES, Table, numbers, read_head, read_table, read_value

WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)
LONGEST = 200  # characters of a column's name or of a text
MOST_BYTES = 1_000_000  # that are looked at: a second's work
LONGEST_SCHEMA = 60_000  # characters that MLflow 2.7's database takes
MOST_CLASSES = 50
BUCKETS = ("s3", "gs", "http", "https")
"""Remotes that MLflow reads from: a file of DVC's is there by its hash."""
LONG, DOUBLE, TEXT, BOOLEAN = "long", "double", "string", "boolean"
"""MLflow's types."""


class Seen(NamedTuple):
    """What a table is like, by column: MLflow's type; the middle number or the commonest text; and, of a column of few
    values, how often each is there. `rows` is None, and nothing is counted, where only the first ones were read."""

    rows: int | None
    types: Mapping[str, str]
    usual: Mapping[str, Any]
    classes: Mapping[str, Mapping[str, int]]


class Dataset(NamedTuple):
    """A file that the model was trained or tested with; `context` is `training` or `testing`.

    `source` is MLflow's kind of source, and the address, by which `mlflow.data.get_source` opens it.
    """

    name: str
    path: str
    digest: str  # MD5, as in dvc.lock
    context: str
    seen: Seen | None = None
    source: tuple[str, str] | None = None

    @property
    def schema(self) -> str | None:
        """The columns as MLflow has them in JSON; None if they are not known, or too many."""
        types = self.seen.types if self.seen else {}
        columns = [{"type": kind, "name": name, "required": True} for name, kind in types.items()]
        text = json.dumps({"mlflow_colspec": columns})
        return text if types and len(text) <= LONGEST_SCHEMA else None


def look(path: Path) -> Seen | None:
    """Return what there is to say of a table; of a large one, of its first rows; None of any other file."""
    try:
        suffix, size = path.suffix.lower(), path.stat().st_size if path.is_file() else 0
        if suffix not in TABLES or not size or (size > MOST_BYTES and suffix in OBJECTS):
            return None
        return seen(read_table(path)) if size <= MOST_BYTES else seen(read_head(path, MOST_BYTES), is_whole=False)
    except UserError:  # its own stage wrote it, and the next one reads it: no concern of a description
        return None


def seen(table: Table, *, is_whole: bool = True) -> Seen:
    types, usual, classes = {}, {}, {}
    for column in dict.fromkeys(table.columns):
        name, cells = printable(column)[:LONGEST], table.column(column)
        types[name] = _type(cells)
        usual[name] = _usual([cell for cell in cells if cell], types[name])
        counts = Counter(printable(cell)[:LONGEST] for cell in cells if cell)
        if is_whole and len(counts) <= MOST_CLASSES:
            classes[name] = dict(sorted(counts.items()))
    return Seen(len(table.rows) if is_whole else None, types, usual, classes)


def _type(cells: Sequence[str]) -> str:
    if cells and all(WHOLE.fullmatch(cell) for cell in cells):
        return LONG
    if any(cells) and numbers(cells) is not None:
        return DOUBLE
    return BOOLEAN if any(cells) and {cell.lower() for cell in cells} <= {"true", "false"} else TEXT


def _usual(cells: Sequence[str], kind: str) -> Any:
    """Return the middle one of numbers, or the commonest text; None of an empty column."""
    if not cells:
        return None
    if kind in (LONG, DOUBLE):
        found = [value for value in map(int if kind == LONG else float, cells) if math.isfinite(value)]
        return sorted(found)[len(found) // 2] if found else None
    commonest = Counter(cells).most_common(1)[0][0]
    return commonest.lower() == "true" if kind == BOOLEAN else printable(commonest)[:LONGEST]


def signature(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Return the columns of `inputs` and `outputs` in a file with MLflow's signature; [] of a side that is no table."""
    try:
        given = read_value(path)
        sides = {side: json.loads(given.get(side) or "[]") for side in ("inputs", "outputs")}
    except (UserError, ValueError, AttributeError, TypeError, RecursionError):  # to upload it will say so
        return {"inputs": [], "outputs": []}
    return {side: _columns(found) for side, found in sides.items()}


def _columns(found: Any) -> list[Mapping[str, Any]]:
    columns = found if isinstance(found, list) and all(isinstance(each, Mapping) for each in found) else []
    plain = all(isinstance(each.get("type"), str) and isinstance(each.get("name", ""), str) for each in columns)
    return columns if plain and not any(each["type"] == "tensor" for each in columns) else []


def example(columns: Sequence[Mapping[str, Any]], data: Iterable[Seen]) -> dict[str, Any] | None:
    """Return a row for a model that takes these columns, from the first data set that has all; None if none has.

    It is made of what is usual in each column, so that no row of the data leaves the clone.
    """
    kinds = {column.get("name"): column["type"] for column in columns}
    for each in data if kinds and None not in kinds else ():
        if all(each.usual.get(name) is not None for name in kinds):
            return {name: _as(each.usual[name], kind) for name, kind in kinds.items()}
    return None


def _as(value: Any, kind: str) -> Any:
    """Return a value in the type of a signature, as JSON has it."""
    if kind in ("double", "float") and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return str(value) if kind == "string" else value


def address(remote: str, digest: str) -> tuple[str, str] | None:
    """Return MLflow's kind of source, and the address, of a file that a DVC remote has by its MD5; None where MLflow
    could not read it: a folder's list, or a remote of another kind. No user or password stays in it."""
    parts = urlsplit(remote)
    if parts.scheme not in BUCKETS or not re.fullmatch(r"[0-9a-f]{32}", digest):
        return None
    host = parts.netloc.rpartition("@")[2]
    place = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/files/md5/{digest[:2]}/{digest[2:]}"
    return ("http" if parts.scheme.startswith("http") else parts.scheme), place
