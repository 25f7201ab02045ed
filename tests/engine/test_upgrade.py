"""A fork of a past version, whose stages are all its own, is upgraded to this one and runs."""

import subprocess
from pathlib import Path

import pytest

from scripts.project import ROOT, Project
from scripts.upgrading.machinery import files, is_machinery
from tests.conftest import IDENTITY, NOTHING, Clone, new_clone, stages_line

pytestmark = [pytest.mark.docker, pytest.mark.deep]

PAST = "HEAD~5"
FORK = "regression"
ME = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def history() -> Path:
    """Return the clone in which the tests were called: the copy that they run in has one commit."""
    clone = ROOT.parents[2]
    there = subprocess.run(
        ["git", "-C", str(clone), "cat-file", "-e", f"{PAST}:tests/forks/{FORK}"], capture_output=True
    )
    if there.returncode:
        pytest.skip(f"{clone} has no {PAST} with tests/forks/{FORK}: it is shallow, or another repository")
    return clone


@pytest.fixture(scope="module")
def present(history: Path) -> Clone:
    """Return the template: the history, and upon it a commit of what is tested."""
    template = new_clone("template", of=history)
    template.git("fetch", "--quiet", str(ROOT), "HEAD")
    tested = template.git("commit-tree", "-p", "HEAD", "-m", "what is tested", "FETCH_HEAD^{tree}").strip()
    template.git("checkout", "--quiet", "-B", "main", tested)
    return template


@pytest.fixture(params=["clone", "copy"])
def fork(request: pytest.FixtureRequest, history: Path, present: Clone) -> Clone:
    """Return a fork of the past, by `git clone` or by a copy of the files, with the command if it lacked that."""
    clone = new_clone(f"upgraded {request.param}", of=history)
    clone.git("checkout", "--quiet", "-B", "main", PAST)
    if request.param == "copy":
        (clone.path / ".git").rename(clone.path.parent / "its history")
        subprocess.run(["git", *IDENTITY, "init", "--quiet"], cwd=clone.path, check=True)
        clone.git("add", "--all")
        clone.git("commit", "--quiet", "--message", "a copy")
    subprocess.run(["sh", f"tests/forks/{FORK}/apply.sh"], cwd=clone.path, check=True)
    (clone.path / "README.md").write_text("ours\n")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "our own stages")
    if "\nupgrade:" not in (clone.path / "Makefile").read_text():
        clone.git("fetch", "--quiet", str(present.path), "main")
        clone.git("checkout", "FETCH_HEAD", "--", "Makefile", "scripts")
        clone.git("commit", "--quiet", "--message", "the command")
    return clone


def test_a_fork_of_the_past_is_upgraded(fork: Clone, present: Clone) -> None:
    """Without a conflict, in one commit, its machinery is the present one and its stages are its own; it runs, and all
    its tests pass."""
    before, head = files("HEAD", Project(fork.path)), fork.git("rev-parse", "HEAD")
    done = fork.make("upgrade", f"FROM={present.path}", YES="1", **ME)
    assert "in one commit" in done.stdout
    assert fork.git("rev-parse", "HEAD^") == head and not fork.git("status", "--porcelain")
    after, wanted = files("HEAD", Project(fork.path)), files("HEAD", Project(present.path))
    assert {path: file for path, file in after.items() if is_machinery(path)} == {
        path: file for path, file in wanted.items() if is_machinery(path)
    }
    own = [path for path in {**before, **after} if not is_machinery(path) and path != "dvc.yaml"]
    assert [path for path in own if before.get(path) != after.get(path)] == []
    assert stages_line(fork.make("run")).startswith("ran ingest, preprocess")
    assert stages_line(fork.make("run")) == NOTHING
    assert fork.changes() == ["dvc.lock"]
    assert "not committed" in fork.make("upgrade", f"FROM={present.path}", check=False).stdout
    fork.git("commit", "--quiet", "--all", "--message", "a run")
    assert "nothing to do" in fork.make("upgrade", f"FROM={present.path}", **ME).stdout
    for stage in sorted(path.name for path in (fork.path / "stages").iterdir() if path.is_dir()):
        fork.make(f"test-{stage}")
    fork.make("test-unit")
    fork.make("down")
