"""Writes what a command shows: as tables of 80 columns, as Markdown to paste, or as JSON for programs."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from rich.cells import cell_len
from tabulate import tabulate

from scripts.markdown import escaped
from scripts.pipeline.console import printable
from scripts.project import UserError
from scripts.validation import is_asked

WIDTH = 80  # columns of a terminal
LEAST = 8  # to which a column may shrink
LONGEST = 1000  # characters of a cell
GAP = "  "

type Cell = str | float | Sequence[str] | None
"""A text, a number, nothing, or texts with a line for each."""


class Form(Enum):
    TEXT, MARKDOWN, JSON = range(3)


class Table(NamedTuple):
    """Rows below the names of their columns; without these each row is a name and what there is to say of it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    right: Collection[int] = ()  # the columns of numbers


type Part = Table | str
"""What a command shows of one thing: a table, or lines."""


def form(given: Mapping[str, str]) -> Form:
    """Return what `JSON=1` or `MD=1` asks for. Raise UserError if it is both, or another value."""
    as_json, as_markdown = is_asked(given, "JSON", "JSON"), is_asked(given, "MD", "Markdown")
    if as_json and as_markdown:
        raise UserError("JSON and MD are both 1; expected one of them: leave the other one out")
    return Form.JSON if as_json else Form.MARKDOWN if as_markdown else Form.TEXT


def written(wanted: Form, data: Any, parts: Sequence[Part]) -> str:
    """Return `data` as JSON, or its `parts` as text or Markdown, whatever is wanted."""
    if wanted is Form.JSON:
        return json.dumps(_plain(data), indent=2, allow_nan=False)
    write = text if wanted is Form.TEXT else markdown
    return "\n\n".join(write(part) if isinstance(part, Table) else _lines(part, wanted) for part in parts if part)


def _lines(part: str, wanted: Form) -> str:
    lines = part.split("\n")
    if wanted is Form.MARKDOWN:
        return "  \n".join(map(escaped, lines))
    return "\n".join(found for line in lines for found in wrapped(printable(line), WIDTH))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: null for what is no finite number."""
    if isinstance(value, Mapping):
        return {str(name): _plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def number(value: float) -> str:
    """Return a number as people read it: six digits of it."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _texts(cell: Cell) -> list[str]:
    """Return the lines of a cell, without what could move a terminal's cursor."""
    if cell is None:
        return [""]
    each = [number(cell)] if isinstance(cell, int | float) else [cell] if isinstance(cell, str) else cell
    return [printable(line[:LONGEST]) for line in each] or [""]


# --- text


def text(table: Table, width: int = WIDTH) -> str:
    """Return the table in `width` columns: cells are wrapped between words; a longer word lacks its middle."""
    rows = [[_texts(cell) for cell in row] for row in table.rows]
    head = [[printable(name)] for name in table.columns]
    widths = _widths([head, *rows], width)
    names, *cells = [["\n".join(_fitted(*each)) for each in zip(row, widths, strict=False)] for row in [head, *rows]]
    below = ["-" * width for width in widths]
    shown = [names, below, *cells] if names else cells
    sides = ["right" if column in table.right else "left" for column in range(len(widths))] if shown else None
    made = tabulate(shown, tablefmt="plain", disable_numparse=True, colalign=sides)
    return "\n".join(line.rstrip() for line in made.splitlines())


def _widths(rows: Sequence[Sequence[Sequence[str]]], width: int) -> list[int]:
    """Return the width of each column: the widest ones give way until the table fits."""
    columns = range(max(map(len, rows)))
    lines = [[line for row in rows for cell in row[column : column + 1] for line in cell] for column in columns]
    widths = [min(width, max(map(cell_len, found), default=0)) for found in lines]
    room = width - len(GAP) * (len(columns) - 1)
    while sum(widths) > room and max(widths) > min(LEAST, room // len(columns)):
        widths = [min(each, max(widths) - 1) for each in widths]
    return [max(found, 1) for found in widths]


def _fitted(cell: Sequence[str], width: int) -> list[str]:
    return [part for line in cell for part in wrapped(line, width)]


def wrapped(line: str, width: int = WIDTH) -> list[str]:
    """Return a text in lines of at most `width` columns, broken between words; a longer word lacks its middle."""
    if cell_len(line) <= width:
        return [line]
    lines = [""]
    for word in line.split():
        word = _short(word, width)
        longer = f"{lines[-1]} {word}".lstrip()
        lines = [*lines[:-1], longer] if cell_len(longer) <= width else [*lines, word]
    return [line for line in lines if line] or [""]


def _short(word: str, width: int) -> str:
    """Return a word without its middle if it is too long. A link stays whole: it would be none."""
    if cell_len(word) <= width or "://" in word:
        return word
    for kept in range(min(len(word), width), 1, -1):
        found = f"{word[: kept // 2]}…{word[len(word) - kept + kept // 2 + 1 :]}"
        if cell_len(found) <= width:
            return found
    return "…"


# --- Markdown


def markdown(table: Table) -> str:
    """Return the table as GitHub's Markdown has it; its words are nobody's markup."""
    columns = table.columns or [""] * max(map(len, table.rows), default=0)
    sides = ["---:" if column in table.right else "---" for column in range(len(columns))]
    rows = [[escaped("; ".join(_texts(cell)), LONGEST) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[escaped(name, LONGEST) for name in columns], sides, *rows])
