"""Kill anything at any moment: the next `make run` ends with the same bytes as an undisturbed one, nothing left behind.

One kill a process here; all processes at all points, and random kills, are in tests/crash (`make test-crash`).
"""

import re
import subprocess

import pytest

from tests.conftest import Clone, last_line, stages_line, wait_until
from tests.killing import (  # noqa: F401
    MEASURED,
    VICTIMS,
    Result,
    ends_in_order,
    from_nothing,
    kill_at,
    result,
    same,
    signal_at,
    undisturbed,
)

pytestmark = pytest.mark.docker

NOTHING = "nothing to run, all stages are up to date"


@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("make", "train fits"),
        pytest.param("docker client of make", "dvc.lock is about to be replaced", marks=pytest.mark.deep),
        ("runner", "the decision is half written"),
        ("DVC worker", "the run-cache's entry is half written"),
        ("publisher", "half of the model is uploaded"),
        pytest.param("docker client of a stage", "train has written one of three", marks=pytest.mark.deep),
        ("stage container", "evaluate scores"),
        ("MLflow server", "files are added to the run"),
    ],
)
def test_a_kill_changes_nothing(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    victim: str,
    point: str,
    record_property,
) -> None:
    """After the kill of a process, the next run gives the same outputs, dvc.lock and registry, and leaves nothing."""
    clone, expected = undisturbed
    kill_at(clone, victim, point, expected, record_property)


# --- signals


@pytest.mark.parametrize(
    ("how", "point"), [("Ctrl-C", "train fits"), ("make is terminated", "the decision is half written")]
)
def test_a_signal_ends_a_run_in_order(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    how: str,
    point: str,
    record_property,
) -> None:
    """A signal stops stages and publishing, leaves no container and no file; one line says so; no work is lost."""
    clone, expected = undisturbed
    again = signal_at(clone, how, point, expected, record_property)
    assert stages_line(again) == ("ran train, evaluate" if point == "train fits" else NOTHING)


def test_a_measurement_ends_in_order(undisturbed: tuple[Clone, Result]) -> None:  # noqa: F811
    """`docker stop` of the runner, while a champion is measured, leaves nothing of that; the next run decides."""
    clone, _ = undisturbed
    with from_nothing(clone, MEASURED, "kill-again") as run:
        ends_in_order(run, "the runner is stopped")
    again = clone.make("run")
    assert stages_line(again) == NOTHING and "kill-again version 2, published now" in again.stdout
    assert "decision  Staging: not better than production" in again.stdout


def test_a_stage_fails_beside_the_publisher(undisturbed: tuple[Clone, Result]) -> None:  # noqa: F811
    """When the scorer fails with the model uploaded, that is the error; the next run scores it, and publishes it once.

    The last file of a model to be uploaded is its own.
    """
    clone, expected = undisturbed
    artifacts = clone.path / ".local" / "mlflow" / "artifacts"
    before = len([*artifacts.rglob("model.json")])
    with from_nothing(clone, "evaluate scores", "kill-fails") as run:
        wait_until(lambda: len([*artifacts.rglob("model.json")]) > before, "the model is uploaded")
        assert VICTIMS["stage container"](run)
    assert [line for line in run.said().splitlines() if line.startswith(("error: ", "note: "))] == [
        "error: stage evaluate was killed from outside (exit code 137); expected it to end by itself: run again"
    ]
    assert stages_line(clone.make("run")) == "ran evaluate"
    same(result(clone, "kill-fails"), expected)


# --- the lock


def test_one_at_a_time(undisturbed: tuple[Clone, Result]) -> None:  # noqa: F811
    """While a run goes on, what changes outputs is refused and told who is at work since when; WAIT=1 waits for it."""
    clone, expected = undisturbed
    with from_nothing(clone, "train fits", "kill-two-x") as run:
        for target in ("run", "publish", "push", "pull", "clean"):
            refused = clone.make(target, check=False)
            assert re.fullmatch(
                r"error: make run is going on in this clone since [\d-]+ [\d:]+; expected its end first: wait for it, "
                r"or call with WAIT=1",
                last_line(refused),
            )
        with subprocess.Popen(["make", "run", "WAIT=1"], cwd=clone.path, stdout=subprocess.PIPE, text=True) as second:
            assert re.fullmatch(r"make run is going on .*: waiting for its end \.\.\.\n", second.stdout.readline())
            run.let_go()
            printed = second.stdout.read()
    assert (run.make.returncode, second.returncode) == (0, 0), printed
    assert "nothing to run" in printed
    assert result(clone, "kill-two-x").registry == expected.registry
