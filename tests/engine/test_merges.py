"""Two branches that both ran are merged, by git as a user calls it, and what the merge made necessary runs again."""

import os
import subprocess
from collections.abc import Callable

import pytest
import yaml

from tests.conftest import IDENTITY, NOTHING, Clone, Make, stages_line

pytestmark = [pytest.mark.docker, pytest.mark.deep]

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
EDITS = {
    "main": ("n_estimators: 100 ", "n_estimators: 50 "),
    "other": ("importance_repeats: 2 ", "importance_repeats: 3 "),
}


def git(clone: Clone, *arguments: str, **environ: str) -> Make:
    """Call git in a clone, as a user does; whatever it ends with is for the test to say."""
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(
        command, cwd=clone.path, env=os.environ | {"GIT_EDITOR": "true"} | environ, capture_output=True, text=True
    )


def lock(clone: Clone) -> dict:
    return yaml.safe_load((clone.path / "dvc.lock").read_text())["stages"]


@pytest.fixture(scope="module")
def ran(clone_at: Callable[[str], Clone]) -> tuple[Clone, dict]:
    """A clone with a run on each of two branches: main has other trees, `other` another evaluation; their entries."""
    clone = clone_at("merges")
    clone.make("run")
    clone.git("add", "dvc.lock")
    clone.git("commit", "--quiet", "--message", "a run")
    clone.git("branch", "other")
    entries = {}
    for branch, (old, new) in EDITS.items():
        clone.git("checkout", "--quiet", branch)
        clone.edit("params.yaml", old, new)
        clone.make("run")
        clone.git("commit", "--quiet", "--all", "--message", new)
        entries[branch] = lock(clone)
    return clone, entries


@pytest.fixture
def clone(ran: tuple[Clone, dict]) -> Clone:
    """The clone, with the work tree of main."""
    for arguments in (["rebase", "--abort"], ["checkout", "--quiet", "--force", "main"], ["reset", "--hard", "main0"]):
        git(ran[0], *arguments)
    if git(ran[0], "rev-parse", "--verify", "main0").returncode:
        ran[0].git("branch", "main0")
    return ran[0]


def test_a_merge_runs_what_it_made_necessary(ran: tuple[Clone, dict], clone: Clone) -> None:
    """Each side's edit has its result: train's is taken from one side, and only evaluate, whose command is the other
    side's, has to look at the new model."""
    done = git(clone, "merge", "other")
    assert done.returncode == 0, done.stdout + done.stderr
    assert clone.changes() == []
    assert lock(clone) == ran[1]["main"] | {"evaluate": ran[1]["other"]["evaluate"]}
    assert stages_line(clone.make("run")) == "ran evaluate"
    assert stages_line(clone.make("run")) == NOTHING
    assert clone.changes() == ["dvc.lock"]


def test_without_an_engine_it_is_an_ordinary_conflict(ran: tuple[Clone, dict], clone: Clone) -> None:
    """A merge without an engine leaves dvc.lock as a conflict and says so; with one, git merges it again."""
    done = git(clone, "merge", "other", **NO_ENGINE)
    assert done.returncode == 1 and git(clone, "ls-files", "--unmerged", "dvc.lock").stdout
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("dvc.lock ")]
    assert "no Docker engine answers" in sentence and "'git checkout --merge dvc.lock'" in sentence
    clone.git("checkout", "--merge", "dvc.lock")
    assert lock(clone) == ran[1]["main"] | {"evaluate": ran[1]["other"]["evaluate"]}


def test_a_clone_without_the_driver_merges_as_ever(clone: Clone) -> None:
    """In a clone in which no make was called git merges line by line, and fails for no reason of its own."""
    plain = clone.path.parent / "plain"
    clone.git("clone", "--quiet", "--branch", "main0", str(clone.path), str(plain))
    done = git(Clone(plain), "merge", "origin/other")
    assert done.returncode in (0, 1) and "dvc.lock" in done.stdout and "merge_lock" not in done.stdout + done.stderr


def commit_a_run(clone: Clone, branch: str, start: str, edit: tuple[str, str, str]) -> None:
    """Make a branch with a run of train after an edit of a file."""
    clone.git("checkout", "--quiet", "-B", branch, start)
    clone.edit(*edit)
    clone.make("run-train")
    clone.git("commit", "--quiet", "--all", "--message", edit[2])


BOTH = {
    "parameters": (("params.yaml", "max_depth: null ", "max_depth: 2 "), ("params.yaml", "seed: 58 ", "seed: 59 ")),
    "code": (
        ("stages/train/train.py", '"""Fits voters', '"""It fits voters'),
        ("stages/train/train.py", "\nif __name", "\n# The end.\nif __name"),
    ),
}
"""An edit of train on each side, far enough from each other for git to merge the file that they are in."""


@pytest.mark.parametrize("what", BOTH)
def test_a_stage_that_both_edited(clone: Clone, what: str) -> None:
    """A stage that both sides edited is a conflict; `make run` makes what the merge asks for, as dvc.lock and dvc.yaml
    are left."""
    mine, theirs = BOTH[what]
    commit_a_run(clone, "mine", "main0^", mine)
    commit_a_run(clone, "theirs", "main0^", theirs)
    clone.git("checkout", "--quiet", "mine")
    done = git(clone, "merge", "theirs")
    assert done.returncode == 1 and "dvc.lock: both sides changed train, and neither" in done.stderr
    assert ("conflict in dvc.yaml" in done.stdout) == (what == "code") and f"conflict in {mine[0]}" not in done.stdout
    assert stages_line(clone.make("run")).startswith("ran train")
    clone.git("add", "dvc.lock", "dvc.yaml")
    clone.git("commit", "--quiet", "--message", "both")
    assert stages_line(clone.make("run")) == NOTHING and clone.changes() == []


@pytest.mark.parametrize("way", ["rebase", "cherry-pick", "stash"])
def test_other_ways(ran: tuple[Clone, dict], clone: Clone, way: str) -> None:
    """A rebase, a cherry-pick and a stash bring the branches together as a merge does."""
    if way == "stash":
        clone.git("checkout", "--quiet", "--detach", "other")
        clone.git("reset", "--quiet", "--soft", "HEAD^")
        clone.git("stash")
        clone.git("checkout", "--quiet", "main")
    commands = {
        "rebase": ["rebase", "main", "other"],
        "cherry-pick": ["cherry-pick", "other"],
        "stash": ["stash", "pop"],
    }
    done = git(clone, *commands[way])
    assert done.returncode == 0, done.stdout + done.stderr
    assert lock(clone) == ran[1]["main"] | {"evaluate": ran[1]["other"]["evaluate"]}
    assert stages_line(clone.make("run")) in ("ran evaluate", NOTHING)
