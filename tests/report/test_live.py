"""`make report LIVE=1` shows a run that goes on."""

import fcntl
import json
from types import SimpleNamespace

import pytest

from scripts.project import UserError
from scripts.report import facts, history, live
from tests.report.conftest import NAME


@pytest.fixture
def place(project, events):
    folder = history.folder(project) / NAME
    folder.mkdir(parents=True)
    (folder / history.EVENTS).write_text("".join(f"{json.dumps(event)}\n" for event in events[:8]))
    return folder


@pytest.mark.parametrize("end", ["well", "killed"])
def test_the_page_follows_the_run(project, place, events, monkeypatch, end):
    """It renews itself while the run goes on; in the end it leads to the report, which is there."""
    seen = []

    def then(seconds):
        seen.append((place / live.PAGE).read_text())
        if len(seen) == 2:
            fcntl.flock(lock, fcntl.LOCK_UN)
            if end == "well":
                history.write(place, facts.run_of(NAME, events, outcome="well"), "the report")

    monkeypatch.setattr(live, "time", SimpleNamespace(sleep=then))  # not the one in which other threads sleep
    with (project.local / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert live.folder(project) == place
        assert live.follow(place, project) == end
    assert len(seen) == 2 and all("reload(), 2000)" in text and "running" in text for text in seen)
    assert 'http-equiv="refresh" content="0; url=report.html"' in (place / live.PAGE).read_text()
    assert ("the report" if end == "well" else "killed") in (place / history.PAGE).read_text()


def test_without_a_run(project, place):
    """If no run goes on, that is said, with what to do."""
    with pytest.raises(UserError, match="no run goes on here; expected one"):
        live.folder(project)
