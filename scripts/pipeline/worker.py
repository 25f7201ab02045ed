"""One stage, reproduced by DVC in a process of its own.

It is forked, so DVC is imported and dvc.yaml read already; and dvc.yaml is the one that the run began with.
"""

import fcntl
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import NamedTuple

import dvc.stage.run
import tqdm
from dvc.exceptions import DvcException
from dvc.lock import LockBase
from dvc.stage import Stage

from scripts.pipeline import prestart
from scripts.project import UserError
from scripts.recovery import recover, signals

RAN, RESTORED, UNCHANGED, FAILED = "ran", "restored", "unchanged", "failed"
GO, BEGINS = "go", "begins"
FORK = multiprocessing.get_context("fork")
CHUNK = 1 << 16  # bytes
KEPT_LINES = 1000  # of a stage that may print for days
tqdm.tqdm.monitor_interval = 0  # DVC's bars would start a thread, and one who forks should have none that holds a lock


class Outcome(NamedTuple):
    """RAN, RESTORED from DVC's cache, UNCHANGED, or FAILED; and then what was said of it, as lines."""

    result: str
    why: list[str]


class Queue(LockBase):
    """DVC's lock of the repository, for which the workers of a run queue up.

    Whoever finds it taken looks again after half a second, so of eight stages the last one would begin 4 s late.
    """

    def __init__(self, lock: LockBase) -> None:
        super().__init__(lock.lockfile)
        self._lock = lock
        self._queue = os.open(f"{lock.lockfile}.queue", os.O_RDWR | os.O_CREAT, 0o644)

    def lock(self) -> None:
        fcntl.flock(self._queue, fcntl.LOCK_EX)  # the kernel drops it with its holder, however that ends
        self._lock.lock()

    def unlock(self) -> None:
        if self.is_locked:  # not where an interrupt ended the wait for it
            self._lock.unlock()
        fcntl.flock(self._queue, fcntl.LOCK_UN)

    @property
    def is_locked(self) -> bool:
        return self._lock.is_locked

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *error: object) -> None:
        self.unlock()


class Worker:
    """The process for one stage. `prepare` is called in it when, and only if, DVC is about to run the stage's command.

    Where it raises UserError, the stage has FAILED. `printed` are the last lines of its output so far, `runs` is
    whether the command was begun. One that is made `ahead` starts the stage's container and then waits for `go`.
    """

    def __init__(self, stage: Stage, prepare: Callable[[Stage], None], *, ahead: bool = False) -> None:
        self.name, self.since, self.runs = stage.addressing, datetime.now(UTC), False
        self._result: Outcome | None = None
        self.printed: deque[str] = deque(maxlen=KEPT_LINES)
        self._begun = b""
        self.output, write = os.pipe()
        self.told, there = FORK.Pipe()
        arguments = (stage, prepare, write, there, ahead)
        self._process = FORK.Process(target=_work, args=arguments, name=self.name)
        self._process.start()
        os.close(write)
        there.close()
        os.set_blocking(self.output, False)

    def go(self) -> None:
        """Lets one that was made ahead work: what its stage waits for is there."""
        self.since = datetime.now(UTC)
        with suppress(OSError):  # it was killed just now, which its end tells
            self.told.send(GO)

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def listen(self) -> None:
        """Takes note of what it says of itself; to be called when `told` can be read."""
        try:
            while self.told.poll():
                said = self.told.recv()
                if isinstance(said, Outcome):
                    self._result = said
                else:
                    self.runs = True
        except (EOFError, OSError):
            return

    @property
    def ended(self) -> int:
        """A file descriptor that can be read as soon as the process has ended."""
        return self._process.sentinel

    def lines(self, *, all_of_it: bool) -> Iterator[str]:
        """The lines that have come since the last call, with `all_of_it` also one without an end.

        What is no UTF-8 in them is shown as well as it can be.
        """
        while chunk := self._read():
            *whole, self._begun = (self._begun + chunk).split(b"\n")
            yield from self._shown(whole)
        if all_of_it and self._begun:
            yield from self._shown([self._begun])

    def _read(self) -> bytes:
        try:
            return os.read(self.output, CHUNK)
        except BlockingIOError:
            return b""

    def _shown(self, lines: list[bytes]) -> list[str]:
        shown = [line.decode(errors="replace").rstrip("\r") for line in lines]
        self.printed += shown
        return shown

    def outcome(self) -> Outcome:
        """How the stage ended; to be called when it has."""
        self._process.join()
        os.close(self.output)
        self.listen()
        self.told.close()
        if self._result:
            return self._result
        code = self._process.exitcode or 0
        reason = f"was killed (signal {-code})" if code < 0 else f"ended with {code}"
        return Outcome(FAILED, [f"error: dvc {reason}; expected it to end by itself: run again, which goes on"])

    def interrupt(self) -> None:
        """Lets no other command begin: DVC waits for the one that runs."""
        if self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGINT)

    def end_within(self, seconds: float) -> None:
        self._process.join(seconds)
        self._process.kill()
        self._process.join()


def _work(stage: Stage, prepare: Callable[[Stage], None], write: int, told: Connection, ahead: bool) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in set(signals.ENDING) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    os.dup2(write, 1)
    os.dup2(write, 2)
    logging.getLogger("dvc").setLevel(logging.WARNING)  # what it would do next, and the command, which is in dvc.yaml

    def begins(stage: Stage) -> None:
        prepare(stage)
        told.send(BEGINS)

    try:
        with prestart.started(stage) if ahead else nullcontext() as container:
            if ahead:
                told.recv()
            result = reproduce(stage, begins, container)
        told.send(Outcome(result, []))
    except UserError as error:
        told.send(Outcome(FAILED, f"error: {error}".splitlines()))
    except (DvcException, OSError) as error:
        told.send(Outcome(FAILED, f"ERROR: failed to reproduce '{stage.addressing}': {error}".splitlines()))
    except KeyboardInterrupt:
        told.send(Outcome(FAILED, ["error: interrupted"]))


def reproduce(stage: Stage, prepare: Callable[[Stage], None], container: prestart.Container | None = None) -> str:
    """What `dvc repro --single-item` does, without reading all of dvc.yaml again; RAN, RESTORED or UNCHANGED.

    For a process that does nothing else: `prepare` is put before DVC's own function that runs a command, and in its
    place, if it is of use, a container that was started early.
    """
    ran = False
    run_command = dvc.stage.run.cmd_run

    def prepared(stage: Stage, **options) -> None:
        nonlocal ran
        ran = True
        prepare(stage)
        if container:
            if container.run():
                return
            container.give_up()
        run_command(stage, **options)

    dvc.stage.run.cmd_run = prepared
    stage.repo.lock = Queue(stage.repo.lock)
    with stage.repo.lock, stage.repo.scm_context(quiet=True):
        if not stage.reproduce():
            return UNCHANGED
        stage.dump(update_pipeline=False)
        recover.keep_dvc_lock()  # under DVC's lock: no neighbour is writing it
    return RAN if ran else RESTORED
