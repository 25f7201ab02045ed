"""`make log` and `make report` say what runs there were, in 80 columns, or for programs."""

import json
import re

import pytest

from scripts.project import UserError
from scripts.report import facts, history
from scripts.report.verbs import log, report
from tests.report.conftest import NAME

LATER = "2027-01-15_09-00-00"


@pytest.fixture
def runs(project, events):
    """A project with two runs, of which the second one has other parameters and long names."""
    long = "n" * 300 + " \x1b[2J"
    for name, depth, outcome in ((NAME, "2", "well"), (LATER, "3", "failed")):
        folder = history.folder(project) / name
        folder.mkdir(parents=True)
        params = [
            {"name": "fit.depth", "value": depth, "last": None},
            {"name": facts.text(long), "value": depth, "last": None},
        ]
        metric = {
            "file": "m.json",
            "name": "accuracy",
            "value": 0.5 + int(depth) / 10,
            "last": None,
            "production": None,
        }
        known = {"params": params, "metrics": [metric], "lineage": {"commit": "c0ffee" * 6, "changed": [], "files": []}}
        why = {"fit": [f"parameter depth: 1 -> {depth}", long]}
        history.write(folder, facts.run_of(name, events, outcome=outcome, error=long, why=why, **known), "page")
    return project


def narrow(text):
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 80
    assert not re.search("n{40}", text) and re.search("n{10}…n{10}", text)  # the long name lacks its middle
    return text


def test_the_runs(runs, capsys):
    """Each run has its time, outcome, commit, what happened and why; the last one comes first."""
    log.main([], runs)
    said = narrow(capsys.readouterr().out)
    assert [line for line in said.splitlines() if line.startswith("run ")] == [
        f"run {LATER}  (failed, 12 s)", f"run {NAME}  (well, 12 s)"
    ]  # fmt: skip
    assert "make run: 1 up to date, 1 ran, 1 failed" in said and "fit: parameter depth: 1 -> 3" in said
    assert "Commit: c0ffeec0ffee\n" in said


def test_two_runs_side_by_side(runs, capsys):
    """What differs has a line with both values and the change; what does not has none."""
    log.main(["a=2027-01-15_08", "b="], runs)
    rows = [line.split() for line in narrow(capsys.readouterr().out).splitlines()]
    assert rows[0] == [NAME, LATER, "change"]
    assert ["param", "fit.depth", "2", "3"] in rows and ["metric", "accuracy", "0.7", "0.8", "+0.1"] in rows
    assert not any("image" in row for row in rows)
    log.main([f"a={NAME}", f"b={NAME}"], runs)
    assert capsys.readouterr().out == f"{NAME} and {NAME} do not differ\n"


def test_for_programs(runs, capsys):
    """JSON=1 prints JSON: all runs, one, or what differs between two."""
    log.main(["json=1"], runs)
    assert [run["id"] for run in json.loads(capsys.readouterr().out)["runs"]] == [LATER, NAME]
    report.main(["json=1", f"run={NAME}"], runs)
    assert json.loads(capsys.readouterr().out)["id"] == NAME
    log.main(["json=1", f"a={NAME}", "b="], runs)
    assert json.loads(capsys.readouterr().out)["differs"]["param fit.depth"] == ["2", "3"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["json=yes"], "JSON is 'yes'; expected 1"),
        (["b=2027"], "B is given without A; expected two runs"),
        (["a=1999"], "there is no run '1999'"),
    ],
)
def test_what_cannot_be_meant(runs, arguments, says):
    """A mistake is told in a sentence."""
    with pytest.raises(UserError, match=says):
        log.main(arguments, runs)


def test_without_a_run(project, capsys):
    """There is nothing to show, for a program an empty list."""
    with pytest.raises(UserError, match="there is no run here yet"):
        log.main([], project)
    log.main(["json=1"], project)
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_where_the_page_is(runs, events, capsys):
    """`make report` prints the page's address; it makes that of a run that was killed, or goes on."""
    report.main(["run="], runs)
    assert capsys.readouterr().out.strip() == (history.folder(runs) / LATER / history.PAGE).as_uri()
    folder = history.folder(runs) / "2027-01-16_00-00-00"
    folder.mkdir()
    (folder / history.EVENTS).write_text("".join(f"{json.dumps(event)}\n" for event in events[:8]))
    report.main(["run="], runs)
    assert capsys.readouterr().out.strip() == (folder / history.PAGE).as_uri()
    assert "killed" in (folder / history.PAGE).read_text()
    assert history.runs(runs)[-1]["outcome"] == "killed"
