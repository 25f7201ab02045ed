"""The commit that a branch is compared with: its parameters, its dvc.lock, and the small files that this names."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from scripts import transfer
from scripts.pipeline import dvc_adapter
from scripts.pipeline.stage import Pipeline
from scripts.project import Project, UserError
from scripts.registry import comparison, logged, recorded
from scripts.registry.provenance import LOCK
from scripts.registry.recorded import GIVEN, Lock
from scripts.registry.stage_files import TABLE_BYTES
from scripts.yaml12 import load_strangers_yaml


class Base(NamedTuple):
    """`name` is as it was given; `behind` counts its commits that HEAD lacks; `root` is a folder with those of its
    metrics, rows and plots that are at hand, by their paths, and `lacks` names the others."""

    name: str
    commit: str
    behind: int
    lock: Lock
    params: Mapping[str, Any]
    root: Path
    lacks: Sequence[str]


@contextmanager
def of(project: Project, pipeline: Pipeline, name: str) -> Iterator[Base]:
    """Give what there is of the commit `name`; its files are deleted in the end.

    What DVC's cache lacks of them is fetched from the remote, if that has it. Raise UserError for no such commit.
    """
    commit = _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
    if not commit:
        raise UserError(
            f"BASE is {name[:60]!r}, which names no commit here; expected one, as in 'make report BASE=origin/main': "
            "'git fetch' brings it"
        )
    behind = int(_git(project, "rev-list", "--count", f"HEAD..{commit}").strip() or 0)
    lock = _mapping(_git(project, "show", f"{commit}:{LOCK}")).get("stages")
    lock = {str(stage): each for stage, each in (lock or {}).items() if isinstance(each, Mapping)}
    params = dict(logged.leaves(_mapping(_git(project, "show", f"{commit}:params.yaml"))))
    with TemporaryDirectory() as folder:
        lacks = list(_lay_out(project, small_files(pipeline), lock, Path(folder)))
        yield Base(name, commit, behind, lock, params, Path(folder), lacks)


def small_files(pipeline: Pipeline) -> list[str]:
    """Return the paths of metrics, plots, and the rows of models: what is compared of their contents."""
    found = [path for stage in pipeline.stages.values() for path in (*stage.metrics.values(), *stage.plots.values())]
    return list(dict.fromkeys([*found, *(model.rows for model in pipeline.models if model.rows)]))


def _git(project: Project, *arguments: str) -> str:
    command = ["git", "-C", str(project.root), "-c", "core.fsmonitor=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout


def _mapping(text: str) -> Mapping[str, Any]:
    try:
        found = load_strangers_yaml(text, aliases=False) if text else {}
    except (yaml.YAMLError, ValueError, RecursionError):  # a merge with conflicts, committed
        return {}
    return found if isinstance(found, Mapping) else {}


def _lay_out(project: Project, paths: Sequence[str], lock: Lock, folder: Path) -> Iterator[str]:
    """Put files of DVC's cache into a folder by their paths; yield those that are neither there nor on the remote."""
    known = {path: digest for path, (stage, digest) in recorded.files(lock).items() if stage != GIVEN}
    wanted = {
        path: known[path] for path in paths if recorded.is_inside(path) and known.get(path, "unknown") != "unknown"
    }
    _fetch(project, [digest for path, digest in wanted.items() if not _is_here(digest, project)])
    for path, digest in wanted.items():
        inside = comparison.contents(digest, project)
        copied = [_copy(project, md5, folder / path / name) for name, md5 in (inside or {}).items()]
        if inside is None or not all(copied):
            yield path


def _is_here(digest: str, project: Project) -> bool:
    inside = comparison.contents(digest, project)
    return inside is not None and all(recorded.cache_path(md5, project.root).exists() for md5 in inside.values())


def _fetch(project: Project, digests: Sequence[str]) -> None:
    if not digests:
        return
    try:
        with dvc_adapter.repository(project.root) as repo:
            transfer.contact(dvc_adapter.remote_of(repo))
            dvc_adapter.pull_hashes(repo, digests)
    except transfer.FAULTS:  # what is left out is said
        return


def _copy(project: Project, md5: str, to: Path) -> bool:
    """Copy a file of DVC's cache; return whether it is there, is of a size to be read, and is what its name says."""
    cached = recorded.cache_path(md5, project.root)
    if ".." in PurePosixPath(to).parts or not cached.is_file() or cached.stat().st_size > TABLE_BYTES:
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cached, to)
    return dvc_adapter.md5(to) == md5
