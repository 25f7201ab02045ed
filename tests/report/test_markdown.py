"""A run as Markdown says what matters first, and holds strangers' words as text."""

import re

import pytest

from scripts.report import facts
from scripts.report.markdown import markdown
from tests.report.conftest import NAME

MODEL = {"model": "iris", "version": "2", "stage": "Staging", "now": "Staging", "reason": "not better", "news": True}
MODEL |= {"metric": "accuracy", "score": 0.7, "evidence": {}, "run": None, "page": None}


def run_of(events, outcome="well", **known):
    return facts.run_of(NAME, events, outcome=outcome, **known)


@pytest.mark.parametrize(
    ("outcome", "known", "first"),
    [
        ("well", {"models": [MODEL]}, "**iris version 2: Staging**: not better"),
        ("well", {"models": [MODEL | {"stage": "Production"}]}, "**iris version 2: Production**: not better"),
        ("failed", {"error": "fit: it is wrong", "models": [MODEL]}, "**failed**: fit: it is wrong"),
        ("interrupted", {}, "**interrupted**"),
        ("well", {}, "**well**: no model was published"),
    ],
)
def test_the_first_line(events, outcome, known, first):
    """It says that a run failed and why, or else what became of its model."""
    assert markdown(run_of(events, outcome, **known)).splitlines()[0] == first


def test_what_changed(events):
    """Stages that did something, parameters that differ, and metrics with their change have a row each; others none."""
    params = [{"name": "fit.depth", "value": "3", "last": "2"}, {"name": "fit.seed", "value": "1", "last": "1"}]
    metric = {"file": "m.json", "name": "f1", "value": 0.7, "last": 0.75, "production": 0.8}
    found = markdown(run_of(events, params=params, metrics=[metric], why={"fit": ["input a: 1 -> 2"]}))
    rows = [line for line in found.splitlines() if line.startswith("| ")]
    assert r"| fit | ran | input a: 1 \-&gt; 2 |" in rows and r"| fit\.depth | 2 | 3 |" in rows
    assert r"| f1 | 0\.7 | 0\.75 | \-0\.05 | 0\.8 | \-0\.1 |" in rows
    assert not [row for row in rows if "seed" in row or row.startswith("| get ")]


@pytest.mark.parametrize(
    "text",
    ["a | b", "<img src=x>", "[a](https://x.test)", "@all", "`x` **y**", "![a](b)", "https://x.test", "n" * 9999],
)
def test_a_strangers_words(events, text):
    """In each place they are text: no column, no markup, no link, no mention; and no length is too much."""
    shown = facts.text(text)
    metric = {"file": shown, "name": shown, "value": "nan", "last": None, "production": None}
    model = MODEL | dict.fromkeys(("model", "version", "stage", "reason"), shown)
    params = [{"name": shown, "value": shown, "last": "x"}] * 1000
    found = markdown(run_of(events, models=[model], params=params, metrics=[metric] * 1000, why={"fit": [shown] * 50}))
    assert len(found) < 65_000 and "| nan |" in found
    bare = re.sub(r"\\.", "", found)
    assert not re.search(r"<|`|\[|!\[|@\w|://", bare)
    for table in re.findall(r"(?:^\|.*\n?)+", bare, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
