"""What a sweep looks like: its page, its lines in a terminal, its list."""

import re
from html.parser import HTMLParser

import pytest

from scripts.project import UserError
from scripts.sweeps import page, study, table
from scripts.sweeps.verbs import sweeps
from tests.sweeps.test_study import a_study, outcome


@pytest.fixture
def found():
    """Return a sweep of four trials: two with a score, one that failed, one equal to another."""
    found = a_study()
    values = [{"fit.depth": depth, "fit.rate": 1e-3, "split.share": 0.2} for depth in (2, None, 4, 2)]
    for trial, score in zip(found.add(values), (0.75, 0.875, None), strict=True):
        found.end(trial, outcome(score, "" if score else "it <b>broke</b>"))
    found.importance = {"fit.depth": 0.9, "fit.rate": 0.1}
    return found


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_shows_the_trials_and_asks_nobody(found):
    """It has a line for each trial that was run, the best so far, what mattered and a table; it holds no script, no
    address, and what a stage said as text."""
    html = page.page(found)
    tags = Tags()
    tags.feed(html)
    assert tags.open == [] and {"script", "link", "img", "iframe"}.isdisjoint(tag for tag, _ in tags.found)
    assert "://" not in html and "<b>" not in html and "it &lt;b&gt;broke" in html
    assert (html.count('class="trial '), html.count("<circle")) == (2, 3)  # an equal trial has a score, and no line
    assert re.search(r"Best: trial 2, cv_accuracy 0.875", html) and "as trial 1" in html and "90 %" in html
    assert len(html) < 30_000


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_lines_lie_where_their_values_are(found, goal):
    """A list's values lie evenly, a range's by their size (with log by their magnitude); the better, the greener."""
    found.goal = goal
    first, *_, last = page.lines(found, [trial for trial in found.trials if trial.score is not None])
    assert (last.trial is found.best) and last.colour == page.COLOURS - 1 and first.colour == 0
    heights = [float(point.split()[1]) for point in last.path[1:].split("L")]
    by_depth = {2: 250.0, 4: 150.0, None: 50.0}
    assert heights[:3] == [by_depth[last.trial.values["fit.depth"]], 150.0, 200.0]
    assert heights[3] == (0 if goal == "maximize" else 300)


def test_a_sweep_without_a_score_has_a_page(found):
    """Where nothing is known yet, the page says so."""
    empty = a_study()
    assert "No trial has a score." in page.page(empty)
    for trial in empty.add([{"fit.depth": 2, "fit.rate": 1e-3, "split.share": 0.2}]):
        empty.end(trial, outcome(None, "bad"))
    assert "1 failed" in page.page(empty)


def test_a_trial_that_ended_is_a_line(found):
    """The line has what was tried and what came of it."""
    lines = [table.ended(found, trial) for trial in found.trials[:3]]
    assert lines[0] == "trial  1  fit.depth 2  fit.rate 0.001  split.share 0.2  cv_accuracy 0.75 (1.0 s)"
    assert lines[1].endswith("fit.depth null  fit.rate 0.001  split.share 0.2  cv_accuracy 0.875 (1.0 s)  best so far")
    assert lines[2].endswith("failed: it <b>broke</b>")
    assert table.so_far(found) == "3 of 24 trials done, 1 failed; best: trial 2, cv_accuracy 0.875"
    assert table.so_far(a_study()) == "0 of 24 trials done; none is scored"


def test_sweeps_are_listed(found, project):
    """A line for each sweep, the last one first; without any, a sentence."""
    with pytest.raises(UserError, match="there is no sweep here yet"):
        list(sweeps.lines(project))
    study.save(found, project)
    other = a_study("minimize")
    other.id, other.began, other.ended = "1" * 8, "2999-01-01T00:00:00", "2999-01-01T00:00:09"
    study.save(other, project)
    lines, what_next = sweeps.lines(project)
    *_, first, second = lines.splitlines()
    assert first.split()[:3] == ["11111111", "2999-01-01", "00:00"] and first.endswith("ended")
    assert re.search(r"^00000000 .* sweep.yaml +3 of 24 +1 +2 +0.875 +open$", second)
    assert what_next == "\n'make sweep' goes on with what is open"
