"""What is wrong with a sweep, on the real engine: one sentence, no traceback; corrected, the sweep goes on."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clone, Make, last_line
from tests.sweeps.test_sweeps import forget_sweeps, ran, state, with_cross_validation, write

pytestmark = [pytest.mark.docker, pytest.mark.deep]


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


FULL = "No space left on device"
GOES_ON = "'make sweep' goes on(?: once that is mended)?"


def full(folder: Path, shim: Path) -> dict[str, str]:
    """Return the variables of make with which a sweep's runner sees a file system of one page over `folder`."""
    shim.mkdir()
    (shim / "docker").write_text(
        f'#!/bin/sh\nPATH=${{PATH#{shim}:}}\ncase " $* " in " run "*pipeline.verb=sweep*)\nshift\n'
        f'exec docker run --mount "type=tmpfs,dst={folder},tmpfs-size=4k" "$@" ;;\nesac\nexec docker "$@"\n'
    )
    (shim / "docker").chmod(0o755)
    return {"PATH": f"{shim}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("no working copy", rf"the working copies of the sweep cannot be made in [\w./]+ \({FULL}\); .*{GOES_ON}"),
        ("no result", rf"\w+(?: of trial \d)? did not run: .*{FULL}.*; {GOES_ON}"),
        ("no output", rf"train of trial \d did not run: train: cannot write [\w./]+: {FULL}; .*; {GOES_ON}"),
    ],
)
def test_a_full_disk_is_one_sentence(clone: Clone, what: str, sentence: str, tmp_path: Path) -> None:
    """Wherever the space ends (of the working copies, of DVC's cache, of a stage's output), a sentence says so, and
    that the sweep goes on; with space it does, and no trial that was known runs again."""
    voters = {"no working copy": 30, "no result": 40, "no output": 50}[what]  # none of these trials is in the cache
    write(clone, parameters={"train.n_estimators": [voters, voters + 1, voters + 2]})
    (clone.path / ".local" / "sweeps").mkdir(exist_ok=True)
    variables = {
        "no working copy": lambda: full(clone.path / ".local" / "sweeps", tmp_path / "shim"),
        "no result": lambda: full(clone.path / ".dvc" / "cache" / "files", tmp_path / "shim"),
        "no output": lambda: {"STOP_AT": "train@full"},
    }[what]()
    refused(clone.make("sweep", "JOBS=1", check=False, **variables), sentence)
    again = clone.make("sweep", "JOBS=1")
    assert "3 of 3 trials done" in again.stdout and "failed" not in again.stdout
    assert state(clone)["ended"] and ran(clone).count("train") <= 3
