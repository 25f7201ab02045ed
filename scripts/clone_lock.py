"""One at a time: who changes a clone's files holds its lock. The kernel drops it with its holder, in any container."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from scripts.project import LOCAL, UserError

PATIENCE = 5  # seconds that a run which was told to stop may take, before another one is refused


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
        _write(lock, f"{by} is going on in this clone since {datetime.now():%Y-%m-%d %H:%M:%S}")
        yield ended_well
        _write(lock, "")


def _acquire(lock: TextIO) -> None:
    waits = os.environ.get("WAIT") == "1"
    end = time.monotonic() + PATIENCE
    told = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock) or "something"
        if not waits and time.monotonic() > end:
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
