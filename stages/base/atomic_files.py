"""Files and folders that are there whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that becomes `path` if the block ends well and is gone if it does not.

    The block makes a file of it, or a folder. Whatever a killed run left there is deleted first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, old = (path.with_name(f".{path.name}.{end}") for end in ("part", "old.part"))
    remove(part)
    remove(old)
    try:
        yield part
        _sync(part)
        if os.path.lexists(path) and (path.is_dir() or part.is_dir()):  # a rename replaces only a file, by a file
            path.rename(old)
        part.replace(path)
    except BaseException:
        remove(part)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete `path`, if it is there: a file, a link itself, a folder with all that is in it, whatever their modes."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    path.chmod(0o700)
    for folder, names, _ in path.walk():  # which looks into each of them only after this has been done
        for name in names:
            (folder / name).chmod(0o700)
    shutil.rmtree(path)


def _sync(path: Path) -> None:
    """Wait until the disk holds `path` and, if it is a folder, what is in it. Raise FileNotFoundError without it."""
    path.stat()
    for each in (path, *path.rglob("*")):
        if each.is_file() or each.is_dir():  # to open a pipe is to wait for its other end
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
