"""What is wrong with a sweep, on the real engine: one sentence, no traceback; corrected, the sweep goes on."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from tests.conftest import Clone, Make, last_line
from tests.engine.test_bad_input import full_disk
from tests.sweeps.test_sweeps import forget_sweeps, ran, state, with_cross_validation, write

pytestmark = [pytest.mark.docker, pytest.mark.deep]
SMALL = {"train.max_depth": [1, 2, 3]}


@pytest.fixture(scope="module")
def swept(clone_at: Callable[[str], Clone]) -> Clone:
    """A clone in which the stages that trials share have run."""
    clone = with_cross_validation(clone_at("sweeps-bad-input"))
    clone.make("run-train")
    return clone


@pytest.fixture
def clone(swept: Clone) -> Iterator[Clone]:
    """That clone without a sweep; put back as it was after the test."""
    forget_sweeps(swept)
    yield swept
    swept.restore()


def refused(done: Make, sentence: str) -> None:
    assert done.returncode == 2 and "Traceback" not in done.stdout, done.stdout
    assert re.fullmatch(f"error: {sentence}", last_line(done)), last_line(done)
    assert len(re.findall("^error: ", done.stdout, re.M)) == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"parameters": {"train.max_dept": [1, 2]}},
            "sweep.parameters has train.max_dept, which params.yaml does not have; did you mean train.max_depth\\?",
        ),
        (
            {"parameters": {"train.max_features": {"low": 0.75, "high": 0.25}}, "sampler": "tpe"},
            "sweep.parameters.train.max_features is .*; expected a low that is below high: correct it in sweep.yaml",
        ),
        (
            {"objective": {"metric": "cv_accuracy", "goal": "maximize", "file": "models/c.json"}},
            "no stage measures cv_accuracy in models/c.json; expected a metrics file of dvc.yaml.template, .*",
        ),
        (
            {"parameters": {"train.max_depth": [1]}, "objective": {"metric": "f1", "goal": "maximize"}},
            "train measures no f1 in models/cv.json; expected one of cv_accuracy: correct objective.metric",
        ),
    ],
    ids=["no such parameter", "no range", "no such file", "no such number"],
)
def test_a_mistake_in_the_file_is_one_sentence(clone: Clone, changed: dict[str, Any], sentence: str) -> None:
    """What sweep.yaml gets wrong is the last line, and the only error."""
    write(clone, **changed)
    refused(clone.make("sweep", check=False), sentence)


def test_an_objective_on_the_test_data_is_warned_of(clone: Clone) -> None:
    """A sweep by a score of the test data runs, after a note that says what it is worth and what is better."""
    objective = {"metric": "accuracy", "goal": "maximize", "file": "metrics/metrics.json"}
    write(clone, parameters={"train.max_depth": [1, 2]}, objective=objective)
    done = clone.make("sweep")
    assert re.search(
        r"^note: evaluate measures accuracy on the test data \(data/processed/test.csv\): the best of 2 looks better "
        r"there than it is, and the gate will believe it; better: a score that spends no test data, as SWEEPS.md",
        done.stdout,
        re.M,
    )
    assert "2 of 2 trials done" in done.stdout


def test_a_trial_that_fails_is_said_and_stops_no_other(clone: Clone) -> None:
    """Its line has the stage's own sentence; the others get their scores."""
    write(clone, parameters={"train.max_depth": [0, 1]})
    done = clone.make("sweep")
    assert re.search(r"^trial 1  train.max_depth 0  failed: train: .*max_depth.*; expected", done.stdout, re.M)
    assert re.search(r"^trial 2  train.max_depth 1  cv_accuracy 0\.\d+ ", done.stdout, re.M)
    assert "1 of 2 trials done, 1 failed; best: trial 2" in done.stdout


def copies(clone: Clone, pages: int) -> AbstractContextManager[None]:
    (clone.path / ".local" / "sweeps").mkdir(exist_ok=True)
    return full_disk(clone.path / ".local" / "sweeps", pages)


FULL = "No space left on device"
GOES_ON = "'make sweep' goes on(?: once that is mended)?"


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("no working copy", rf"the working copies of the sweep cannot be made in [\w./]+ \({FULL}\); .*{GOES_ON}"),
        ("no second trial", rf".*{FULL}.*{GOES_ON}"),
        ("no result", rf"train of trial \d did not run: .*{FULL}.*; {GOES_ON}"),
        ("no output", rf"train of trial \d did not run: train: cannot write [\w./]+: {FULL}; .*; {GOES_ON}"),
    ],
)
def test_a_full_disk_is_one_sentence(clone: Clone, what: str, sentence: str) -> None:
    """Wherever the space ends, a sentence says so, and that the sweep goes on; with space it does, and no trial that
    was known runs again."""
    write(clone, parameters=SMALL, trials=3)
    disk = {
        "no working copy": lambda: copies(clone, 0),
        "no second trial": lambda: copies(clone, 60),
        "no result": lambda: full_disk(clone.path / ".dvc" / "cache" / "files"),
        "no output": nullcontext,
    }[what]
    variables = {"STOP_AT": "train@full"} if what == "no output" else {}
    with disk():
        done = clone.make("sweep", "JOBS=1", check=False, **variables)
    refused(done, sentence)
    again = clone.make("sweep", "JOBS=1")
    assert "3 of 3 trials done" in again.stdout and "failed" not in again.stdout
    assert state(clone)["ended"] and ran(clone).count("train") <= 3
