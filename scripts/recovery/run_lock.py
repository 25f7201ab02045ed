"""One at a time: who changes a clone's files holds its lock. The kernel drops it with its holder, in any container."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from scripts.project import LOCAL, UserError
from scripts.recovery import signals

PATIENCE = 5  # seconds in which a holder whose caller was killed notices that
ENDING_PATIENCE = 60  # seconds in which one that was told to stop has stopped
ENDING = "; it is ending"


@contextmanager
def held(by: str) -> Iterator[bool]:
    """Holds this clone's lock as `by`; yields whether the last holder ended well.

    Raises UserError where another one has it; with WAIT=1 in the environment it waits for that one's end instead.
    """
    path = LOCAL / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        _acquire(lock)
        ended_well = not _holder(lock)
        text = f"{by} is going on in this clone since {datetime.now():%Y-%m-%d %H:%M:%S}"
        _write(lock, text)
        signals.first.append(lambda: _write(lock, text + ENDING))
        try:
            yield ended_well
        finally:
            signals.first.clear()
        _write(lock, "")


def _acquire(lock: TextIO) -> None:
    waits = os.environ.get("WAIT") == "1"
    began = time.monotonic()
    told = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock) or "something"
        patience = ENDING_PATIENCE if holder.endswith(ENDING) else PATIENCE
        if not waits and time.monotonic() - began > patience:
            raise UserError(f"{holder}; expected its end first: wait for it, or call with WAIT=1")
        if waits and not told:
            print(f"{holder}: waiting for its end ...", flush=True)
            told = True
        time.sleep(0.2)


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read()


def _write(lock: TextIO, text: str) -> None:
    lock.truncate(0)
    lock.write(text)
    lock.flush()
