"""Makes tables of features from what strangers send: CSV, and MLflow's forms of JSON. Bad cells get a sentence."""

import csv
import io
import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .signature import LARGEST, Column

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
NUMBERS, WHOLE = ("double", "float"), ("long", "integer")
DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
LONGEST = 60  # characters of a value that are shown


class BadRows(ValueError):
    """Rows that the model cannot read. The text is one sentence: what was found, and what is expected."""


def shown(value: Any) -> str:
    """Return how a message names a value."""
    text = "null" if value is None else json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def from_json(body: bytes, known: Sequence[Column] | None) -> pd.DataFrame:
    """Return the features in a body of JSON, in the order of `known`. Raise BadRows."""
    try:
        sent = json.loads(body, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise BadRows("the body is no UTF-8; expected JSON in UTF-8") from None
    except RecursionError:
        raise BadRows("the body's JSON is too deep; expected rows of plain values") from None
    except ValueError as error:
        raise BadRows(f"the body is no JSON ({_plain(error)}); expected JSON like the example at /docs") from None
    if not isinstance(sent, dict):
        raise BadRows(f"the body is {_kind(sent)}; expected an object with one of {', '.join(FORMS)}")
    forms = [form for form in FORMS if form in sent]
    unknown = [name for name in sent if name not in (*FORMS, "params")]
    if len(forms) != 1 or unknown:
        found = ", ".join(sorted(map(shown, sent))[:5]) or "nothing"
        raise BadRows(f"the body has {found}; expected exactly one of {', '.join(FORMS)}")
    if sent.get("params"):
        raise BadRows("the body has params; expected none, since this model takes none")
    (form,) = forms
    read = {"dataframe_split": _split, "dataframe_records": _records, "inputs": _inputs, "instances": _inputs}[form]
    return _table(read(form, sent[form], known), known)


def from_csv(body: bytes, known: Sequence[Column] | None, first_row: int = 1) -> pd.DataFrame:
    """Return the features in a CSV text with a header, as `pandas.read_csv` reads numbers. Raise BadRows.

    `first_row` is the number of its first row, for messages.
    """
    texts = {column.name: str for column in known or () if column.type == "string"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row that is longer than the header
            frame = pd.read_csv(io.BytesIO(body), dtype=texts, keep_default_na=False, index_col=False, low_memory=False)
    except UnicodeDecodeError:
        raise BadRows("the table is no UTF-8; expected CSV in UTF-8") from None
    except pd.errors.EmptyDataError:
        raise BadRows("the table is empty; expected a header and rows") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError, OverflowError) as error:
        raise BadRows(_ragged(body, first_row) or f"the table is no CSV ({_plain(error)}); expected one") from None
    return from_frame(frame, known, first_row)


def from_frame(frame: pd.DataFrame, known: Sequence[Column] | None, first_row: int = 1) -> pd.DataFrame:
    """Return the features in a table that pandas read, in the order of `known`. Raise BadRows."""
    if known is None:
        return frame
    _check_names([*map(str, frame)], known)
    there = [column for column in known if column.name in frame]
    return pd.DataFrame({column.name: _from_text(frame[column.name], column, first_row) for column in there})


def _ragged(body: bytes, first_row: int) -> str:
    """Return a sentence about the first row that has more cells than the header; empty if there is none."""
    rows = csv.reader(io.StringIO(body.decode(errors="replace")))
    try:
        header = next(rows, [])
        for number, row in enumerate(filter(None, rows), first_row):
            if len(row) > len(header):
                return f"row {number} has {len(row)} cells; expected {len(header)}, as the header has"
    except csv.Error:
        pass
    return ""


def _from_text(cells: pd.Series, column: Column, first_row: int) -> pd.Series:
    """Return a column that pandas has read from a text, if each cell is of its type."""
    wanted = DTYPES.get(column.type)
    if (column.type == "boolean" and cells.dtype == bool) or wanted is None:
        return cells
    if column.type in NUMBERS + WHOLE and cells.dtype.kind in "fiu":
        numbers = cells.to_numpy()
        bad = ~np.isfinite(numbers) if column.required else np.isinf(numbers)
        if column.type in WHOLE:
            bad |= (numbers != np.floor(numbers)) | (np.abs(numbers.astype(float)) > LARGEST[column.type])
        if not bad.any():
            return cells.astype(wanted)
        at = int(bad.argmax())
        raise _bad_cell(at + first_row, column, cells.iloc[at].item())
    parsed = [_parsed(cell, column) for cell in cells]
    for at, value in enumerate(parsed):
        if value is None and (column.required or cells.iloc[at] != ""):
            raise _bad_cell(at + first_row, column, _item(cells.iloc[at]))
    return pd.Series(parsed, index=cells.index, dtype="float64" if column.type in NUMBERS else "object")


def _item(cell: Any) -> Any:
    return cell.item() if hasattr(cell, "item") else "" if isinstance(cell, float) and math.isnan(cell) else cell


def _parsed(cell: Any, column: Column) -> Any:
    """Return the value of a cell that pandas did not read as the column's type; None if it has none."""
    text = str(cell).strip()
    if column.type == "boolean":
        return {"true": True, "false": False}.get(text.lower())
    try:
        number = float(text) if column.type in NUMBERS else int(text)
    except ValueError:
        return None
    plain = "_" not in text and math.isfinite(number) and abs(number) <= LARGEST.get(column.type, math.inf)
    return number if plain else None


# --- JSON


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _plain(error: Exception) -> str:
    """Return the first words of a parser's message."""
    return " ".join(str(error).split())[:120].rstrip(".")


def _split(form: str, value: Any, known: Sequence[Column] | None) -> dict[str, list[Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise BadRows(f"{form} is {_kind(value)}; expected an object with a list columns and a list data")
    names = value.get("columns")
    if names is None and known is not None:
        names = [column.name for column in known]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRows(f"{form}.columns is {_kind(names)}; expected a list of names")
    if len(set(names)) < len(names):
        raise BadRows(f"{form}.columns names a column twice; expected each once")
    return _by_column(names, value["data"])


def _by_column(names: Sequence[str], rows: list[Any]) -> dict[str, list[Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} values" if isinstance(row, list) else _kind(row)
            raise BadRows(f"row {number} is {found}; expected a list of {len(names)}, a value for each column")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _records(form: str, value: Any, known: Sequence[Column] | None) -> dict[str, list[Any]]:
    if not isinstance(value, list):
        raise BadRows(f"{form} is {_kind(value)}; expected a list of objects, one for each row")
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise BadRows(f"row {number} is {_kind(row)}; expected an object with a value for each column")
    if known is None:
        return {name: [row.get(name) for row in value] for name in dict.fromkeys(name for row in value for name in row)}
    for number, row in enumerate(value, 1):
        for column in known:
            if column.required and column.name not in row:
                raise BadRows(f"row {number} has no column {shown(column.name)}; expected {column.expected} there")
    return {column.name: [row.get(column.name) for row in value] for column in known}


def _inputs(form: str, value: Any, known: Sequence[Column] | None) -> dict[str, list[Any]]:
    if isinstance(value, dict):
        lists = {name: cells if isinstance(cells, list) else [cells] for name, cells in value.items()}
        if len({len(cells) for cells in lists.values()}) > 1:
            raise BadRows(f"the columns of {form} differ in length; expected a value for each row in each")
        return lists
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _records(form, value, known)
    if isinstance(value, list) and known is not None:
        return _by_column([column.name for column in known], value)
    raise BadRows(f"{form} is {_kind(value)}; expected a list of rows, or an object with a list for each column")


def _table(cells: dict[str, list[Any]], known: Sequence[Column] | None) -> pd.DataFrame:
    rows = max(map(len, cells.values()), default=0)
    if not rows:
        raise BadRows("there are no rows; expected at least one")
    if known is None:
        return pd.DataFrame(cells)
    _check_names([*cells], known)
    return pd.DataFrame({c.name: _column(cells.get(c.name, [None] * rows), c) for c in known})


def _check_names(names: Sequence[str], known: Sequence[Column]) -> None:
    if lacking := [column for column in known if column.required and column.name not in names]:
        found = ", ".join(map(shown, names[:20])) or "none"
        raise BadRows(
            f"the column {shown(lacking[0].name)} is missing; expected {lacking[0].expected} there (found the columns "
            f"{found[:300]})"
        )


def _column(values: list[Any], column: Column) -> Any:
    """Return the values of a column as an array of its type. Raise BadRows for the first that is of another one."""
    kinds = {type(value) for value in values}
    if column.type in NUMBERS and kinds <= {int, float}:
        try:
            numbers = np.array(values, dtype=DTYPES[column.type])
            if np.isfinite(numbers).all():
                return numbers
        except OverflowError:
            pass
    for number, value in enumerate(values, 1):
        if not _fits(value, column):
            raise _bad_cell(number, column, value)
    if None in values:
        return pd.Series([math.nan if v is None and column.type in NUMBERS else v for v in values])
    return np.array(values, dtype=DTYPES.get(column.type, object))


def _fits(value: Any, column: Column) -> bool:
    if value is None:
        return not column.required
    if column.type == "string":
        return isinstance(value, str)
    if column.type == "boolean":
        return isinstance(value, bool)
    if column.type in NUMBERS + WHOLE:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if column.type in WHOLE:
            return float(value).is_integer() and abs(value) <= LARGEST[column.type] if _finite(value) else False
        return _finite(value, np.finfo(DTYPES[column.type]).max)
    return True


def _finite(value: float, largest: float = np.finfo("float64").max) -> bool:
    try:
        return math.isfinite(value) and abs(float(value)) <= largest
    except OverflowError:
        return False


def _bad_cell(row: int, column: Column, value: Any) -> BadRows:
    return BadRows(f"row {row}, column {shown(column.name)}: {shown(value)}; expected {column.expected}")
