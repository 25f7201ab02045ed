"""A small clone for what edits one: the project of tests/project/ beside what all stages start from."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.pipeline import template
from scripts.project import ROOT

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of one commit, to be copied."""
    root = tmp_path_factory.mktemp("scaffold") / "clone"
    shutil.copytree(ROOT / "tests" / "project", root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "README.md").write_text("# Flowers\n\n`iris-classifier` is a model, my-iris-classifier-2 another one.\n")
    shutil.copytree(ROOT / "stages" / "base", root / "stages" / "base", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / ".gitignore").write_text(
        "# Outputs.\n/data/processed/\n/models/\n/metrics/\n# Caches.\n__pycache__/\n.ruff_cache/\n.env\n"
    )
    subprocess.run([*GIT, "init", "--quiet"], cwd=root, check=True)
    template.write(template.load(root), root)
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*GIT, *command], cwd=root, check=True)
    return root


@pytest.fixture
def clone(committed: Path, tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    shutil.copytree(committed, root)
    return root


Tree = dict[str, tuple[int, bytes]]


@pytest.fixture
def tree(clone: Path) -> Callable[[], Tree]:
    """Return a function that gives mode and content of all files of the clone, but git's own."""

    def look() -> Tree:
        paths = [path for path in sorted(clone.rglob("*")) if ".git" not in path.relative_to(clone).parts]
        found = {str(path.relative_to(clone)): path for path in paths}
        contents = {name: b"" if path.is_dir() else path.read_bytes() for name, path in found.items()}
        return {name: (path.lstat().st_mode, contents[name]) for name, path in found.items()}

    return look
