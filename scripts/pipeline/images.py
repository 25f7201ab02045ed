"""Which images there are, and what each is built from.

A folder of stages/ is an image. All its files that git does not ignore, but tests, Markdown and what a .dockerignore
names, make both the image's tag and its build context: what is not in the tag cannot get into the image.
"""

import hashlib
import io
import os
import re
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from scripts.project import ROOT, UserError

BASE = "base"
DOCKERFILE = "Dockerfile"
SHAPE = "stage.Dockerfile"
"""In the base's folder: the Dockerfile of a stage that has none."""
IGNORE = ".dockerignore"
TESTS = ("test_*", "*_test.*")
IN_NO_IMAGE = (*TESTS, "conftest.py", "*.md")
"""Tests and documents, by the names of files; also whatever lies in a folder `tests`."""
NAME = re.compile(r"[a-z0-9]+((_|__|-+)[a-z0-9]+)*")
TRACKED = re.compile(rb"(\d{6}) [0-9a-f]+ \d\t(.*)", re.DOTALL)
"""A tracked file as `git ls-files --stage` prints it; one that is not tracked has its path alone."""

REPOSITORY = "is a git repository of its own, which cannot get into an image; expected plain files: copy them"


class Source(NamedTuple):
    """A file that goes into an image. `data` is its content; of a link, its target."""

    data: bytes
    kind: str = "file"  # or "executable", "link"


class Image(NamedTuple):
    """An image as its folder describes it: `sources` maps paths relative to the folder to files."""

    name: str
    tag: str
    sources: Mapping[str, Source]

    def labels(self, python: str) -> dict[str, str]:
        """Return the labels of this image, built from the Python image of that name."""
        return {"pipeline.image": self.name, "pipeline.python": python, "pipeline.tag": self.tag}

    def context(self) -> bytes:
        """Return the build context: a tar archive of the sources."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, (data, kind) in self.sources.items():
                entry = tarfile.TarInfo(path)
                entry.mode = 0o644 if kind == "file" else 0o755
                if kind == "link":
                    entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(data)
                    archive.addfile(entry)
                else:
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


def load(stages: Path = ROOT / "stages") -> dict[str, Image]:
    """Return all images by name, the base first. Each file is read once, so that tag and context cannot disagree.

    Raise UserError if git cannot list the files, the base has no Dockerfile, or a file cannot go into an image.
    """
    folders = _folders(stages)
    base = _sources(stages / BASE, folders.pop(BASE, {}))
    if DOCKERFILE not in base:
        raise UserError(f"{stages / BASE} has no {DOCKERFILE}; expected what all images start from: restore it")
    images = {BASE: Image(BASE, f"stages/{BASE}:{digest(base)}", base)}
    return images | {name: of_stage(name, base, _sources(stages / name, files)) for name, files in folders.items()}


def of_stage(name: str, base: Mapping[str, Source], own: Mapping[str, Source]) -> Image:
    """Return the image of a stage whose folder has the files `own`, and the base's folder `base`."""
    if DOCKERFILE not in own and SHAPE in base:
        own = dict(sorted({**own, DOCKERFILE: base[SHAPE]}.items()))
    return Image(name, f"stages/{name}:{digest(base, own)}", own)


def files(stages: Path = ROOT / "stages") -> dict[str, list[str]]:
    """Return the files of each folder of `stages` that git does not ignore, tests among them, in sorted order."""
    return {name: [*found] for name, found in _found(stages).items()}


def is_test(path: str) -> bool:
    """Return whether a file of a stage's folder is a test, by its name."""
    return any(fnmatchcase(PurePosixPath(path).name, pattern) for pattern in TESTS)


def stage_names(stages: Path = ROOT / "stages") -> list[str]:
    """Return the folders of `stages` that are a stage's, in alphabetical order."""
    return [name for name in _folders(stages) if name != BASE]


def files_of(name: str, stages: Path = ROOT / "stages") -> dict[str, Source]:
    """Return all files of a stage's folder that git does not ignore, tests and documents too, in sorted order."""
    listed = {path.partition("/"): mode for path, mode in sorted(_listed(stages).items())}
    return _sources(stages / name, {rest: mode for (folder, _, rest), mode in listed.items() if folder == name})


def digest(*folders: Mapping[str, Source]) -> str:
    """Return the first 12 hex digits of a SHA-256 over paths, kinds and contents: the tag of an image made of them."""
    state = hashlib.sha256()
    for files in folders:
        state.update(b"%d\0" % len(files))
        for path, (data, kind) in files.items():
            state.update(f"{kind}\0".encode() + os.fsencode(path) + b"\0%d\0" % len(data) + data)
    return state.hexdigest()[:12]


