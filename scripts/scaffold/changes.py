"""Changes to the files of a clone: all of them are made, or none."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.pipeline.images import Source
from scripts.project import UserError
from scripts.recovery.signals import ENDING


class Changes:
    """What is to become of files below `root`, by their paths in it: a new content, or None for one that goes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._new: dict[str, Source | None] = {}
        self._seen: dict[str, bytes] = {}

    def write(self, path: str, new: Source | bytes, *, seen: bytes | None = None) -> None:
        """Let `path` have this content. `seen` is the old one that it was made from: a file that differs is refused."""
        self._new[path] = Source(new) if isinstance(new, bytes) else new
        if seen is not None:
            self._seen[path] = seen

    def delete(self, path: str) -> None:
        """Let `path`, a file, be gone, and its folder if nothing but caches of Python are left there."""
        self._new[path] = None

    @property
    def written(self) -> list[str]:
        return [path for path, new in self._new.items() if new is not None]

    @property
    def deleted(self) -> list[str]:
        return [path for path, new in self._new.items() if new is None]

    def apply(self, then: Callable[[], object] = lambda: None) -> None:
        """Make all changes, then call `then`, which may refuse the result by an error.

        Whatever is raised, the files are as they were. New contents and copies of the old ones are written first, so
        that all that is left to do, or to undo, are renames, which need no room; no signal comes between.
        Raise UserError if a file cannot be written, or was changed meanwhile.
        """
        try:
            with _uninterrupted():
                self._apply(then)
        except OSError as error:
            path = error.filename2 or error.filename or self.root
            shown = os.path.relpath(path, self.root) if Path(path).is_absolute() else path
            raise UserError(
                f"{shown} cannot be changed ({error.strerror}); expected files that uid {os.getuid()} may write, on a "
                "disk with room: mend that and call again; nothing was changed"
            ) from None

    def _apply(self, then: Callable[[], object]) -> None:
        # Beside what is changed: a rename leads into no other file system.
        aside = Path(tempfile.mkdtemp(prefix=".scaffold-", dir=self.root))
        undo: list[Callable[[], object]] = []
        try:
            for number, (path, new) in enumerate(self._new.items()):
                self._prepare(self.root / path, new, aside / f"{number}.new", aside / f"{number}.old")
            for number, (path, new) in enumerate(self._new.items()):
                self._change(self.root / path, new, aside / f"{number}.new", aside / f"{number}.old", undo)
            then()
        except BaseException:
            for step in reversed(undo):
                step()
            shutil.rmtree(aside)
            raise
        for path, new in self._new.items():
            if new is None:
                _remove_what_is_empty((self.root / path).parent, self.root)
        shutil.rmtree(aside)

    def _prepare(self, target: Path, new: Source | None, fresh: Path, old: Path) -> None:
        path = str(target.relative_to(self.root))
        if path in self._seen and target.read_bytes() != self._seen[path]:
            raise UserError(f"{path} was changed meanwhile; expected it as it was: nothing was done, call again")
        if new is None:
            return
        if new.kind == "link":
            fresh.symlink_to(os.fsdecode(new.data))
        else:
            fresh.write_bytes(new.data)
            fresh.chmod(0o755 if new.kind == "executable" else 0o644)
        if target.exists():
            shutil.copymode(target, fresh)
            shutil.copy2(target, old)

    def _change(self, target: Path, new: Source | None, fresh: Path, old: Path, undo: list) -> None:
        if new is None:
            target.rename(old)
            undo.append(lambda: old.rename(target))
            return
        for folder in reversed([each for each in target.parents if not each.exists()]):
            folder.mkdir()
            undo.append(folder.rmdir)
        undo.append((lambda: old.replace(target)) if old.exists() else (lambda: target.unlink(missing_ok=True)))
        fresh.replace(target)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C, and whatever else ends a verb, wait for the end of the block."""
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)
        for number in came[:1]:
            signal.raise_signal(number)


def _remove_what_is_empty(folder: Path, root: Path) -> None:
    """Delete `folder` and those around it, up to `root`, as long as nothing but caches of Python is in them."""
    while folder != root and folder.is_dir():
        if any(path.name != "__pycache__" for path in folder.iterdir()):
            return
        shutil.rmtree(folder)
        folder = folder.parent
