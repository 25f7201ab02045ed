"""One at a time: who changes a clone's files holds its lock. The kernel drops it with its holder, in any container."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from scripts.project import PROJECT, Project, UserError
from scripts.recovery import signals

PATIENCE = 5  # seconds in which a holder whose caller was killed notices it; 0.6 beside 20 busy processes
ENDING_PATIENCE = 600  # seconds in which a holder that says that it is ending has ended, on the slowest machine
SAYS_AFTER = 1  # second
ENDING = "; it is ending"


@contextmanager
def held(by: str, project: Project = PROJECT) -> Iterator[bool]:
    """Hold this clone's lock as `by`; yield whether the last holder ended well.

    Raise UserError if another one has it; with WAIT=1 in the environment, wait for that one's end instead.
    """
    path = project.local / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        _acquire(lock)
        ended_well = not _holder(lock)
        text = f"{by} is going on in this clone since {datetime.now():%Y-%m-%d %H:%M:%S}"
        _write(lock, text)
        signals.on_signal.append(lambda: _write(lock, text + ENDING))
        try:
            yield ended_well
        finally:
            signals.on_signal.clear()
        _write(lock, "")


@contextmanager
def watched(project: Project = PROJECT) -> Iterator[bool]:
    """Keep whoever would hold the clone's lock waiting, and change nothing; yield whether the last holder ended well.

    Raise UserError, or wait, as `held` does.
    """
    with (project.local / "run.lock").open("a+") as lock:
        _acquire(lock, fcntl.LOCK_SH)
        yield not _holder(lock)


def _acquire(lock: TextIO, kind: int = fcntl.LOCK_EX) -> None:
    waits = os.environ.get("WAIT") == "1"
    began = time.monotonic()
    said = ""
    while True:
        try:
            return fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock)
        waited = time.monotonic() - began
        ending = not holder or holder.endswith(ENDING)  # nothing is written there at its very beginning and end
        if not waits and waited > (ENDING_PATIENCE if ending else PATIENCE):
            raise UserError(
                f"{holder or 'a command is ending'}; expected its end first: wait for it, or call with WAIT=1"
            )
        if holder not in ("", said) and (waits or (ending and waited > SAYS_AFTER)):
            print(f"{holder}: waiting for its end ...", flush=True)
            said = holder
        time.sleep(0.2)


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read()


def _write(lock: TextIO, text: str) -> None:
    lock.truncate(0)
    lock.write(text)
    lock.flush()