def read(path: Path, mode: str = "") -> Source:
    """Return the file as it goes into an image. `mode` is git's, if git is to be believed rather than the file system.

    Raise UserError if it cannot be read, FileNotFoundError if it is gone.
    """
    try:
        if path.is_symlink():
            return Source(os.fsencode(path.readlink()), "link")
        executable = mode == "100755" if mode else path.stat().st_mode & 0o100
        return Source(path.read_bytes(), "executable" if executable else "file")
    except IsADirectoryError:
        problem = REPOSITORY
    except PermissionError:
        problem = f"cannot be read by uid {os.getuid()}; expected a file that may go into the image: change its mode"
    raise UserError(f"{_shown(path)} {problem}")


def on_top(image: Image, kind: str, folder: Path, names: Iterable[str]) -> Image:
    """Return the image that is `image` and what these files of `folder` add; no stage has its name, with a dot."""
    sources = {name: read(folder / name) for name in names}
    name = f"{kind}.{image.name}"
    return Image(name, f"stages/{name}:{digest(image.sources, sources)}-{image.tag.rpartition(':')[2]}", sources)


def _folders(stages: Path) -> dict[str, dict[str, str]]:
    """Return the files that go into images, by folder and path, in sorted order, each with git's mode (see `read`)."""
    counted = {name: _counted(stages / name, files) for name, files in _found(stages).items()}
    for name in counted:
        if counted[name] and not NAME.fullmatch(name):
            raise UserError(f"stages/{name} cannot be a stage's name; expected lower-case letters, digits, - and _")
    return {name: files for name, files in counted.items() if files}


def _found(stages: Path) -> dict[str, dict[str, str]]:
    """Return what git does not ignore below `stages`, by folder and path, in sorted order, with its modes."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path, mode in sorted(_listed(stages).items()):
        name, slash, rest = path.partition("/")
        if slash and not name.startswith(".") and os.path.lexists(stages / path):
            found[name][rest] = mode
        elif not slash and (stages / path).is_dir() and not (stages / path).is_symlink():
            raise UserError(f"{_shown(stages / path)} {REPOSITORY}")
    return found


def _listed(stages: Path) -> dict[str, str]:
    """Return the files below `stages` that git does not ignore, tracked or not, with their modes (see `read`)."""
    command = ["git", "-c", "core.fsmonitor=false", "ls-files", "--stage", "--others", "--exclude-standard", "-z"]
    if not stages.is_dir():
        raise UserError(f"{stages} is not there; expected a folder for each stage: restore it")
    done = subprocess.run(command, cwd=stages, capture_output=True)
    if done.returncode:
        said = " ".join(os.fsdecode(done.stderr).split())
        raise UserError(f"git cannot list the files below {stages}: {said}; expected a git repository: mend it")
    entries = [TRACKED.fullmatch(entry) or (b"", b"", entry) for entry in done.stdout.split(b"\0") if entry]
    believed = _keeps_modes(stages)
    return {os.fsdecode(entry[2]).rstrip("/"): "" if believed else os.fsdecode(entry[1]) for entry in entries}


def _keeps_modes(stages: Path) -> bool:
    """Return whether the file system says which files are executable, and not only git's index (as on Windows)."""
    command = ["git", "config", "--type=bool", "--default=true", "core.fileMode"]
    return subprocess.run(command, cwd=stages, capture_output=True).stdout.strip() != b"false"


def _counted(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    return in_image(files, (folder / IGNORE).read_text(errors="replace") if IGNORE in files else "")


def in_image[T](files: Mapping[str, T], ignore: str) -> dict[str, T]:
    """Return those of the files of a folder that go into its image; `ignore` is the text of its .dockerignore."""
    ignored = _ignored(ignore) if ignore else lambda path: False
    return {path: each for path, each in files.items() if not is_test_or_document(path) and not ignored(path)}


def is_test_or_document(path: str) -> bool:
    """Return whether a file, by its path in a stage's folder, goes into no image."""
    *folders, name = PurePosixPath(path).parts
    return "tests" in folders or any(fnmatchcase(name, pattern) for pattern in IN_NO_IMAGE)


def _ignored(text: str) -> Callable[[str], bool]:
    """Return a function that says whether a .dockerignore names a path; the Dockerfile always counts."""
    from docker.utils.build import PatternMatcher  # a quarter of a second, for the few folders that have one

    lines = [line.strip() for line in text.splitlines()]
    matcher = PatternMatcher([line for line in lines if line and not line.startswith("#")])
    return lambda path: path != DOCKERFILE and matcher.matches(path)


def _sources(folder: Path, files: Mapping[str, str]) -> dict[str, Source]:
    """Return `files` of `folder` with their contents; one that is gone meanwhile (an editor's) does not count."""
    sources = {}
    for path, mode in files.items():
        with suppress(FileNotFoundError):
            sources[path] = read(folder / path, mode)
    for path, (target, kind) in sources.items():
        if kind == "link":
            _check_link(folder, path, os.fsdecode(target))
    return sources


def _check_link(folder: Path, path: str, target: str) -> None:
    there = os.path.normpath(PurePosixPath(path).parent / target)
    if there.startswith(("/", "../")) or there == "..":
        raise UserError(
            f"{_shown(folder / path)} is a link to {target}, which is outside its folder and so not in the image; "
            "expected a file: copy it there"
        )


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
