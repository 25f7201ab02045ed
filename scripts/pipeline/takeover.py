"""Looks at what a stage left before anything else reads it, and takes over the outputs that it declares.

A stage's container writes into a folder of its own, `.local/work/STAGE`. Its code may be a dependency gone bad, so what
lies there is a stranger's: only declared outputs are moved out of it, by name, and none that leads elsewhere. It is the
last command of each stage in dvc.yaml:

    python -m scripts.pipeline.takeover STAGE PATH...
"""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from scripts import settings
from scripts.pipeline.console import printable
from scripts.pipeline.stage import prefix
from scripts.project import Project, UserError

DVCS_OWN = {"dvc.yaml", "dvc.lock", ".dvc", ".dvcignore", ".git"}
"""What DVC or git would take for a pipeline, or for a repository, wherever they find it; and files that end in .dvc."""
HOLES = 1 << 30  # bytes that a file may have and not hold: beyond, it fills a disk when it is copied
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Limits(NamedTuple):
    """How many bytes and how many files the outputs of a stage may have; None: no limit."""

    size: int | None = None
    files: int | None = None

    @classmethod
    def of(cls, stage: str, environ: Mapping[str, str]) -> Self:
        """Return the limits of a stage. Raise UserError for one that cannot be read."""
        names = [f"{prefix(stage)}_OUTPUT_{kind}" for kind in ("SIZE", "FILES")]
        size, files = (environ.get(name, "0") for name in names)
        if settings.size(size) is None:
            raise UserError(f"{names[0]} is {size}; expected one like 64g (0: no limit): correct it in .env")
        if not files.isdecimal():
            raise UserError(f"{names[1]} is {files}; expected a number (0: no limit): correct it in .env")
        return cls(settings.size(size) or None, int(files) or None)


class _Found(NamedTuple):
    path: Path
    status: os.stat_result


def take_over(project: Project, stage: str, paths: Sequence[str], limits: Limits) -> None:
    """Move the outputs `paths`, which are relative to the project, from the stage's own folder to their places.

    Whatever else is in that folder is deleted. An output that is missing is left to DVC, which says so. Raise UserError
    if one is no file or folder of files, or is too large (then none is moved), or cannot be written.
    """
    work = project.work / stage
    look(work, stage, paths, limits)
    for path in paths:
        try:
            if (work / path).exists():
                _move(work / path, project.root / path)
        except OSError as error:
            raise UserError(
                f"{path}, which stage {stage} wrote, cannot be put in its place: {error.strerror}; expected a folder "
                f"that uid {os.getuid()} may write, with free space: mend that and run again"
            ) from None
    remove_tree(work)


def look(work: Path, stage: str, paths: Sequence[str], limits: Limits) -> None:
    """Raise UserError if one of the outputs `paths` below `work` is not what may be taken over.

    Give the owner all rights on what is. Nothing that is looked at is followed or opened but to find its holes.
    """
    size = files = 0
    for path in paths:
        for found in _walk(work, path):
            files += 1
            size += found.status.st_size if stat.S_ISREG(found.status.st_mode) else 0
            if fault := _fault(found):
                shown = printable(str(found.path.relative_to(work)))
                raise UserError(f"stage {stage} left {fault} as {shown}; expected a file, or a folder of files: {MEND}")
            if limits.files is not None and files > limits.files:
                raise _too_much(stage, f"more than {limits.files} files", "FILES")
            if limits.size is not None and size > limits.size:
                raise _too_much(stage, f"more than {limits.size / (1 << 30):.3g} GiB", "SIZE")


MEND = "correct what the stage writes"


def _too_much(stage: str, found: str, limit: str) -> UserError:
    name = f"{prefix(stage)}_OUTPUT_{limit}"
    return UserError(f"stage {stage} left {found} as its outputs; expected at most that: correct it, or set {name}")


def _walk(work: Path, path: str) -> Iterator[_Found]:
    """Yield an output, the folders that lead to it, and all that is below it; nothing if it is not there."""
    place = work
    for part in PurePosixPath(path).parts:
        place /= part
        try:
            found = _Found(place, place.lstat())
        except FileNotFoundError:
            return
        yield found
        if not stat.S_ISDIR(found.status.st_mode):
            return
    left = [place]
    while left:
        folder = left.pop()
        _allow(folder, folder.lstat(), 0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                found = _Found(Path(entry.path), entry.stat(follow_symlinks=False))
                yield found
                if stat.S_ISDIR(found.status.st_mode):
                    left.append(found.path)


def _fault(found: _Found) -> str:
    """Return what is wrong with a file or folder, in a few words; empty if nothing is."""
    status, name = found.status, found.path.name
    if not name.isprintable():
        return "a name that cannot be printed"
    if name in DVCS_OWN or name.endswith(".dvc"):
        return "a file of DVC's or git's own"
    if stat.S_ISDIR(status.st_mode):
        return ""
    if not stat.S_ISREG(status.st_mode):
        return KINDS.get(stat.S_IFMT(status.st_mode), "something that is no file")
    if status.st_nlink != 1:
        return "a file with a second name (a hard link)"
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "a program that changes its user (setuid, setgid)"
    _allow(found.path, status, 0o600)
    if status.st_size - status.st_blocks * 512 > HOLES and _holes(found.path) > HOLES:
        return f"a file of {status.st_size / (1 << 30):.3g} GiB that is mostly holes (a sparse file)"
    return ""


def _allow(path: Path, status: os.stat_result, mode: int) -> None:
    """Give the owner the rights `mode`: a stage may have left a folder that nobody may enter."""
    if status.st_mode & mode != mode:
        path.chmod(stat.S_IMODE(status.st_mode) | mode)


def _holes(path: Path) -> int:
    """Return the bytes of a file that were never written. A file system that knows none has none."""
    holes = place = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        end = os.fstat(descriptor).st_size
        while place < end:
            hole = os.lseek(descriptor, place, os.SEEK_HOLE)
            place = os.lseek(descriptor, hole, os.SEEK_DATA) if hole < end else end
            holes += place - hole if hole < end else 0
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data after this hole
            raise
        holes += end - hole
    finally:
        os.close(descriptor)
    return holes


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():  # DVC deletes outputs first; a typed command need not have
        remove_tree(target)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = target.with_name(f".{target.name}.part")  # on another disk, which a person may have put there
        shutil.copytree(source, part) if source.is_dir() else shutil.copyfile(source, part)
        part.replace(target)


def remove_tree(folder: Path) -> None:
    """Delete a folder, whatever modes a stage gave to what is in it. Raise UserError if that is not possible."""
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                try:
                    path.chmod(0o700)
                except PermissionError:  # the engine's, where something was mounted: empty, so it can be deleted
                    continue
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise UserError(f"{folder} cannot be deleted; expected files of the clone's owner: delete it as their owner")


def main(arguments: list[str]) -> int:
    """Take over the outputs that are named after the stage; return the exit code."""
    stage, *paths = arguments
    try:
        take_over(Project(Path.cwd()), stage, paths, Limits.of(stage, os.environ))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
