"""A hundred kills at random moments in a row on one clone; a seed gives the same processes and moments again."""

import random
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Clone
from tests.killing import VICTIMS, Begun, Result, forget, left_behind, name_models, result, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker

IN_A_ROW = 4  # kills before a run from nothing, published under another name: else nothing would be left to kill


def schedule(seed: int) -> Iterator[tuple[str, float]]:
    """Which process is killed when, as a share of the time that an undisturbed run takes."""
    choice = random.Random(seed)
    while True:
        yield choice.choice(list(VICTIMS)), choice.random()


def kill(clone: Clone, victim: str, seconds: float) -> bool:
    """Kills `victim` of a `make run` when that is `seconds` old, or as soon as there is one; tells whether it could."""
    run = Begun(clone)
    time.sleep(seconds)
    killed = False
    while run.make.poll() is None and not killed:
        killed = VICTIMS[victim](run)
    run.make.wait()
    return killed


def test_a_hundred_kills_in_a_row_change_nothing(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    request: pytest.FixtureRequest,
    record_property,
) -> None:
    """After all of them one run gives the same outputs, dvc.lock and registry; no model is registered twice."""
    clone, expected = undisturbed
    seed, kills = request.config.getoption("seed"), request.config.getoption("kills")
    record_property("seed", seed)
    forget(clone)
    began = time.monotonic()
    clone.make("run")
    whole = time.monotonic() - began
    done, rounds, anew = 0, 0, True
    for victim, share in schedule(seed):
        if anew:
            rounds += 1
            name_models(clone, f"kill-r-{rounds:03}")
            forget(clone)
        killed = kill(clone, victim, share * whole)
        done += killed
        anew = not killed or done % IN_A_ROW == 0
        print(f"{done}: {victim} at {share * whole:.2f} s of {whole:.1f} s", flush=True)
        if done == kills:
            break
    record_property("kills", done)
    record_property("seconds", round(time.monotonic() - began))
    clone.make("run")
    assert left_behind(clone) == []
    found = result(clone, f"kill-r-{rounds:03}")
    assert found.registry == expected.registry
    assert found.lock == expected.lock
    assert found.files == expected.files
    for number in range(1, rounds):
        registry = result(clone, f"kill-r-{number:03}").registry
        assert len(registry["runs"]) <= 1 and len(registry["versions"]) <= 1, registry
