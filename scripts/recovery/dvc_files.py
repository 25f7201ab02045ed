"""DVC's own files after a kill: its list of locks, dvc.lock, and what is damaged in its cache."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from scripts.project import PROJECT, Project, atomic_write
from scripts.recovery.report import say
from scripts.yaml12 import load_yaml

FILE = re.compile(rb"\bmd5: ([0-9a-f]{32})\n +size: (\d+)\n")
FOLDER = re.compile(rb"\bmd5: ([0-9a-f]{32}\.dir)\n +size: (\d+)\n")
"""An output as dvc.lock and the run-cache name it: a file, and a folder with the size of all its files."""


# --- locks


def clear_locks(project: Project) -> None:
    """Delete DVC's list of who reads and writes what if it names anybody: its processes have ended."""
    if locks_are_held(project):
        project.rwlock.unlink()
        say("cleared the locks of an interrupted DVC")


def locks_are_held(project: Project = PROJECT) -> bool:
    """Return True if DVC's list of locks has any holder, alive or dead."""
    path = project.rwlock
    return path.exists() and not is_idle(path.read_text(errors="replace"))


def is_idle(rwlock: str) -> bool:
    """Return True if DVC's list has no holder. Half a list counts as held."""
    try:
        return not any(json.loads(rwlock).values())
    except (ValueError, AttributeError, RecursionError):
        return False


# --- dvc.lock


def is_whole(lock: str) -> bool:
    """Return True if nothing is missing from a dvc.lock, as far as can be seen: every stage has its outputs, and the
    last one ends with a line break."""
    try:
        stages = load_yaml(lock)["stages"]
        files = [file for stage in stages.values() for file in stage["outs"]]  # the last that DVC writes of a stage
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return lock.endswith("\n") and all("path" in file and "size" in file for file in files)


def keep_dvc_lock(project: Project = PROJECT, *, just_written: bool = False) -> bool:
    """Copy dvc.lock to .local/dvc.lock if it is whole; return whether it is. To be called after each stage.

    What was `just_written`, to its end, by who still holds DVC's lock, need not be read for that: of a thousand stages
    that takes a seventh of a second.
    """
    try:
        text = project.dvc_lock.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    if not just_written and not is_whole(text):
        return False
    atomic_write(project.kept_lock, text)
    return True


def restore_dvc_lock(project: Project, *, ended_well: bool) -> None:
    """Replace a dvc.lock that was cut off by the copy that was kept. Merge conflicts are left to the user."""
    if keep_dvc_lock(project):
        return
    path, sound = project.dvc_lock, sound_dvc_lock(project, ended_well=ended_well)
    if not path.exists() or sound == path.read_bytes():
        return
    if sound:
        atomic_write(path, sound)
        say("restored dvc.lock, which was cut off, from the copy that was kept")
    else:
        path.unlink()
        say("deleted dvc.lock, which was cut off when the first stage ended")


def sound_dvc_lock(project: Project, *, ended_well: bool) -> bytes:
    """Return what dvc.lock holds when a run begins: the file as it is, or the copy that was kept if it was cut off;
    nothing if there is none."""
    try:
        found = project.dvc_lock.read_bytes()
    except FileNotFoundError:
        return b""
    if b"<<<<<<< " in found or is_whole(found.decode(errors="replace")):
        return found
    if project.kept_lock.exists():
        return project.kept_lock.read_bytes()
    return found if ended_well else b""


# --- the cache


def remove_damaged_files(project: Project, *, run_cache: bool = True) -> None:
    """Delete from DVC's cache the files whose size differs from that in dvc.lock or, unless `run_cache` is false, in
    the run-cache.

    DVC trusts whatever is there; what is gone it makes again.
    """
    named_by = _naming(project) if run_cache else [str(project.dvc_lock)]
    for digest, size in sizes(named_by, FILE):
        _remove_if_damaged(project, digest, size)


def remove_damaged_folders(project: Project) -> None:
    """Delete from DVC's cache the damaged files of folders, and lists of a folder's files that cannot be read.

    Files are hashed only if together they do not have the folder's size.
    """
    for digest, size in sizes(_naming(project), FOLDER):
        path = cached(project, digest)
        if not path.exists():
            continue
        try:
            files = [entry["md5"] for entry in json.loads(path.read_bytes())]
        except (ValueError, KeyError, TypeError):
            _remove(project, path)
            continue
        present = [md5 for md5 in files if cached(project, md5).exists()]
        if sum(cached(project, md5).stat().st_size for md5 in present) == size:
            continue
        for md5 in set(present):
            if _md5(cached(project, md5)) != md5:
                _remove(project, cached(project, md5))


def remove_empty_entries(project: Project) -> None:
    """Delete the folders of the run-cache that were made and never filled: DVC fails on them (TypeError)."""
    for folder in (project.cache / "runs").glob("*/*"):
        _remove_if_empty(folder)


def mend_results(project: Project, key: str) -> None:
    """Do for the results that the run-cache has under `key` what is done for all of it after a kill."""
    folder = project.cache / "runs" / key[:2] / key
    for digest, size in sizes(list(_files(str(folder), deep=0)), FILE):
        _remove_if_damaged(project, digest, size)
    if folder.exists():
        _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
        say("removed an empty entry of the run-cache")


def _remove_if_damaged(project: Project, digest: str, size: int) -> None:
    path = cached(project, digest)
    with suppress(FileNotFoundError):
        if path.stat().st_size != size:
            _remove(project, path)


def _naming(project: Project) -> list[str]:
    """Return the files that name what is in DVC's cache: dvc.lock, and each entry of the run-cache."""
    return [str(project.dvc_lock), *_files(str(project.cache / "runs"), deep=2)]


def sizes(naming: Iterable[str], kind: re.Pattern[bytes]) -> list[tuple[str, int]]:
    """Return MD5 and size of each file (or folder) that the files `naming` name, each pair once."""
    named: dict[tuple[bytes, bytes], None] = {}
    for path in naming:
        with suppress(FileNotFoundError, IsADirectoryError):
            named.update(dict.fromkeys(kind.findall(Path(path).read_bytes())))
    return [(digest.decode(), int(size)) for digest, size in named]


def _files(folder: str, deep: int) -> Iterator[str]:
    """Yield what lies so many folders deep in a folder: quicker than a glob."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if deep:
            yield from _files(entry.path, deep - 1)
        else:
            yield entry.path


def cached(project: Project, digest: str) -> Path:
    """Return where DVC's cache has the file of that MD5."""
    return project.cache / "files" / "md5" / digest[:2] / digest[2:]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _remove(project: Project, path: Path) -> None:
    path.unlink()
    say(f"removed a damaged file from DVC's cache ({path.relative_to(project.root)})")
