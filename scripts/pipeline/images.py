"""Which images there are, and what each is built from.

A folder below stages/ with a Dockerfile is an image. One allow-list says what an image is built from, and makes both
its tag and its build context: what is not in the tag cannot get into the image.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scripts.project import ROOT

BASE = "base"


class Image(NamedTuple):
    """An image as its folder describes it: `sources` maps a path relative to the folder to the file's bytes."""

    name: str
    tag: str
    sources: Mapping[str, bytes]

    def context(self) -> bytes:
        """The build context: a tar archive of the sources."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, data in self.sources.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


def allowed(path: Path) -> bool:
    """Whether a file of a stage's folder goes into its image: Dockerfile, requirements.txt and *.py, but no test."""
    if path.suffix == ".py":
        return not (path.name.startswith("test_") or path.name == "conftest.py")
    return path.name in ("Dockerfile", "requirements.txt")


def sources(folder: Path) -> dict[str, bytes]:
    """The files of `folder` that go into its image, by relative path, in sorted order."""
    files = sorted(path for path in folder.rglob("*") if allowed(path) and path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def digest(*folders: Mapping[str, bytes]) -> str:
    """The first 12 hex digits of a SHA-256 over paths and contents; the tag of an image made from them."""
    state = hashlib.sha256()
    for files in folders:
        for path, data in files.items():
            state.update(f"{path}\0{len(data)}\0".encode() + data)
    return state.hexdigest()[:12]


def stage_names(stages: Path = ROOT / "stages") -> list[str]:
    """The folders of `stages` that describe a stage's image, in alphabetical order."""
    return sorted(path.parent.name for path in stages.glob("*/Dockerfile") if path.parent.name != BASE)


def load(stages: Path = ROOT / "stages") -> dict[str, Image]:
    """All images by name, the base first. Each file is read once, so that tag and context cannot disagree."""
    base = sources(stages / BASE)
    images = {BASE: Image(BASE, f"stages/{BASE}:{digest(base)}", base)}
    for name in stage_names(stages):
        own = sources(stages / name)
        images[name] = Image(name, f"stages/{name}:{digest(base, own)}", own)
    return images
