"""Lets optional rooms hear of a run: one that has a listener.py is told of each, and can neither stop nor fail it.

One that has a notes.py may add a few words to the record of the decision on a model.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from scripts.pipeline.console import printable, tell
from scripts.pipeline.execution import Listener
from scripts.pipeline.live_metrics import LiveMetric
from scripts.pipeline.stage import Model, Pipeline
from scripts.project import ROOT, Project, UserError

WELL, FAILED, INTERRUPTED = "well", "failed", "interrupted"
LOG = "rooms.log"
LOGGER = logging.getLogger(__name__)
LOGGER.propagate = False  # a terminal gets a line, and the log the rest


class Room(Protocol):
    """What `listen(project, pipeline, targets)` of a room's listener.py returns. None of the calls may wait."""

    def fact(self, kind: str, **values: Any) -> None:
        """Called for each fact of the run: those of `Listener.fact`, and of `Heard.fact`."""

    def progress(self) -> str:
        """Called as `Listener.progress` is; a room with nothing to say of it may leave it out."""

    def end(self, outcome: str, error: str) -> None:
        """Called once, when all that the run began has ended: WELL, FAILED or INTERRUPTED, and why."""


def notes(project: Project, pipeline: Pipeline, model: Model, root: Path = ROOT) -> str:
    """Return what the rooms have to say of a model that is about to be published: `note(project, pipeline, model)` of a
    room's notes.py returns a few words, or none. One that fails says nothing, and that is said."""
    found = []
    for path in sorted(root.glob("scripts/*/notes.py")):
        try:
            found.append(import_module(f"scripts.{path.parent.name}.notes").note(project, pipeline, model))
        except Exception as error:
            with _kept(project.logs / LOG):
                LOGGER.exception("%s", path.parent.name)
            why = _words_of(error)
            tell(f"note: scripts/{path.parent.name}/ has nothing to say of {model.name} ({why}): see .local/logs/{LOG}")
    return "; ".join(filter(None, found))


class Heard:
    """A run's listener: passes on what happens to the publisher and to the rooms."""

    def __init__(self, rooms: Mapping[str, Callable[[], Room]], log: Path) -> None:
        self._rooms: dict[str, Room] = {}
        self._log = log
        self._publisher: Listener | None = None
        for name, listen in rooms.items():
            self._guard(name, lambda name=name, listen=listen: self._rooms.update({name: listen()}))

    def and_by(self, publisher: Listener) -> "Heard":
        """Let the publisher hear of the run too; what goes wrong there is no room's, and passes."""
        self._publisher = publisher
        return self

    def begin(self) -> None:
        self._publisher.begin()

    def metric(self, stage: str, metric: LiveMetric) -> None:
        self._publisher.metric(stage, metric)

    def ended(self, stage: str) -> None:
        self._publisher.ended(stage)

    def fact(self, kind: str, **values: Any) -> None:
        """Tell publisher and rooms a fact: one of `Listener.fact`, or what the run itself knows.

        published: `models`, a mapping for each, as of scripts/registry/receipts.py's Published.
        """
        if self._publisher:
            self._publisher.fact(kind, **values)
        for name, room in list(self._rooms.items()):
            self._guard(name, lambda room=room: room.fact(kind, **values))

    def progress(self) -> str:
        """Return what the rooms say of how far the run is."""
        found: list[str] = []
        for name, room in list(self._rooms.items()):
            if hasattr(room, "progress"):
                self._guard(name, lambda room=room: found.append(room.progress()))
        return ", ".join(filter(None, found))

    def end(self, outcome: str, error: str = "") -> None:
        for name, room in list(self._rooms.items()):
            self._guard(name, lambda room=room: room.end(outcome, error))

    def _guard(self, name: str, call: Callable[[], object]) -> None:
        """Call a room; if that fails say so in a line, leave it out from then on, and keep the traceback in a log."""
        try:
            call()
        except Exception as error:
            self._rooms.pop(name, None)
            with _kept(self._log):
                LOGGER.exception("%s", name)
            why = _words_of(error)
            tell(f"note: scripts/{name}/ follows this run no longer ({why}), which goes on: see .local/logs/{LOG}")


def _words_of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(printable(error).split())[:200]}"


class _Handler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: on a full disk the run says what it thinks of that itself."""


@contextmanager
def _kept(log: Path) -> Iterator[None]:
    """Let LOGGER write into `log`, if it can be written."""
    handler: logging.Handler = logging.NullHandler()
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        handler = _Handler(log, mode="w")
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        with suppress(OSError):
            handler.close()


@contextmanager
def hearing(project: Project, pipeline: Pipeline, targets: Sequence[str], root: Path = ROOT) -> Iterator[Heard]:
    """Give the listener of a run, whose end, however it ends, is the end of the block."""
    found = {path.parent.name: _listen(path, project, pipeline, targets) for path in root.glob("scripts/*/listener.py")}
    heard = Heard(found, project.logs / LOG)
    try:
        yield heard
    except UserError as error:
        heard.end(FAILED, str(error))
        raise
    except KeyboardInterrupt as error:
        heard.end(INTERRUPTED, getattr(error, "name", ""))
        raise
    except Exception as error:
        heard.end(FAILED, f"{type(error).__name__}: {error}")
        raise
    heard.end(WELL)


def _listen(path: Path, project: Project, pipeline: Pipeline, targets: Sequence[str]) -> Callable[[], Room]:
    return lambda: import_module(f"scripts.{path.parent.name}.listener").listen(project, pipeline, targets)
