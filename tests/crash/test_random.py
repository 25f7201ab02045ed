"""Kills at random moments in a row on one clone; a seed gives the same processes and moments again."""

import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Clone
from tests.killing import VICTIMS, Begun, Result, forget, left_behind, name_models, result, run_undisturbed, same

pytestmark = pytest.mark.docker

IN_A_ROW = 4  # kills before a run from nothing, published under another name: else nothing would be left to kill
ROUNDS_A_MEASURE = 10
SIDE_BRANCHES = 3


def schedule(seed: int) -> Iterator[tuple[str, float]]:
    """Which process is killed when, as a share of the time that an undisturbed run takes."""
    choice = random.Random(seed)
    while True:
        yield choice.choice(list(VICTIMS)), choice.random()


def kill(clone: Clone, victim: str, seconds: float, jobs: str) -> bool:
    """Kills `victim` of a `make run` when that is `seconds` old, or as soon as there is one; tells whether it could."""
    run = Begun(clone, JOBS=jobs)
    time.sleep(seconds)
    killed = False
    while run.make.poll() is None and not killed:
        killed = VICTIMS[victim](run)
    run.make.wait()
    return killed


def widen(clone: Clone) -> None:
    """Adds stages that need nothing but the raw data: what runs beside preprocess, train and evaluate."""
    for name in (f"side-{number}" for number in range(SIDE_BRANCHES)):
        folder = clone.path / "stages" / name
        shutil.copytree(clone.path / "stages" / "preprocess", folder)
        (folder / "preprocess.py").rename(folder / f"{name}.py")
        dockerfile = folder / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace("preprocess", name))
        outputs = {f"{half}_csv": f"data/{name}/{half}.csv" for half in ("train", "test")}
        block = f'{{{{ stage("{name}", inputs={{"raw": "data/raw/iris.csv"}}, outputs={outputs}) }}}}\n'
        clone.edit("dvc.yaml.template", "\nartifacts:\n", f"\n{block}artifacts:\n")
        with (clone.path / "params.yaml").open("a") as params:
            params.write(f"\n{name}:\n  test_size: 0.2\n  seed: 3\n")
    with (clone.path / ".gitignore").open("a") as ignored:  # else DVC writes such files among the outputs
        ignored.write("/data/side-*/\n")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "side branches")


def seconds_of_a_run(clone: Clone, jobs: str) -> float:
    """How long a run from nothing takes that nobody disturbs, and that has nothing to publish."""
    forget(clone)
    began = time.monotonic()
    clone.make("run", JOBS=jobs)
    return time.monotonic() - began


def kill_in_a_row(clone: Clone, expected: Result, seed: int, kills: int, jobs: str, record: Callable[[str, Any], None]):
    """Kills what the seed says; then one run must give what is expected, and no model be registered twice."""
    record("seed", seed)
    record("jobs", jobs)
    began = time.monotonic()
    whole, done, rounds, anew = 0.0, 0, 0, True
    for victim, share in schedule(seed):
        if anew:
            # Measured again now and then: on a machine that is less busy by now, kills would come after the end.
            whole = seconds_of_a_run(clone, jobs) if rounds % ROUNDS_A_MEASURE == 0 else whole
            rounds += 1
            name_models(clone, f"kill-r-{rounds:03}")
            forget(clone)
        killed = kill(clone, victim, share * whole, jobs)
        done += killed
        anew = not killed or done % IN_A_ROW == 0
        print(f"{done}: {victim} at {share * whole:.2f} s of {whole:.1f} s", flush=True)
        if done == kills:
            break
    record("kills", done)
    record("seconds", round(time.monotonic() - began))
    clone.make("run")
    assert left_behind(clone) == []
    same(result(clone, f"kill-r-{rounds:03}"), expected)
    for number in range(1, rounds):
        registry = result(clone, f"kill-r-{number:03}").registry
        assert len(registry["runs"]) <= 1 and len(registry["versions"]) <= 1, registry


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_kills_in_a_row_change_nothing(
    clone_at: Callable[[str], Clone],
    request: pytest.FixtureRequest,
    record_property,
    jobs: str,
) -> None:
    """After a hundred kills, and after twenty of runs side by side, one run gives what an undisturbed one gave."""
    seed, kills = request.config.getoption("seed"), request.config.getoption("kills")
    clone = clone_at(f"random-{jobs}")
    if jobs == "2":
        widen(clone)
        kills //= 5
    expected = run_undisturbed(clone, JOBS=jobs)
    assert len(re.findall(r"^  side-", expected.lock, re.M)) == (SIDE_BRANCHES if jobs == "2" else 0)
    kill_in_a_row(clone, expected, seed, kills, jobs, record_property)
