"""What the dvc.lock of a commit names, as far as DVC's cache has it: results of before, without running anything."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from scripts.project import Project, UserError
from scripts.registry import comparison, provenance
from scripts.registry.recorded import Lock, cache_path, files, is_inside
from scripts.yaml12 import load_strangers_yaml


def commit_of(name: str, project: Project) -> str:
    """Return the commit that a branch, a tag or a hash names. Raise UserError if it names none."""
    what = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found := provenance.git(*what, project=project, may_fail=True).strip():
        return found
    raise UserError(f"BASE is {name[:60]!r}, which names no commit here; expected one, as in BASE=main: 'git fetch' it")


def lock_at(revision: str, project: Project) -> Lock:
    """Return the entries of a commit's dvc.lock, by stage; none if it has no sound one."""
    text = provenance.git("show", f"{revision}:{provenance.LOCK}", project=project, may_fail=True)
    try:
        stages = (load_strangers_yaml(text, aliases=False) or {}).get("stages") or {}
        return {str(name): entry for name, entry in stages.items() if isinstance(entry, Mapping)}
    except (yaml.YAMLError, ValueError, AttributeError):  # a merge with conflicts, committed
        return {}


def lay_out(paths: Iterable[str], lock: Lock, folder: Path, project: Project) -> Iterator[str]:
    """Copy what a lock names by these paths from DVC's cache into a folder; yield those of which something is missing.

    What the lock does not name is passed over.
    """
    known = files(lock)
    for path in paths:
        digest = known[path][1] if path in known and is_inside(path) else "unknown"
        if digest == "unknown":
            continue
        inside = comparison.contents(digest, project)
        copied = [_copied(md5, folder / path / name, project) for name, md5 in (inside or {}).items()]
        if inside is None or not all(copied):
            yield path


def _copied(md5: str, to: Path, project: Project) -> bool:
    if ".." in to.parts:  # the list of a folder names what is not in it
        return False
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cache_path(md5, project.root), to)
    except OSError:
        return False
    return True
