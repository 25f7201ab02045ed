"""A trial is kept: its values stand in params.yaml, and the record of the decision says what stood behind it."""

import re
from types import SimpleNamespace

import pytest

from scripts.pipeline import template
from scripts.project import UserError
from scripts.sweeps import notes, running, study
from scripts.sweeps.verbs import keep
from tests.sweeps.conftest import PARAMS, WANTED
from tests.sweeps.test_study import a_study, outcome

MODEL = SimpleNamespace(maker="fit")


@pytest.fixture
def found(pipeline, project, monkeypatch):
    """Return a sweep of three trials, the last of which failed."""
    monkeypatch.setattr(template, "load", lambda root, images=None: template.render(
        (root / template.TEMPLATE).read_text(), template.read_params(root / "params.yaml"), WANTED, root
    ))  # fmt: skip
    found = a_study()
    found.base = running.parameters(pipeline)
    values = [{"fit.depth": depth, "fit.rate": 1e-3, "split.share": 0.2} for depth in (2, None, 4)]
    for trial, score in zip(found.add(values), (0.75, 0.875, None), strict=True):
        found.end(trial, outcome(score, "" if score else "it broke"))
    found.scored, found.ended = 2, "2027-01-01"
    study.save(found, project)
    return found


def test_the_winner_is_kept(found, project, capfd):
    """Its values are written where the others were, and the next command is said."""
    keep.main(["trial=", "sweep="], project)
    assert project.params.read_text() == PARAMS.replace("depth: 3", "depth: null").replace("1.0e-3", "0.001")
    printed = capfd.readouterr().out
    assert "trial 2 of sweep 00000000, cv_accuracy 0.875" in printed and printed.endswith("next: make run\n")
    assert "note:" not in printed


def test_another_trial_can_be_kept(found, project, capfd):
    """One that is named is kept although it is not the best, and the run will score it."""
    keep.main(["trial=1", "sweep=00000000"], project)
    assert "depth: 2 # levels" in project.params.read_text()
    assert capfd.readouterr().out.endswith("next: make run, which scores it\n")
    assert study.named(project).kept == [1]


@pytest.mark.parametrize(
    ("trial", "says"),
    [
        ("3", r"trial 3 of sweep 00000000 failed \(it broke\); expected one with a score, 1 to 3: correct TRIAL"),
        ("9", "trial 9 of sweep 00000000 is not there; expected one with a score"),
        ("x", "trial x of sweep 00000000 is not there"),
    ],
)
def test_a_trial_that_cannot_be_kept_is_a_sentence(found, project, trial, says):
    """A trial that failed, or is none, changes nothing."""
    with pytest.raises(UserError, match=says):
        keep.main([f"trial={trial}", "sweep="], project)
    assert project.params.read_text() == PARAMS


def test_other_parameters_than_the_sweeps_are_noticed(found, project, capfd):
    """If another value has changed since, the trial's result will not be found, and that is said."""
    project.params.write_text(PARAMS.replace("seed: 1", "seed: 2"))
    keep.main(["trial=", "sweep="], project)
    assert re.search(r"note: .*other values \(split.seed\): stages will run", capfd.readouterr().out)


def note(project):
    return notes.note(project, template.load(project.root), MODEL)


def test_the_record_says_how_many_trials_stood_behind_it(found, project):
    """A model of the best trial, or of one that was kept, has a note, however its values came into params.yaml; any
    other has none."""
    assert note(project) == ""
    keep.main(["trial=", "sweep="], project)
    assert note(project) == "best of 2 by cv_accuracy (sweep 00000000)"
    text = project.params.read_text()
    project.params.write_text(text.replace("depth: null", "depth: 2"))
    assert note(project) == ""
    keep.main(["trial=1", "sweep="], project)
    assert note(project) == "trial 1 of 2 by cv_accuracy (sweep 00000000)"
    project.params.write_text(text.replace("seed: 1", "seed: 2"))
    assert note(project) == ""
