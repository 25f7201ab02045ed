"""One stage, reproduced by DVC in a process of its own.

It is forked, so DVC is imported and dvc.yaml read already; and dvc.yaml is the one that the run began with.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple

from scripts import settings
from scripts.pipeline import dvc_adapter, prestart, takeover
from scripts.pipeline.stage import Stage
from scripts.project import Project, Unavailable, UserError
from scripts.recovery import signals
from scripts.recovery.dvc_files import keep_dvc_lock, mend_results

RAN, RESTORED, UNCHANGED, FAILED = "ran", "restored", "unchanged", "failed"
GO = "go"
IMAGE, START, BORDER, CACHE = "image", "start", "border", "cache"
"""What a stage that runs comes to, one after the other: its image is seen to, its commands begin, its outputs are taken
over, and DVC takes note of them. One that is restored, or has not changed, comes to none of it."""
FORK = multiprocessing.get_context("fork")
CHUNK, AT_ONCE = 1 << 16, 1 << 22  # bytes
KEPT_LINES = 1000  # of a stage that may print for days
LONGEST_LINE = 1 << 20  # bytes; a line that goes on is shown in pieces
PROGRESS = 2.0  # seconds between two states of a progress bar, which writes over its own line


class Outcome(NamedTuple):
    """RAN, RESTORED from DVC's cache, UNCHANGED, or FAILED; and what was said of it, as lines.

    `passing` is whether it failed for a reason that may pass by itself.
    """

    result: str
    why: list[str]
    passing: bool = False


class Step(NamedTuple):
    """What a stage came to, and when, in seconds since 1970."""

    name: str
    at: float


class Task(NamedTuple):
    """A stage to be reproduced: as DVC has it and, if the template describes it, as the pipeline does.

    `prepare` is called in the stage's process when, and only if, DVC is about to run the stage's command. If it raises
    UserError, the stage has failed.
    """

    project: Project
    dvc: dvc_adapter.Stage
    stage: Stage | None
    prepare: Callable[[], None]

    @property
    def name(self) -> str:
        return self.dvc.addressing


class Worker:
    """The process for one stage.

    `printed` are the last lines of its output so far; `steps` is what it came to. One that is `prestarted` starts the
    stage's container and then waits for `go`.
    """

    def __init__(self, task: Task, *, prestarted: bool = False) -> None:
        self.name, self.since = task.name, datetime.now(UTC)
        self.steps: list[Step] = []
        self._seen = 0  # of them
        self._result: Outcome | None = None
        self.printed: deque[str] = deque(maxlen=KEPT_LINES)
        self._begun, self._state, self._shown_at = b"", b"", 0.0
        self.output, write = os.pipe()
        self.told, there = FORK.Pipe()
        self._process = FORK.Process(target=_work, args=(task, write, there, prestarted), name=self.name)
        self._process.start()
        os.close(write)
        there.close()
        os.set_blocking(self.output, False)

    def go(self) -> None:
        """Let a prestarted one work: what its stage waits for is there."""
        self.since = datetime.now(UTC)
        with suppress(OSError):  # it was killed just now, which its end tells
            self.told.send(GO)

    @property
    def runs(self) -> bool:
        """Return whether the stage's command was begun."""
        return any(step.name == START for step in self.steps)

    def new_steps(self) -> list[Step]:
        """Return the steps that have come since the last call."""
        new = self.steps[self._seen :]
        self._seen += len(new)
        return new

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def listen(self) -> None:
        """Take note of what it says of itself; to be called when `told` can be read."""
        try:
            while self.told.poll():
                said = self.told.recv()
                if isinstance(said, Outcome):
                    self._result = said
                else:
                    self.steps.append(said)
        except (EOFError, OSError):
            return

    @property
    def ended(self) -> int:
        """Return a file descriptor that can be read as soon as the process has ended."""
        return self._process.sentinel

    def lines(self, *, all_of_it: bool) -> Iterator[list[str]]:
        """Yield the lines that have come since the last call, many at a time; with `all_of_it` also one without an end.

        What is not UTF-8 is shown as well as it can be. Of a stage that never stops to print, no more is read at a time
        than AT_ONCE, so that the others have their turn.
        """
        for chunk in itertools.islice(iter(self._read, b""), None if all_of_it else AT_ONCE // CHUNK):
            whole, end, begun = chunk.rpartition(b"\n")
            if end:
                yield self._shown(self._begun + whole)
                self._begun = begun
            else:
                self._begun += chunk
            if state := self._last_whole_state():
                yield self._shown_state(state)
            if len(self._begun) > LONGEST_LINE:
                yield self._shown(self._begun)
                self._begun = b""
        if all_of_it and self._begun:
            yield self._shown(self._begun)

    def state(self) -> list[str]:
        """Return the state of a progress bar as a line, none if it was shown; to be called when nothing more comes."""
        state = self._begun.rstrip(b"\r").rpartition(b"\r")[2]
        is_bar = b"\r" in self._begun
        return self._shown_state(state) if is_bar and self._is_to_be_shown(state) else []

    def _last_whole_state(self) -> bytes:
        """Forget the states of a line that were written over but one; return it, if it is time to show one."""
        states, written_over, begun = self._begun[:-1].rpartition(b"\r")  # a last \r may be half a line break
        if not written_over:
            return b""
        self._begun = b"\r" + begun + self._begun[-1:]
        state = states.rpartition(b"\r")[2]
        return state if self._is_to_be_shown(state) else b""

    def _is_to_be_shown(self, state: bytes) -> bool:
        return state not in (b"", self._state) and time.monotonic() - self._shown_at >= PROGRESS

    def _shown_state(self, state: bytes) -> list[str]:
        shown = self._shown(state)
        self._state, self._shown_at = state, time.monotonic()
        return shown

    def _read(self) -> bytes:
        try:
            return os.read(self.output, CHUNK)
        except BlockingIOError:
            return b""

    def _shown(self, text: bytes) -> list[str]:
        shown = text.decode(errors="replace").split("\n")
        if b"\r" in text:
            shown = [line.rstrip("\r") for line in shown]
            if self._state and shown[0].rpartition("\r")[2] == self._state.decode(errors="replace"):
                del shown[0]  # it is seen already
        self._state = b""
        self.printed += shown
        return shown

    def outcome(self) -> Outcome:
        """Return how the stage ended; to be called when it has."""
        self._process.join()
        os.close(self.output)
        self.listen()
        self.told.close()
        if self._result:
            return self._result
        code = self._process.exitcode or 0
        reason = f"was killed (signal {-code})" if code < 0 else f"ended with {code}"
        why = [f"error: dvc {reason}; expected it to end by itself: 'make run' continues"]
        return Outcome(FAILED, why, passing=code < 0)

    def interrupt(self) -> None:
        """Let no other command begin: DVC waits for the one that runs."""
        if self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGINT)

    def drain(self) -> None:
        """Read what it still prints, in a thread, to no end: whoever writes into a full pipe does not end."""
        os.set_blocking(self.output, True)

        def read() -> None:
            with suppress(OSError):  # closed
                while os.read(self.output, CHUNK):
                    pass

        threading.Thread(target=read, daemon=True).start()

    def end_within(self, seconds: float) -> None:
        self._process.join(seconds)
        self._process.kill()
        self._process.join()


