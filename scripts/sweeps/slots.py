"""Where trials run: a working copy of the pipeline for each job, which shares DVC's cache, and a process in it.

A copy is a DVC repository with dvc.yaml, parameters of its own and the files that no stage makes, which are links. What
a stage of an earlier trial made is still there for the next one, or comes from the cache by DVC's own run-cache. A copy
holds nothing that is not in the cache as well: it is made anew each time.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from scripts import transfer
from scripts.pipeline import dvc_adapter, execution, prestart, takeover
from scripts.pipeline.containers import docker, is_of_a_part, stop
from scripts.pipeline.stage import Pipeline
from scripts.pipeline.worker import FORK
from scripts.project import Project, Unavailable, UserError, write_if_changed
from scripts.recovery import signals

GRACE = 30  # seconds that a process has to stop its stage
SEE = "see above or .local/logs/run.log"
"""How a run ends the sentence on a stage that failed; a trial has another log."""


class Ended(NamedTuple):
    """How the stage of a trial ended: the stages that ran, or the `sentence` that says why it failed.

    `passing` is whether that was no fault of the stage, which may end well the next time.
    """

    ran: list[str]
    sentence: str = ""
    passing: bool = False
    seconds: float = 0.0


class Slot:
    """A working copy in `folder`, in which one stage at a time runs."""

    def __init__(self, folder: Path, number: int) -> None:
        self.project, self._number = Project(folder), number

    def make(self, project: Project, repo: dvc_adapter.Repo, pipeline: Pipeline, given: Mapping[str, str]) -> None:
        """Make it, with links to the files `given`, which no stage makes."""
        folder = self.project.root
        folder.mkdir(parents=True)
        dvc_adapter.make_working_copy(repo, folder)
        self.project.local.mkdir(mode=0o700)
        self.project.dvc_yaml.write_text(pipeline.text)
        for path in given:
            link(project.root / path, folder / path)

    def start(self, stage: str, params: str, pipeline: Pipeline, log: Path, main: Project) -> "Process":
        """Begin to bring a stage (if it is empty, all of them) up to date with the text of a params.yaml."""
        return self._begin(lambda: _reproduced(self.project, stage, pipeline), params, log, main)

    def fetch(self, stage: str, file: str, params: str, log: Path, main: Project) -> "Process":
        """Begin to put a file that a stage has written elsewhere, with the text of a params.yaml, into its place."""
        return self._begin(lambda: _fetched(stage, file), params, log, main)

    def _begin(self, do: Callable[[], Ended], params: str, log: Path, main: Project) -> "Process":
        write_if_changed(self.project.params, params)
        return Process(self.project, f"{os.environ['CLONE']}.{self._number}", do, log, main)


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a folder of the same files; a link to it where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = Path(os.path.realpath(source))
    try:
        prestart.link(real, target)
    except OSError:  # another file system
        takeover.remove_tree(target)
        target.symlink_to(real)


class Process:
    """What is done in a working copy, as bringing a stage up to date, by a process that was forked for it."""

    def __init__(self, project: Project, clone: str, do: Callable[[], Ended], log: Path, main: Project) -> None:
        self._log, self._main, self._began = log, main, time.monotonic()
        self._told, there = FORK.Pipe(duplex=False)
        self._process = FORK.Process(target=_work, args=(project, clone, do, log, there))
        self._process.start()
        there.close()

    @property
    def ended(self) -> int:
        """Return a file descriptor that can be read as soon as the process has ended."""
        return self._process.sentinel

    def outcome(self) -> Ended:
        """Return how it ended; to be called when it has."""
        self._process.join()
        try:
            found: Ended = self._told.recv()
        except EOFError:
            code = self._process.exitcode
            why = f"the process of a trial ended with {code}; expected it to end by itself: {SEE}"
            found = Ended([], why, passing=True)
        self._told.close()
        log = self._log.relative_to(self._main.root)
        return found._replace(
            sentence=found.sentence.replace(SEE, f"see {log}"), seconds=round(time.monotonic() - self._began, 3)
        )

    def stop(self) -> None:
        """Let it stop its stage, and end."""
        if self._process.is_alive():
            self._process.terminate()

    def end(self) -> None:
        self._process.join(GRACE)
        self._process.kill()
        self._process.join()


def _work(project: Project, clone: str, do: Callable[[], Ended], log: Path, told: Connection) -> None:
    """Do it in a process of its own, whose containers bear the name `clone`: to stop one trial's stops no other's."""
    signals.on_signal.clear()
    signals.raise_stopped()
    os.environ["CLONE"] = clone
    os.environ.pop("TERMINAL", None)
    os.environ["DVC_SITE_CACHE_DIR"] = str(project.local / "dvc-site-cache")
    os.chdir(project.root)
    with log.open("a") as file, redirect_stdout(file):
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        told.send(_ended(do))


def _reproduced(project: Project, stage: str, pipeline: Pipeline) -> Ended:
    return Ended(execution.reproduce(project, pipeline, {}, [stage] if stage else []))


def _fetched(stage: str, file: str) -> Ended:
    """Put a file that a stage has written elsewhere into its place.

    Raise Unavailable if DVC's remote lacks it, or fails; UserError if it has two results of one stage.
    """
    try:
        with transfer.repository("fetched", "sweep") as repo:
            with dvc_adapter.errors():
                planned = dvc_adapter.plan(repo, [stage])
            results = dvc_adapter.Results(repo, planned)
            if all(map(results.find, planned.stages)) and results.give(file):
                return Ended([])
    except dvc_adapter.Ambiguous as error:
        raise UserError(
            f"{error.stage} has two results of the same command and inputs on DVC's remote; expected the same bytes "
            "each time: 'make check' says what could be the cause"
        ) from None
    raise Unavailable(f"DVC's remote lacks {file}; expected what {stage} wrote elsewhere: name one remote for both")


def _ended(do: Callable[[], Ended]) -> Ended:
    try:
        return do()
    except UserError as error:
        return Ended([], str(error), isinstance(error, Unavailable) or no_room(str(error)))
    except OSError as error:
        return Ended([], str(error), passing=True)
    except signals.Stopped:
        return Ended([], "interrupted", passing=True)


def no_room(sentence: str) -> bool:
    """Return whether a stage failed on a full disk."""
    return any(os.strerror(number) in sentence for number in (errno.ENOSPC, errno.EDQUOT))


def remove(folder: Path) -> None:
    """Delete all working copies below `folder`, and stop what still runs in them."""
    listing = ("container", "ls", "--all", "--filter", "label=pipeline.clone", "--format")
    found = (line.split("\t") for line in docker(*listing, '{{.ID}}\t{{.Label "pipeline.clone"}}').splitlines())
    stop([number for number, clone in found if is_of_a_part(clone)], grace=0)
    with suppress(FileNotFoundError):
        takeover.remove_tree(folder)
    shutil.rmtree(folder, ignore_errors=True)
