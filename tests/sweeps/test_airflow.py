"""Sweeps on Airflow, on the real engine: a task a trial, with the trials, scores and winner that they have here."""

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from scripts.project import ROOT
from tests.conftest import NOTHING, Clone, last_line, stages_line, wait_until
from tests.sweeps.test_sweeps import best, forget, result, state, with_cross_validation, write

pytestmark = [pytest.mark.docker, pytest.mark.deep]
if not (ROOT / "scripts" / "airflow").exists():
    pytest.skip("there is no scripts/airflow", allow_module_level=True)

FOUR = {"parameters": {"train.max_depth": [0, 1, 2, None]}, "trials": 4}
TPE = {"parameters": {"train.max_depth": [1, 2, 3, None]}, "sampler": "tpe", "trials": 4, "batch": 2}


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Iterator[Clone]:
    """A clone of which a commit has all that trials need; Airflow is up, and gone after the tests."""
    clone = with_cross_validation(clone_at("sweeps-airflow"))
    write(clone, **FOUR)
    refused = clone.make("sweep", "ON=airflow", check=False)
    assert refused.returncode == 2
    assert re.fullmatch(
        r"error: Airflow does not answer at .*; expected it on this clone's network: 'make airflow' starts it",
        last_line(refused),
    )
    clone.make("airflow", timeout=1500)
    yield clone
    clone.make("clean-all", YES="1")


def here(clone: Clone, **changed: object) -> tuple[list, str]:
    """Return what the sweep is on this machine, of which nothing is left then."""
    forget(clone)
    write(clone, **changed)
    done = clone.make("sweep")
    found = result(clone), best(done.stdout[done.stdout.rindex("\n\n") :])
    forget(clone)
    return found


def attempts(clone: Clone) -> list[str]:
    """Return the containers of stages that run in attempts of tasks, each in a clone of its own."""
    listing = ["docker", "container", "ls", "--no-trunc", "--filter", "label=pipeline.stage", "--format", "{{.Mounts}}"]
    shown = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if f"{clone.path}/.local/airflow/" in line]


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_sweep_there_is_the_one_here(clone: Clone, sampler: str) -> None:
    """The trials, their scores, their faults and the winner are the same there as here."""
    changed = FOUR if sampler == "grid" else TPE
    expected = here(clone, **changed)
    done = clone.make("sweep", "ON=airflow", timeout=1500)
    assert (result(clone), best(done.stdout[done.stdout.rindex("\n\n") :])) == expected
    if sampler == "grid":
        assert re.search(r"^trial 1  train.max_depth 0  failed: train: .*max_depth.*; expected", done.stdout, re.M)
    assert len(clone.python("import mlflow; print('n', mlflow.MlflowClient().search_registered_models())").split()) == 2


def test_the_winner_of_there_is_restored_here(clone: Clone) -> None:
    """`make keep; make run` runs no stage, though the winner was trained elsewhere, and publishes it."""
    assert state(clone)["ended"]
    assert last_line(clone.make("keep")) == "next: make run"
    done = clone.make("run")
    assert stages_line(done) == NOTHING or "restored" in done.stdout
    assert not re.search(r"^\w+ +ran \(", done.stdout, re.M)
    assert re.search(r"^model +iris-classifier version 1, published now", done.stdout, re.M)
    clone.restore()


def test_a_sweep_that_is_killed_goes_on_there(clone: Clone) -> None:
    """Killed while its tasks run, the sweep ends with the same result when it is called again; what ran of the killed
    one is stopped first, so no two of them train the same."""
    expected = here(clone, **FOUR)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": clone.path}
    with subprocess.Popen(["make", "sweep", "ON=airflow"], **quiet) as going:
        wait_until(lambda: attempts(clone), "a stage in an attempt", 300)
        (runner,) = clone.docker("container", "ls", "--quiet", "--filter", "label=pipeline.verb=sweep")
        subprocess.run(["docker", "kill", runner], check=True, capture_output=True)
        going.wait()
    done = clone.make("sweep", "ON=airflow", timeout=1500)
    assert (result(clone), best(done.stdout[done.stdout.rindex("\n\n") :])) == expected