def _work(task: Task, write: int, told: Connection, prestarted: bool) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in set(signals.ENDING) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    os.dup2(write, 1)
    os.dup2(write, 2)
    dvc_adapter.only_warnings()
    try:
        with _container(task) if prestarted else nullcontext() as container:
            if prestarted:
                told.recv()
            result = reproduce(task, container, step=lambda name: told.send(Step(name, time.time())))
        told.send(Outcome(result, []))
    except UserError as error:
        told.send(Outcome(FAILED, f"error: {error}".splitlines(), isinstance(error, Unavailable)))
    except (dvc_adapter.DvcException, OSError) as error:
        told.send(Outcome(FAILED, f"ERROR: failed to reproduce '{task.name}': {error}".splitlines()))
    except KeyboardInterrupt:
        told.send(Outcome(FAILED, ["error: interrupted"]))


def _fetch(stage: dvc_adapter.Stage) -> bool:
    """Fetch the outputs of a result that is known and not here from DVC's remote, if it has them."""
    from scripts import transfer  # only now: a client of S3 takes long to import

    return transfer.fetch_outputs(stage)


def _forget_secrets(stage: Stage | None) -> None:
    """Keep of the secrets those that the stage asks for: its container is started from here."""
    for name in set(settings.SECRETS) - set(stage.env if stage else ()):
        os.environ.pop(name, None)


def _run(task: Task, by_dvc: Callable[[Sequence[str]], None], step: Callable[[str], None]) -> None:
    """Run the commands of dvc.yaml; the one that takes the outputs over, in this process: Python runs already."""
    *commands, last = dvc_adapter.command_of(task.dvc)
    if task.stage and last == task.stage.commands()[-1]:
        by_dvc(commands)
        step(BORDER)
        _take_over(task)
    else:
        by_dvc([*commands, last])


def _take_over(task: Task) -> None:
    limits = takeover.Limits.of(task.name, os.environ)
    takeover.take_over(task.project, task.name, [*task.stage.written.values()], limits)


def _container(task: Task) -> prestart.Started:
    return prestart.started(task.project, task.stage, **dvc_adapter.process_options(task.dvc))


def reproduce(task: Task, container: prestart.Container | None, *, step: Callable[[str], None]) -> str:
    """Reproduce the stage; return RAN, RESTORED or UNCHANGED.

    `step` is told what the stage comes to. A prestarted container, if it can be used, takes the place of the
    `docker run` among its commands.
    """
    ran = False

    def run_commands(by_dvc: Callable[[Sequence[str]], None]) -> None:
        nonlocal ran
        ran = True
        step(IMAGE)
        task.prepare()
        _forget_secrets(task.stage)
        step(START)
        code = container.run() if container else None
        if code is None:
            if container:
                container.give_up()
            _run(task, by_dvc, step)
        elif code:
            raise dvc_adapter.failed(task.dvc, code)
        else:
            step(BORDER)
            _take_over(task)
        step(CACHE)

    try:
        keep = partial(keep_dvc_lock, task.project, just_written=True)
        mend = partial(mend_results, task.project)
        changed = dvc_adapter.reproduce(task.dvc, run_commands, fetch=_fetch, mend=mend, kept=keep)
    finally:
        takeover.remove_tree(task.project.work / task.name)  # there still, if the stage failed
    return (RAN if ran else RESTORED) if changed else UNCHANGED
