"""What is kept of a sweep, and what it is called."""

import errno
import os

import pytest

from scripts.project import UserError
from scripts.sweeps import spec, study
from scripts.sweeps.study import Outcome
from tests.sweeps.test_spec import GOOD

TARGET = spec.Target("models/cv.json", "fit")


def a_study(goal="maximize", **changed):
    return study.new(spec.parse(GOOD.replace("maximize", goal)), TARGET, "sweep.yaml", "0" * 8, {"fit.depth": 3})


def outcome(score, sentence=""):
    return Outcome(score, {} if score is None else {"cv_accuracy": score}, 1.0, ["fit"], sentence)


def test_a_sweep_is_called_by_what_it_is():
    """Another file, pipeline, parameter or input is another sweep; a value of what is tried, as `make keep` writes it,
    is not."""
    sweep, values, given = spec.parse(GOOD), {"fit.depth": 3, "split.seed": 1}, {"data/x.csv": "abc"}
    name = study.identity(sweep, TARGET, "text", values, given)
    assert study.ID.fullmatch(name)
    assert study.identity(sweep, TARGET, "text", values | {"fit.depth": 4}, given) == name
    others = [
        study.identity(spec.parse(GOOD.replace("seed: 7", "seed: 8")), TARGET, "text", values, given),
        study.identity(sweep, TARGET._replace(file="x"), "text", values, given),
        study.identity(sweep, TARGET, "text 2", values, given),
        study.identity(sweep, TARGET, "text", values | {"split.seed": 2}, given),
        study.identity(sweep, TARGET, "text", values, {"data/x.csv": "abd"}),
    ]
    assert len({name, *others}) == 6


def test_equal_trials_are_run_once():
    """Of trials with the same values the first one is run, and what comes of it counts for all."""
    found = a_study()
    first = found.add([{"fit.depth": 2}, {"fit.depth": 4}, {"fit.depth": 2}])
    assert [trial.number for trial in first] == [1, 2]
    found.end(first[0], outcome(0.9))
    assert [trial.state for trial in found.trials] == ["done", "running", "same"]
    assert found.add([{"fit.depth": 2}, {"fit.depth": 2.0}]) == [found.trials[4]]  # what DVC takes for another value


@pytest.mark.parametrize(("goal", "best"), [("maximize", 2), ("minimize", 1)])
def test_the_best_is_the_first_of_equals(goal, best):
    """The best score wins, of several equal ones that of the first trial; one without a score never does."""
    found = a_study(goal)
    trials = found.add([{"fit.depth": depth} for depth in (1, 2, 3, 4)])
    assert found.best is None
    for trial, score in zip(trials, (0.5, 0.9, 0.9, None), strict=True):
        found.end(trial, outcome(score, "" if score else "it broke"))
    assert found.best.number == best
    assert (found.counted(study.DONE), found.counted(study.FAILED)) == (3, 1)


def test_what_was_written_is_read(project):
    """A sweep that is read again is the same; what is none, or of another version, is no sweep."""
    found = a_study()
    trials = found.add([{"fit.depth": None, "fit.rate": 1e-5}, {"fit.depth": 2, "fit.rate": 0.1}])
    found.end(trials[0], outcome(0.75))
    study.save(found, project)
    again = study.load(study.folder(project, found.id))
    assert again.trials == found.trials and again.outcomes == found.outcomes and again.best.number == 1
    (study.folder(project, found.id) / study.STATE).write_text("{")
    assert study.load(study.folder(project, found.id)) is None
    assert study.load(project.root / "nowhere") is None


def test_sweeps_are_found_by_their_name(project):
    """Without a name it is the last one; an unknown name is answered with those that there are."""
    with pytest.raises(UserError, match="there is no sweep here yet"):
        study.named(project)
    for name, began in (("b" * 8, "2026-01-01"), ("a" * 8, "2026-01-02")):
        found = a_study()
        found.id, found.began = name, began
        study.save(found, project)
    assert study.named(project).id == "a" * 8 and study.named(project, "b" * 8).id == "b" * 8
    with pytest.raises(UserError, match="there is no sweep 'c'; expected one of bbbbbbbb, aaaaaaaa"):
        study.named(project, "c")


def test_a_full_disk_is_one_sentence(project, monkeypatch):
    """Where the state cannot be written, a sentence says what to do."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(study, "atomic_write", full)
    with pytest.raises(UserError, match=r"sweep.json \(No space left on device\); expected room for it: make some"):
        study.save(a_study(), project)
