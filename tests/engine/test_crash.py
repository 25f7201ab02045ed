"""Kill anything at any moment: the next `make run` ends with the same bytes as an undisturbed one, nothing left behind.

One kill a process here; all processes at all points, and random kills, are in tests/crash (`make test-crash`).
"""

import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import Clone, last_line, stages_line
from tests.killing import Begun, Result, from_nothing, kill_at, left_behind, result, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("make", "train fits"),
        ("docker client of make", "dvc.lock is half written"),
        ("runner", "train has written one of two"),
        ("DVC worker", "the run-cache's entry is half written"),
        ("docker client of a stage", "preprocess has written one of two"),
        ("stage container", "the version is there, undecided"),
        ("MLflow server", "make adds files to the run"),
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


def ctrl_c(run: Begun) -> None:
    os.killpg(run.make.pid, signal.SIGINT)


def term_make(run: Begun) -> None:
    run.make.terminate()


def stop_runner(run: Begun) -> None:
    subprocess.run(["docker", "stop", *run.runner()], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("send", "name", "codes"),
    [
        (ctrl_c, "SIGINT", {130, -signal.SIGINT, 2}),
        (term_make, "SIGTERM", {-signal.SIGTERM}),
        (stop_runner, "SIGTERM", {2}),  # make's own, whatever the runner's is
    ],
)
def test_a_signal_ends_a_run_in_order(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    send: Callable[[Begun], None],
    name: str,
    codes: set[int],
) -> None:
    """A signal to make or to the runner stops the stage and leaves no container; one line says so; no work is lost."""
    clone, expected = undisturbed
    with from_nothing(clone, "train fits", "kill-signl") as run:
        send(run)
        code = run.make.wait()
        assert left_behind(clone) == []
    assert code in codes
    assert f"Error {128 + getattr(signal, name)}" in run.said() or code != 2
    assert [line for line in run.said().splitlines() if "interrupted" in line] == [
        f"interrupted by {name}; nothing is lost: the next 'make run' goes on"
    ]
    assert stages_line(clone.make("run")) == "ran train, evaluate"
    assert result(clone, "kill-signl").files == expected.files


# --- the lock


def test_one_at_a_time(undisturbed: tuple[Clone, Result]) -> None:  # noqa: F811
    """While a run goes on, what changes outputs is refused and told who is at work since when; WAIT=1 waits for it."""
    clone, expected = undisturbed
    with from_nothing(clone, "train fits", "kill-two-x") as run:
        for target in ("run", "push", "pull", "clean"):
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
