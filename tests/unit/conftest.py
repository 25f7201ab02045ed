"""What unit tests stand on: no Docker engine, no network and no MLflow server; a `docker` that does as a test says."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.project import ROOT, Project

OF_A_RUNNER = {"CLONE": "c10e00000000", "PYTHON_IMAGE": "python:3", "RUNNER_IMAGE": "stages/runner:1", "USER": "runner"}
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")


@pytest.fixture(scope="session", autouse=True)
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set what scripts/host/runner.sh gives every runner, if the tests are run without it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (OF_A_RUNNER | {"HOME": str(tmp_path_factory.getbasetemp())}).items():
            if name not in os.environ:
                patch.setenv(name, value)
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc-site-cache")))
        yield


@pytest.fixture(scope="session")
def empty_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of git and DVC with the project's settings of DVC and nothing else; to be copied."""
    root = tmp_path_factory.mktemp("repository")
    subprocess.run([*GIT, "init", "--quiet", str(root)], check=True)
    (root / ".dvc" / "tmp").mkdir(parents=True)
    (root / ".local").mkdir()  # as in each clone: a runner's home is below it
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc")
    shutil.copy(ROOT / ".dvc" / ".gitignore", root / ".dvc")
    return root


@pytest.fixture
def project(empty_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project of git and DVC, which is the working directory as well."""
    root = tmp_path / "project"
    shutil.copytree(empty_repository, root)
    monkeypatch.chdir(root)
    return Project(root)


class FakeDocker:
    """A `docker` first on PATH that ends well and prints nothing, but for the commands that `does` names."""

    def __init__(self, folder: Path) -> None:
        self._program, self.log = folder / "docker", folder / "log"
        self._cases: list[str] = []
        folder.mkdir()
        self._write()

    def does(self, command: str, script: str) -> None:
        """Let `docker COMMAND ...` run a shell script, in which "$@" are all its arguments."""
        self._cases.insert(0, f"'{command}'*)\n{script}\n;;\n")
        self._write()

    def _write(self) -> None:
        part = self._program.with_suffix(".part")
        part.write_text(f'#!/bin/sh\necho "$*" >> \'{self.log}\'\ncase "$*" in\n{"".join(self._cases)}*) ;;\nesac\n')
        part.chmod(0o755)
        part.replace(self._program)

    @property
    def asked(self) -> list[str]:
        """Return the command lines that it was called with."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    folder = tmp_path / "bin"
    fake = FakeDocker(folder)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return fake


@pytest.fixture
def git(project: Project) -> Callable[..., str]:
    """Return a function that calls git in the project, and returns what it prints."""

    def call(*arguments: str) -> str:
        return subprocess.run([*GIT, *arguments], cwd=project.root, check=True, capture_output=True, text=True).stdout

    return call
