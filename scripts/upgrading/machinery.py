"""Which files of a repository are the machinery's, which a fork takes over, and which are the fork's own.

All is the machinery's but what a fork edits to be a fork: so a file that a later version adds is brought along, too.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from scripts.pipeline.images import BASE
from scripts.pipeline.template import TEMPLATE
from scripts.project import PROJECT, Project
from scripts.registry.provenance import LOCK, git

OWN = {TEMPLATE, "params.yaml", "sweep.yaml", "dvc.yaml", LOCK, "README.md", "LICENSE", "CHANGELOG.md"}
OWN |= {"data", "models", "metrics"}
"""The fork's own, at the top; below stages/ all folders but the base's are as well."""


class File(NamedTuple):
    """A file as git has it."""

    mode: str
    blob: str


Files = Mapping[str, File]
"""The files of a commit, by path."""


def is_machinery(path: str) -> bool:
    top, *below = PurePosixPath(path).parts
    if top == "stages":
        return len(below) < 2 or below[0] == BASE
    return top not in OWN


def files(commit: str, project: Project = PROJECT) -> dict[str, File]:
    """Return all files of a commit."""
    listed = git("ls-tree", "-r", "-z", "--full-tree", commit, project=project).split("\0")
    found = {}
    for about, path in (entry.split("\t", 1) for entry in listed if entry):
        mode, _, blob = about.split()
        found[path] = File(mode, blob)
    return found


def tree(found: Files, index: str, project: Project = PROJECT) -> str:
    """Write a tree of these files, by way of a file `index`; return its name."""
    git("read-tree", "--empty", project=project, GIT_INDEX_FILE=index)
    lines = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in found.items())
    git("update-index", "-z", "--index-info", project=project, given=lines, GIT_INDEX_FILE=index)
    return git("write-tree", project=project, GIT_INDEX_FILE=index).strip()


def tops(*versions: Files) -> list[str]:
    """Return the shortest paths that cover the machinery of these versions, for git's command line."""
    found = set()
    for path in (path for version in versions for path in version if is_machinery(path)):
        parts = PurePosixPath(path).parts
        found.add("/".join(parts[: 2 if parts[0] == "stages" else 1]))
    return sorted(found)
