"""The registry is as it was after any sweep, whether it failed or was killed, and after DVC's own experiments."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Clone, last_line
from tests.sweeps.test_sweeps import begun_and_killed, forget_sweeps, state, with_cross_validation, write

pytestmark = [pytest.mark.docker, pytest.mark.deep]
SMALL = {"train.max_depth": [1, 2], "train.n_estimators": [5, 20]}


@pytest.fixture(scope="module")
def published(clone_at: Callable[[str], Clone]) -> Clone:
    """A clone with a model in production, and nothing that is not committed."""
    clone = with_cross_validation(clone_at("sweeps-registry"))
    clone.make("run")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "a run")
    return clone


@pytest.fixture
def clone(published: Clone) -> Iterator[Clone]:
    """That clone, put back as it was after the test."""
    yield published
    forget_sweeps(published)
    published.restore()


def versions(clone: Clone) -> list[dict]:
    """Return all that the registry says of all models, and of each version of them."""
    printed = clone.python(
        "import json\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        "found = [dict(m) for m in client.search_registered_models()]\n"
        "found += [dict(v) for v in client.search_model_versions()]\n"
        "print('JSON', json.dumps(found, default=str))\n"
    )
    return json.loads(re.search(r"JSON (.*)", printed)[1])


def test_a_sweep_registers_nothing(clone: Clone) -> None:
    """A sweep that ends well leaves every model, version, stage, alias and tag as it was."""
    before = versions(clone)
    write(clone, parameters=SMALL)
    clone.make("sweep")
    assert state(clone)["ended"] and versions(clone) == before


@pytest.mark.parametrize("when", ["a trial", "all trials", "a shared stage"])
def test_a_failed_sweep_registers_nothing(clone: Clone, when: str) -> None:
    """One in which a trial fails, all of them do, or a stage that they share, leaves the registry as it was."""
    before = versions(clone)
    write(clone, parameters={"train.max_depth": [0, 2] if when == "a trial" else [0]}, trials=2)
    if when == "a shared stage":
        clone.edit("params.yaml", "test_size: 0.2", "test_size: 7")
    done = clone.make("sweep", check=False)
    assert (done.returncode == 0) == (when == "a trial")
    says = {
        "a trial": r"next +make keep, then make run",
        "all trials": r"error: all 1 trials failed; the first one: train: .*max_depth.*",
        "a shared stage": r"error: preprocess: .*test_size.*7.*",
    }
    assert re.fullmatch(says[when], last_line(done)), last_line(done)
    assert versions(clone) == before


def test_a_killed_sweep_registers_nothing(clone: Clone) -> None:
    """One that is killed while it has some scores leaves the registry as it was; so does its end, later."""
    before = versions(clone)
    write(clone, sampler="random", trials=8)
    begun_and_killed(clone, 2)
    assert 2 <= len(state(clone)["outcomes"]) < 8 and versions(clone) == before
    clone.make("sweep")
    assert state(clone)["ended"] and versions(clone) == before


def test_dvcs_own_experiments_register_nothing(clone: Clone, tmp_path: Path) -> None:
    """`dvc exp run`, its queue, `dvc exp show` and `dvc exp apply` work in `make shell`, for a user whose name is known
    to git alone; and they leave the registry as it was."""
    before = versions(clone)
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = A User\n\temail = user@example.com\n")
    experiments = (
        "dvc exp run --quiet --name here --set-param train.max_depth=1",
        "dvc exp run --quiet --queue --name queued --set-param train.max_depth=2",
        "dvc exp run --run-all",  # quietly it would not wait
        "git checkout --quiet -- params.yaml dvc.lock",
        "dvc exp apply --quiet queued",
        "dvc exp show --csv",
    )
    done = clone.make("shell", stdin="set -e\n" + "\n".join(experiments) + "\n", HOME=str(tmp_path))
    assert re.search(r"^here,", done.stdout, re.M) and re.search(r"^queued,", done.stdout, re.M), done.stdout
    assert "max_depth: 2" in (clone.path / "params.yaml").read_text(), done.stdout
    assert versions(clone) == before


def test_the_tests_here_see_a_new_version(clone: Clone) -> None:
    """An ordinary run with other parameters is seen by what these tests compare."""
    before = versions(clone)
    clone.edit("params.yaml", "seed: 58", "seed: 59")
    clone.make("run")
    assert len(versions(clone)) == len(before) + 1
