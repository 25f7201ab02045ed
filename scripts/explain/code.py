"""Which files of a stage's image differ from those that a recorded tag was made of: git's history has them."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from scripts.pipeline import images
from scripts.pipeline.images import BASE, Image, Source
from scripts.project import Project

MOST = 200
"""Commits that are looked at: of those that changed the stage's folder or the base's, the newest ones."""
ENTRY = re.compile(rb"(\d{6}) blob ([0-9a-f]+)\t(.*)", re.DOTALL)
KINDS = {b"100644": "file", b"100755": "executable", b"120000": "link"}
Folder = Mapping[str, Source]


class Origin(NamedTuple):
    """The commit whose files give a tag, and what has become of them since, a line a file."""

    commit: str
    files: list[str]


def origin(project: Project, tag: str, wanted: Mapping[str, Image], name: str) -> Origin | None:
    """Return where the image `tag` of the stage `name` comes from; None if no commit that is looked at gives it."""
    history = _History(project)
    for commit in history.commits(name):
        base, own = history.folder(commit, BASE), history.folder(commit, name)
        if own and images.of_stage(name, base, own).tag == tag:
            return Origin(commit, differing(name, (base, own), wanted))
    return None


def since_head(project: Project, wanted: Mapping[str, Image], name: str) -> list[str]:
    """Return what differs from the last commit in the folders of the stage and of the base, a line a file."""
    history = _History(project)
    return differing(name, (history.folder("HEAD", BASE), history.folder("HEAD", name)), wanted)


def differing(name: str, before: tuple[Folder, Folder], wanted: Mapping[str, Image]) -> list[str]:
    """Return a line for each file that is not in base and stage as it was `before`."""
    old_base, new_base = before[0], wanted[BASE].sources
    old_own, new_own = images.of_stage(name, *before).sources, wanted[name].sources
    shapes = [old_own.get(images.DOCKERFILE) == old_base.get(images.SHAPE)]
    shapes += [new_own.get(images.DOCKERFILE) == new_base.get(images.SHAPE)]
    if all(shapes):  # the base's, which is told of there
        old_own, new_own = ({**own, images.DOCKERFILE: Source(b"")} for own in (old_own, new_own))
    return [*_lines(f"stages/{name}", old_own, new_own), *_lines(f"stages/{BASE}", old_base, new_base)]


def _lines(folder: str, before: Folder, now: Folder) -> Iterator[str]:
    for path in sorted({*before, *now}):
        old, new = before.get(path), now.get(path)
        if old != new:
            yield f"{folder}/{path}{_how(old, new)}"


def _how(old: Source | None, new: Source | None) -> str:
    if old is None:
        return " is new"
    if new is None:
        return " is gone"
    return "" if old.data != new.data else f" was of the kind {old.kind}, and is of the kind {new.kind}"


class _History:
    """Reads folders of stages/ in commits of a repository, without looking at the working tree."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._known: dict[str, Folder] = {}

    def commits(self, name: str) -> Iterator[str]:
        """Yield HEAD, and then the commits that changed the stage's folder or the base's, the newest first."""
        listed = self._git("rev-list", f"--max-count={MOST}", "HEAD", "--", f"stages/{name}", f"stages/{BASE}")
        yield from dict.fromkeys([*self._git("rev-parse", "--verify", "HEAD").split(), *listed.split()])

    def folder(self, commit: str, name: str) -> Folder:
        """Return the files of a folder of stages/ that go into its image, as they are in a commit; none if it is not
        there."""
        tree = self._git("rev-parse", "--verify", f"{commit}:stages/{name}").strip()
        if tree not in self._known:
            self._known[tree] = self._read(tree) if tree else {}
        return self._known[tree]

    def _read(self, tree: str) -> Folder:
        entries = self._git("ls-tree", "-r", "-z", "--full-tree", tree).encode(errors="surrogateescape").split(b"\0")
        found = {os.fsdecode(path): (mode, oid) for match in map(ENTRY.fullmatch, entries) if match
                 for mode, oid, path in [match.groups()]}  # fmt: skip
        contents = self._contents([oid for _, oid in found.values()])
        files = {
            path: Source(contents[oid], KINDS.get(mode, "file"))
            for path, (mode, oid) in sorted(found.items())
            if not path.startswith(".git/")
        }
        ignore = files.get(images.IGNORE, Source(b"")).data.decode(errors="replace")
        return images.in_image(files, ignore)

    def _contents(self, oids: list[bytes]) -> dict[bytes, bytes]:
        """Return the contents of blobs, by a single call."""
        data = self._run("cat-file", "--batch", given=b"\n".join(oids) + b"\n")
        found, at = {}, 0
        for oid in oids:
            head, _, _ = data[at:].partition(b"\n")
            start, size = at + len(head) + 1, int(head.split()[-1])
            found[oid], at = data[start : start + size], start + size + 1
        return found

    def _git(self, *arguments: str) -> str:
        return os.fsdecode(self._run(*arguments))

    def _run(self, *arguments: str, given: bytes = b"") -> bytes:
        """Return what git prints; nothing if it fails, as it does where there is no such commit or folder."""
        environ = os.environ | {"GIT_NO_LAZY_FETCH": "1"}
        command = ["git", "-c", "core.fsmonitor=false", *arguments]
        return subprocess.run(command, cwd=self._project.root, env=environ, input=given, capture_output=True).stdout
