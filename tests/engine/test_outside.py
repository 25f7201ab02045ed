"""What lies outside of the clone, by DVC's own configuration or by links: it is used there, where the host sees it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ALL, NOTHING, Clone, last_line, new_clone, stages_line

pytestmark = pytest.mark.docker

ELSEWHERE = {"MLFLOW_TRACKING_URI": "http://mlflow:9"}
"""Spares a clone that publishes nothing a server of its own."""
REMOTES = {
    "local": "dvc remote add --default --local nas {nas}",
    "committed": "dvc remote add --default nas {nas}",
    "relative": "dvc remote add --default nas ../nas",
}


def objects(folder: Path) -> set[str]:
    """Return the names of the data files below a remote or a cache."""
    return {str(path.relative_to(folder)) for path in (folder / "files").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(clone_at: Callable[[str], Clone]) -> Clone:
    """A clone in a folder of its own, with all outputs."""
    clone = clone_at("outside/clone")
    clone.make("run")
    clone.git("add", "dvc.lock")
    clone.git("commit", "--quiet", "--message", "a run")
    return clone


@pytest.fixture
def clone(made: Clone):
    """The clone, DVC's configuration put back after the test."""
    yield made
    made.restore()
    (made.path / ".dvc" / "config.local").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "configure",
    [
        pytest.param(each, id=name, marks=[] if name == "relative" else pytest.mark.deep)
        for name, each in REMOTES.items()
    ],
)
def test_a_remote_configured_by_dvc(clone: Clone, clone_at: Callable[[str], Clone], configure: str) -> None:
    """What is pushed to a folder that DVC's configuration names is there; a second push sends nothing; another clone
    with the same configuration pulls it and runs nothing."""
    nas = clone.path.parent / "nas"
    nas.mkdir()
    clone.make("shell", stdin=f"{configure.format(nas=nas)}\n")
    assert "pushed 0 files" not in clone.make("push").stdout
    assert len(objects(nas)) == len(objects(clone.path / ".dvc" / "cache")) > 8
    assert "pushed 0 files" in clone.make("push").stdout
    other = clone_at(f"outside/other {len(configure)}")
    for name in ("dvc.lock", ".dvc/config", ".dvc/config.local"):
        if (clone.path / name).exists():
            shutil.copyfile(clone.path / name, other.path / name)
    assert stages_line(other.make("pull", "run")) == NOTHING
    shutil.rmtree(nas)


def test_a_remote_that_is_not_there(clone: Clone) -> None:
    """A folder that does not exist is refused before anything is sent, and is not made anywhere."""
    clone.make("shell", stdin="dvc remote add --default --local nas ../nowhere\n")
    done = clone.make("push", check=False)
    assert done.returncode == 2
    there = clone.path.parent / "nowhere"
    assert last_line(done) == (
        f"error: the remote nas of DVC's configuration is {there}, which is not here; expected a folder that exists: "
        "make it"
    )
    assert not there.exists()


def test_a_remote_that_dvc_takes_for_another_one(clone: Clone) -> None:
    """An address with file://, of which DVC makes a folder in the clone, is refused before anything is sent."""
    clone.make("shell", stdin=f"dvc remote add --default nas file://{clone.path.parent}\n")
    done = clone.make("push", check=False)
    assert done.returncode == 2
    assert "the remote nas of DVC's configuration is an address that begins with file:/, which" in last_line(done)
    assert not (clone.path / "file:").exists()


def test_what_is_typed_writes_nowhere_else(clone: Clone) -> None:
    """In `make shell` nothing can be written that would be gone with the runner."""
    typed = "dvc remote add --default --local nas /srv/new; dvc push || echo REFUSED; touch /home/x || echo REFUSED\n"
    assert clone.make("shell", stdin=typed).stdout.count("REFUSED\n") == 2


