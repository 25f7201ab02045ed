"""What `make run` saw when it last had nothing to do. As long as all of that is the same, it has nothing to do again.

DVC needs half a second to say so, and more for each stage; to look at each file of the clone takes a hundredth. A file
counts as the same if its mode, owner, size, inode and both its times are: what was changed has another ctime, which no
program can set. That is more than DVC asks, which goes by size, inode and mtime.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.project import Project, atomic_write

ABOUT_THE_TERMINAL = {"HOSTNAME", "LIFELINE", "TERM", "TERMINAL", "WAIT"}
"""Variables that differ between two runs, and decide nothing."""


class Look:
    """What a run sees, each thing before DVC looks at it: the variables and targets that it was called with, and all
    that is in the clone, but for what git, DVC and this machine keep there for themselves."""

    def __init__(self, project: Project, targets: Sequence[str], environ: Mapping[str, str]) -> None:
        self._path, self._root = project.local / "at-rest.json", project.root
        self._own = [project.root / ".git", project.root / ".dvc" / "tmp", project.cache, project.local]
        self._own_folders = tuple(f"{folder}/" for folder in self._own)  # as text: of many files a Path takes long
        given = sorted((name, environ[name]) for name in environ if name not in ABOUT_THE_TERMINAL)
        self._seen = {
            "asked": _digest([json.dumps([list(targets), given])]),
            "files": _digest(_walk(str(project.root), {*map(str, self._own)})),
        }
        self._elsewhere: dict[str, object] | None = None
        self.found_nothing_to_do = False

    def known(self) -> Any:
        """Return what was noted by a run that saw the same and had nothing to do; None if none did."""
        try:
            noted = json.loads(self._path.read_bytes())
            if {name: noted[name] for name in self._seen} != self._seen or noted["state"] != _state(noted["paths"]):
                return None
            return noted["fact"]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # there is no note, or it is damaged

    def at(self, files: Iterable[str] | None) -> None:
        """Look at those of `files`, all that DVC will look at, that lie elsewhere. None: some are on no disk here."""
        if files is not None:
            paths = [*_git_files(self._root), *self._elsewhere_of(files)]
            self._elsewhere = {"paths": paths, "state": _state(paths)}

    def note(self, fact: Any) -> None:
        """Note what was seen, if there was nothing to do, and a fact that holds as long as it is the same."""
        if self.found_nothing_to_do and self._elsewhere is not None:
            atomic_write(self._path, json.dumps({**self._seen, **self._elsewhere, "fact": fact}))

    def _elsewhere_of(self, files: Iterable[str]) -> list[str]:
        found = {each for path in files for each in (path, os.path.realpath(path)) if not self._is_seen(each)}
        return sorted(found)

    def _is_seen(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self._root}/") and not f"{path}/".startswith(self._own_folders)


def _git_files(root: Path) -> list[str]:
    """Return the files by which git tells what is ignored in stages/, and is in no image then."""
    git = root / ".git"
    if git.is_file():  # a worktree, or a submodule
        git = root / git.read_text().removeprefix("gitdir: ").strip()
    return [str(git / name) for name in ("index", "info/exclude", "commondir")]


def _state(paths: Iterable[str]) -> str:
    """Return a digest of these files and folders, with all that is in them."""
    return _digest(line for path in paths for line in (_line(path, _status(path)), *_walk(path)))


def _walk(folder: str, without: Iterable[str] = ()) -> Iterator[str]:
    """Yield a line for each thing in a folder, however deep. What a link leads to is noted, but not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # it is a file, or is not there
        return
    for entry in entries:
        if entry.path in without:
            continue
        yield _line(entry.path, entry.stat(follow_symlinks=False))
        if entry.is_symlink():
            yield _line(str(Path(entry.path).readlink()), _status(entry.path))
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, without)


def _status(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None


def _line(path: str, status: os.stat_result | None) -> str:
    if status is None:
        return f"{path}\0-\n"
    numbers = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return f"{path}\0{numbers} {status.st_dev} {status.st_ino}\n"


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for line in lines:
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
