"""What a command shows fits 80 columns, breaks no word, and is the same as Markdown and as JSON."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from scripts import tables
from scripts.project import UserError
from scripts.tables import Form, Table

REASON = "not better than production: accuracy 0.9 of version 12 is no more than 0.933333 of version 11"
ROWS = [(1, ("Production", "champion"), 0.9333333333, REASON), (12, "Staging", None, "")]
TABLE = Table(("version", "stage", "score", "why"), ROWS, right={0, 2})


def shown(*rows, columns=("a", "b")):
    return tables.text(Table(columns, rows)).splitlines()


def test_a_table_is_as_wide_as_its_words():
    """Cells that fit stand in one line each, numbers at the right with six digits."""
    lines = tables.text(Table(("name", "now"), [("accuracy", 0.912345678), ("rows", 30)], right={1})).splitlines()
    assert lines == ["name           now", "--------  --------", "accuracy  0.912346", "rows            30"]


def test_a_long_cell_is_wrapped_between_words():
    """A text that does not fit goes on below, word by word, in its own column."""
    lines = tables.text(TABLE).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert " ".join(line[lines[0].index("why") :] for line in lines[2:-1]) == REASON
    assert [line.split()[0] for line in lines if line[:7].strip()] == ["version", "-------", "1", "12"]


@pytest.mark.parametrize("long", ["f" * 10_000, "/".join(["folder"] * 200), "\u6f22" * 500, "e\u0301" * 300])
def test_a_word_that_is_too_long_lacks_its_middle(long):
    """A word that fits no line is shown by its begin and end, whatever its letters, in 80 columns."""
    lines = shown((long, "x" * 32), ("short", long))
    assert max(map(cell_len, lines)) <= 80
    assert lines[2].startswith(long[:5]) and "…" in lines[2]


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Z", "C", "M", "Sk"), exclude_characters="-…:"), min_size=1
)
LONG_WORDS = st.builds(str.__mul__, WORDS, st.integers(1, 300))
CELLS = st.lists(WORDS | LONG_WORDS, max_size=30).map(" ".join)
ROWS_OF = st.integers(1, 12).flatmap(lambda columns: st.lists(st.lists(CELLS, min_size=columns, max_size=columns)))


@given(ROWS_OF)
@settings(max_examples=100, deadline=None)
def test_no_word_is_broken(rows):
    """Whatever the names, no line has more than 80 columns, and each word is whole or lacks its middle, as … says."""
    if not rows:
        return
    head = [f"column{at}" for at in range(len(rows[0]))]
    lines = tables.text(Table(head, rows)).splitlines()
    assert max(map(cell_len, lines)) <= 80
    words = {word for row in [head, *rows] for cell in row for word in cell[: tables.LONGEST].split()}
    assert [
        word for line in lines for word in line.split() if not ("…" in word or word.strip("-") in {*words, ""})
    ] == []


def test_a_link_stays_whole():
    """A link without its middle leads nowhere: it stands on a line of its own."""
    link = f"http://127.0.0.1:5000/#/models/{'m' * 80}"
    assert tables.written(Form.TEXT, {}, [f"look at {link}"]).splitlines() == ["look at", link]


def test_no_character_moves_a_cursor():
    """What a registry or a stage said stays on its line."""
    assert "\x1b" not in "".join(shown(("a\x1b[2J\r", "b\n\u202ec")))


def test_without_rows_or_columns():
    """A table without rows has its head, one without a head its rows, one without both nothing."""
    assert shown() == ["a  b", "-  -"]
    assert shown(("run", "r1"), ("commit", "c0"), columns=()) == ["run     r1", "commit  c0"]
    assert shown(columns=()) == []


def test_markdown_has_all_of_it():
    """As Markdown a row is a line, nothing is cut, and no word is markup, a link or a person."""
    rows = [("a|b *c* <img src=x> @ana http://x.y " + "w" * 300, 1)]
    lines = tables.markdown(Table(("name", "now"), rows, right={1})).splitlines()
    assert lines[:2] == ["| name | now |", "| --- | ---: |"]
    assert "w" * 300 in lines[2] and "\\|b \\*c\\* &lt;img" in lines[2] and "@ana" not in lines[2]
    assert "://" not in lines[2] and len(lines) == 3


def test_json_has_values():
    """As JSON it is what was found, numbers as numbers; null is what is no finite number."""
    found = {"a": [1, 0.5, math.nan, True, None], "b": ("x", math.inf)}
    assert json.loads(tables.written(Form.JSON, found, []), parse_constant=pytest.fail) == {
        "a": [1, 0.5, None, True, None],
        "b": ["x", None],
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [({"json": "1", "md": "1"}, "JSON and MD are both 1"), ({"md": "yes"}, "MD is 'yes'; expected 1 for Markdown")],
)
def test_one_form(given, told):
    """Two forms at once, or another word than 1, is one sentence."""
    with pytest.raises(UserError, match=told):
        tables.form(given)
