"""A clone keeps its runs, also those that did not end well, and finds one by its time."""

import fcntl
import json

import pytest

from scripts.project import UserError
from scripts.report import facts, history
from tests.report.conftest import NAME

OTHERS = ["2027-01-15_08-00-07", "2027-02-01_00-00-00"]


@pytest.fixture
def keep(project, events):
    """Return a function that keeps a run of this name."""

    def keep(name, text=None):
        folder = history.folder(project) / name
        folder.mkdir(parents=True)
        run = facts.run_of(name, events, outcome="well")
        if text is None:
            history.write(folder, run, "page")
        else:
            (folder / history.RUN).write_text(text)
        return folder

    return keep


def note(folder, events):
    folder.mkdir(parents=True)
    (folder / history.EVENTS).write_text("".join(f"{json.dumps(event)}\n" for event in events))


def test_runs_in_their_order(project, keep):
    """The last one is the last; what is no run is left out."""
    for name in [*OTHERS[::-1], f"{NAME}-2", f"{NAME}-10", NAME]:
        keep(name)
    (history.folder(project) / "mine").mkdir()
    (history.folder(project) / "2027-01-16_00-00-00").mkdir()
    assert [run["id"] for run in history.runs(project)] == [NAME, f"{NAME}-2", f"{NAME}-10", *OTHERS]


def test_a_run_is_found_by_its_time(project, keep):
    """The beginning of its time is enough if no other run has it; without one it is the last run."""
    with pytest.raises(UserError, match="there is no run here yet; expected one that did something: 'make run' first"):
        history.named(project, "")
    for name in (NAME, f"{NAME}-2", *OTHERS):
        keep(name)
    assert [history.named(project, name)["id"] for name in ("", "2027-02", NAME)] == [OTHERS[1], OTHERS[1], NAME]
    with pytest.raises(UserError, match="3 runs began at '2027-01'; expected one"):
        history.named(project, "2027-01")
    for name in ("2026", "../..", "x\x1b"):
        with pytest.raises(
            UserError, match=r"there is no run .*; expected a time of 'make log', like 2027-02-01_00-00-00"
        ):
            history.named(project, name)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 0}', '{"schema": 2}', "\udcff"])
def test_a_file_that_is_none(project, keep, text):
    """A run.json that is cut off, or of another schema, is left out, and costs no other run."""
    keep(NAME).joinpath(history.RUN).write_bytes(text.encode(errors="surrogateescape"))
    keep(OTHERS[0])
    assert [run["id"] for run in history.runs(project)] == OTHERS[:1]


def test_a_run_that_was_killed_or_goes_on(project, events):
    """Without run.json the last run goes on if a command holds the clone's lock; else, and before it, it was killed."""
    for name in (NAME, OTHERS[0]):
        note(history.folder(project) / name, events[:8])
    with (project.local / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [run["outcome"] for run in history.runs(project)] == ["killed", "running"]
    assert [run["outcome"] for run in history.runs(project)] == ["killed", "killed"]


def test_two_runs_in_one_second(project):
    """Each has a folder of its own."""
    assert len({history.begin(project) for _ in range(3)}) == 3


def test_old_runs_are_deleted(project, keep, monkeypatch):
    """Of more than MOST_RUNS the oldest ones go when a new one begins."""
    monkeypatch.setattr(history, "MOST_RUNS", 2)
    for name in (NAME, *OTHERS):
        keep(name)
    folder = history.begin(project)
    assert not (history.folder(project) / NAME).exists() and folder.is_dir()
    assert len(list(history.folder(project).iterdir())) == 2