@pytest.mark.deep
def test_a_cache_outside(clone: Clone, clone_at: Callable[[str], Clone]) -> None:
    """A cache that two clones share is outside of both: what one has run, the other one does not."""
    cache = clone.path.parent / "cache"
    cache.mkdir()
    clone.make("shell", stdin="dvc cache dir --local ../cache\n")
    clone.make("clean")
    assert stages_line(clone.make("run")) == ALL
    assert len(objects(cache)) > 8
    other = clone_at("outside/shares the cache")
    (other.path / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n    type = symlink\n")
    assert stages_line(other.make("run")) == NOTHING
    assert (other.path / "data" / "raw" / "iris.csv").resolve().is_relative_to(cache)
    assert stages_line(other.make("run")) == NOTHING
    shutil.rmtree(cache)


def test_an_input_outside(clone: Clone) -> None:
    """A data set behind a link is read where it is, and cannot be written by whoever reads it."""
    there = clone.path.parent / "sets" / "deep"
    there.mkdir(parents=True)
    (there / "mine.csv").write_bytes((clone.path / "data" / "raw" / "iris.csv").read_bytes())
    (clone.path / "data" / "external").mkdir(exist_ok=True)
    (clone.path / "data" / "external" / "sets").symlink_to("../../../sets")
    clone.edit("params.yaml", "source: bundled", "source: data/external/sets/deep/mine.csv")
    assert "ran ingest" in clone.make("run-ingest", **ELSEWHERE).stdout
    assert "Read-only" in clone.make("shell", stdin="touch data/external/sets/x\n", check=False).stdout
    (clone.path / "data" / "external" / "sets").unlink()
    (clone.path / "data" / "external" / "sets").symlink_to("/nowhere/sets")
    done = clone.make("run-ingest", check=False, **ELSEWHERE)
    assert last_line(done).startswith(
        "error: data/external/sets/deep/mine.csv leads to /nowhere/sets/deep/mine.csv, which the runner does not see; "
    )


def test_nothing_here_and_nothing_there(made: Clone, clone_at: Callable[[str], Clone]) -> None:
    """Where no output is, push, pull, metrics and plots fail, name files and say what makes them; what there is of the
    rest is sent and fetched, but for a file that is not what its name says."""
    clone = clone_at("outside/nothing")
    (clone.path / "dvc.lock").write_bytes((made.path / "dvc.lock").read_bytes())
    remote = clone.path.parent / "empty remote"
    remote.mkdir()

    def says(target: str) -> str:
        done = clone.make(target, check=False, DVC_REMOTE_URL=str(remote))
        assert done.returncode == 2 and "md5" not in done.stdout, done.stdout
        return last_line(done)

    some = r"\(\w+/\S+, \S+, \S+, ...\): 'make run' makes them"
    assert re.fullmatch(f"error: 11 of 11 outputs are neither here nor on the remote {some}", says("push"))
    pulled = f"error: 11 of 11 outputs are not on the remote {some}, and 'make push' sends them there"
    assert re.fullmatch(pulled, says("pull"))
    assert re.fullmatch(r"error: there are no metrics; expected metrics/\S+json.*: 'make run' first", says("metrics"))
    assert re.fullmatch(
        r"error: there is nothing to draw; expected models/training.csv.*: 'make run' first", says("plots")
    )
    made.make("push", DVC_REMOTE_URL=str(remote))
    stages = yaml.safe_load((made.path / "dvc.lock").read_text())["stages"]
    raw, prepared = (
        remote / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
        for out in (stages["ingest"]["outs"][0], stages["preprocess"]["outs"][0])
    )
    raw.unlink()
    prepared.chmod(0o644)
    prepared.write_bytes(prepared.read_bytes().replace(b"1", b"2"))
    prepared.chmod(0o444)  # as DVC leaves it: a disk that loses a bit changes no rights
    done = clone.make("pull", DVC_REMOTE_URL=str(remote))
    assert re.search(
        rf"1 of 11 outputs are damaged on the remote \(data/\S+\), and not taken: .*{prepared}", done.stdout
    )
    assert "1 of 11 outputs are not on the remote (data/raw/iris.csv): 'make run' makes them" in done.stdout
    assert says("push").startswith("error: 1 of 11 outputs are neither here nor on the remote (data/raw/iris.csv)")
    assert "accuracy" in clone.make("metrics").stdout


def test_what_the_last_line_says_makes_a_whole_commit(made: Clone, clone_at: Callable[[str], Clone]) -> None:
    """Who types what a run says last makes a commit in whose clone nothing runs, with parameters and code changed."""
    clone = clone_at("outside/committed")
    remote = {"DVC_REMOTE_URL": str(clone.path.parent / "theirs")}
    Path(remote["DVC_REMOTE_URL"]).mkdir()
    clone.edit("params.yaml", "seed: 3", "seed: 5")
    (clone.path / "stages" / "train" / "notes.txt").write_text("a new file counts as code\n")
    _, _, add, commit, push = re.split("[;,] ", last_line(clone.make("run", **remote)))
    assert (commit, push) == ("git commit", "make push")
    subprocess.run(["sh", "-c", add], cwd=clone.path, check=True)
    clone.git("commit", "--quiet", "--message", "what was said")
    assert not clone.changes()
    clone.make("push", **remote)
    other = new_clone("outside/of the commit", of=clone.path)
    assert stages_line(other.make("pull", "run", **remote)) == NOTHING
    other.make("clean-all", YES="1")
