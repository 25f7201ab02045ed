"""What takes the place of functions of DVC's where those are slow. Each gives what DVC's own gives.

tests/unit/pipeline/test_dvc_adapter.py names what is used of DVC here too.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import dvc.dependency.param
import dvc_data.hashfile.hash
import dvc_objects.fs.local
from dvc_objects.fs import localfs


class Parameters:
    """Reads a file of parameters as DVC does, and once as long as it is the same; hands out copies.

    DVC reads it for each stage, several times, and looks through all names in it for one: of 1,000 stages with a
    section each that takes minutes.
    """

    def __init__(self, load: Callable[..., Any], read: Callable[..., Any]) -> None:
        self._load, self._read = load, read
        self._known: dict[str, tuple[tuple[int, ...], Any]] = {}

    def load(self, fs_path: str, fs: Any, **options: Any) -> Any:
        """Do what DVC's `load_path` does."""
        if options or fs.protocol != "local":
            return self._load(fs_path, fs, **options)
        return deepcopy(self._loaded(fs_path, fs))

    def read(self, fs: Any, path: str, key_paths: Sequence[str] | None = None, **options: Any) -> Any:
        """Do what DVC's `read_param_file` does."""
        if key_paths and options == {"flatten": True} and fs.protocol == "local":
            known = self._loaded(path, fs)
            if all(SECTION.fullmatch(name) and name in known for name in key_paths):
                return {name: deepcopy(known[name]) for name in key_paths}
        return self._read(fs, path, key_paths, **options)

    def _loaded(self, path: str, fs: Any) -> Any:
        status = Path(path).stat()
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if path not in self._known or self._known[path][0] != seen:
            self._known[path] = seen, self._load(path, fs)
        return self._known[path][1]


SECTION = re.compile(r"[\w-]+")
"""The name of a whole section; others may be paths or patterns."""


def copy_file(source: str, target: str, callback: object = None) -> None:
    """Copy a file, in place of DVC's own function.

    Where the file system has no clones, DVC makes the file, fails to clone, deletes it and makes it again. The kernel
    clones by itself where it can.
    """
    with Path(source).open("rb", buffering=0) as given, Path(target).open("wb") as made:
        with suppress(OSError):  # the kernel may not do it from one file system to another
            while os.copy_file_range(given.fileno(), made.fileno(), 1 << 30):
                pass
        shutil.copyfileobj(given, made, 1 << 20)  # the rest


class FileHash:
    """Gives the hash of a file as DVC does; of one that was hashed while it was written, what was found then.

    A file is the same as long as its inode, size and time are, by which DVC's own notes know it too.
    """

    def __init__(self, by_dvc: Callable[..., str]) -> None:
        self._by_dvc = by_dvc
        self._known: dict[tuple[int, ...], str] = {}

    def note(self, written: os.stat_result, digest: str) -> None:
        """Take `digest` for the MD5 of a file that is written no more."""
        self._known[self._same(written)] = digest

    def __call__(self, fname: str, fs: Any = localfs, *, name: str = "md5", **options: Any) -> str:
        if name == "md5" and fs.protocol == "local" and (known := self._known.get(self._same(Path(fname).stat()))):
            return known
        return self._by_dvc(fname, fs, name=name, **options)

    @staticmethod
    def _same(status: os.stat_result) -> tuple[int, ...]:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


file_hash = FileHash(dvc_data.hashfile.hash.file_md5)
parameters = Parameters(dvc.dependency.param.load_path, dvc.dependency.param.read_param_file)


def install() -> None:
    """Let DVC call all of this from now on, where it calls its own."""
    dvc.dependency.param.load_path = parameters.load
    dvc.dependency.param.read_param_file = parameters.read
    dvc_objects.fs.local.copyfile = copy_file
    dvc_data.hashfile.hash.file_md5 = file_hash
