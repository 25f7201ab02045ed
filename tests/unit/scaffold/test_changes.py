"""Changes to a clone's files are made together, or not at all."""

import os
import signal
from pathlib import Path

import pytest

from scripts.pipeline.images import Source
from scripts.project import UserError
from scripts.scaffold.changes import Changes

NEW = {"a": b"new", "b/c": b"new", "d/e/f": b"new", "d/g": b"new"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return an empty folder, which is all that changes need."""
    root = tmp_path / "clone"
    root.mkdir()
    return root


@pytest.fixture
def changes(clone: Path) -> Changes:
    """Changes of all kinds: of a file, of new ones in old and new folders, of one that goes."""
    (clone / "a").write_text("old")
    (clone / "a").chmod(0o600)
    (clone / "b").mkdir()
    (clone / "gone").mkdir()
    (clone / "gone" / "h").write_text("old")
    changes = Changes(clone)
    for path, content in NEW.items():
        changes.write(path, content)
    changes.write("link", Source(b"a", "link"))
    changes.write("program", Source(b"#!/bin/sh\n", "executable"))
    changes.delete("gone/h")
    return changes


def test_all_changes_are_made(clone, changes, tree):
    """Files have their new contents, an old one keeps its mode, and a folder that is empty then is gone."""
    changes.apply()
    assert {path: (clone / path).read_bytes() for path in NEW} == NEW
    assert (clone / "a").stat().st_mode & 0o777 == 0o600
    assert (clone / "link").readlink() == Path("a")
    assert os.access(clone / "program", os.X_OK) and not os.access(clone / "d/g", os.X_OK)
    assert not (clone / "gone").exists()
    assert [name for name in tree() if "scaffold-" in name] == []


STEPS = 2 + len(NEW) + 1
"""The renames of all changes, each of which may fail."""


@pytest.mark.parametrize("step", range(STEPS + 1))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_a_failure_half_way_leaves_all_as_it_was(clone, changes, tree, monkeypatch, step, error):
    """Whichever change fails, or what is called after the last one, no file, mode or folder differs from before."""
    before, done = tree(), 0

    def failing(method):
        def call(self, target):
            nonlocal done
            done += 1
            if done == step + 1 <= STEPS:
                raise error
            return method(self, target)

        return call

    def then():
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing(Path.replace))
        patch.setattr(Path, "rename", failing(Path.rename))
        with pytest.raises((UserError, KeyboardInterrupt)) as caught:
            changes.apply(then)
    assert done >= min(step + 1, STEPS)
    assert tree() == before
    if isinstance(error, OSError):
        assert "No space left on device" in str(caught.value) and str(caught.value).endswith("nothing was changed")


def test_a_file_that_was_changed_meanwhile_is_refused(clone, changes, tree):
    """What was made from an older content replaces nothing."""
    changes.write("a", b"newer", seen=b"older")
    before = tree()
    with pytest.raises(
        UserError, match=r"^a was changed meanwhile; expected it as it was: nothing was done, call again$"
    ):
        changes.apply()
    assert tree() == before


def test_a_signal_waits_for_the_end(clone, changes):
    """SIGINT between two changes comes when all are made."""
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append((clone / "d/g").exists()))
    try:
        changes.apply(lambda: os.kill(os.getpid(), signal.SIGINT) or seen.append("applied"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["applied", True]
