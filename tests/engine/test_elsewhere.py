"""A clone that was moved, that no engine sees, or whose stages and services somebody starts without make."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import ALL, NOTHING, OUTPUTS, Clone, last_line, stages_line

pytestmark = pytest.mark.docker

IMAGE = os.environ.get("RUNNER_IMAGE", "")
SOCKET = os.environ.get("RUNNER_SOCKET", "/var/run/docker.sock")


def services(clone: Clone) -> list[str]:
    """Return the names of the containers that serve a clone."""
    return clone.docker("container", "ls", "--all", "--format", "{{.Names}}")


def networks(clone: Clone) -> list[str]:
    """Return the names of a clone's networks."""
    return clone.docker("network", "ls", "--format", "{{.Name}}")


def test_a_clone_that_was_moved(clone_at: Callable[[str], Clone]) -> None:
    """What ran for a clone at its old place is told and removed, and the models are there at the new one."""
    old = clone_at("elsewhere/old")
    old.make("run")
    assert services(old) and networks(old)
    new = clone_at("elsewhere/new")
    shutil.rmtree(new.path)
    shutil.move(old.path, new.path)
    done = new.make("run")
    assert f"this clone was moved from {old.path}: what still ran for it there is removed" in done.stdout
    assert stages_line(done) == NOTHING
    assert not services(old) and not networks(old)
    assert len(services(new)) == 1 and len(new.registry()) == 1
    new.make("down")
    assert not services(new) and not networks(new)
    new.make("metrics")
    assert not networks(new)


@pytest.mark.deep
def test_a_clone_that_was_copied(clone_at: Callable[[str], Clone]) -> None:
    """A copy has services of its own, and leaves the first one's alone."""
    first, copy = clone_at("elsewhere/first"), clone_at("elsewhere/copy")
    first.make("run")
    shutil.rmtree(copy.path)
    shutil.copytree(first.path, copy.path, symlinks=True)
    done = copy.make("down", "run")
    assert "was moved" not in done.stdout and stages_line(done) == NOTHING
    assert len(services(first)) == len(services(copy)) == 1
    for clone in (first, copy):
        clone.make("down")
        assert not services(clone) and not networks(clone)
    assert stages_line(first.make("run")) == NOTHING


@pytest.mark.deep
def test_a_clone_that_was_moved_is_cleaned_up(clone_at: Callable[[str], Clone]) -> None:
    """`make down` and `make clean-all` find what a moved clone has left as well."""
    for target in ("down", "clean-all"):
        old, new = clone_at(f"elsewhere/before {target}"), clone_at(f"elsewhere/after {target}")
        old.make("ui")
        shutil.rmtree(new.path)
        shutil.move(old.path, new.path)
        assert "this clone was moved from" in new.make(target, YES="1").stdout
        assert not services(old) and not networks(old)


@pytest.mark.parametrize(
    "target", ["metrics", *(pytest.param(each, marks=pytest.mark.deep) for each in ("run", "doctor"))]
)
def test_a_clone_that_the_engine_does_not_see(clone_at: Callable[[str], Clone], target: str) -> None:
    """In a container that has its host's socket, a clone that the host does not have is refused at once."""
    clone = clone_at(f"elsewhere/inside {target}")
    command = f"cp -r '{clone.path}' /inside && cd /inside && git config --global safe.directory '*' && make {target}"
    done = subprocess.run(
        [
            "docker", "run", "--rm", "--label", clone.label, "--env", "HOME=/tmp",
            "--mount", f"type=bind,src={SOCKET},dst=/var/run/docker.sock",
            "--mount", f"type=bind,src={clone.path},dst={clone.path},readonly",
            IMAGE, "sh", "-c", command,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert re.match(r"error: the Docker engine does not see /inside; expected a folder of the machine", last_line(done))
    assert done.stdout.count("rror") <= 2, done.stdout


def test_a_clone_made_again_at_the_same_place(clone_at: Callable[[str], Clone]) -> None:
    """Where a clone was deleted by hand, with its images and all still there, a new one works."""
    clone = clone_at("elsewhere/again")
    clone.make("clean")
    shutil.rmtree(clone.path / ".local")
    clone.make("clean")
    assert (clone.path / ".local/place").read_text() == f"{clone.path}\n"


@pytest.mark.deep
def test_dvc_and_compose_without_make(clone_at: Callable[[str], Clone]) -> None:
    """`dvc repro` and `docker compose up`, as an editor may call them, end in a sentence, and the next run is right."""
    clone = clone_at("elsewhere/by hand")
    assert stages_line(clone.make("run")) == ALL
    clone.edit("params.yaml", "seed: 3", "seed: 4")
    before = {name: (clone.path / name).read_bytes() for name in OUTPUTS}
    for command in ("dvc repro", "dvc repro --force", "dvc repro --force --single-item train"):
        done = clone.make("shell", stdin=f"unset CLONE; {command}\n", check=False)
        assert "error: stages run in the project's runner: call 'make run'" in done.stdout, done.stdout
        assert {name: (clone.path / name).read_bytes() for name in OUTPUTS} == before
    bare = {name: os.environ[name] for name in ("PATH", "HOME")}
    for command in ("up", "ps", "down"):
        done = subprocess.run(
            ["docker", "compose", command], cwd=clone.path, env=bare, capture_output=True, text=True, check=False
        )
        assert done.returncode and "start services with make" in done.stderr, done.stderr
    assert stages_line(clone.make("run")).startswith("ran preprocess")
