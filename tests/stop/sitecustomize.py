"""Stops a process of a run at a named point, for the tests that kill.

STOP_AT=[STAGE@|STAGE/]FILE:FUNCTION[:N] names the Nth call (the first) of a function: in the container of a stage
(`train@registry.py:_register`), in the process in which DVC works on a stage (`train/_yaml.py:_dump:2`), or in a run's
main process (`heal.py:heal`). (STAGE@full: see the `docker` beside this file.) The process that begins it says so by a
file in .local/stopped (in a stage's container, /stopped) and waits there until that file is deleted.

Python imports this file by its name when it starts. `STOP_AT` puts this folder on the runner's PYTHONPATH, and the
`docker` beside this file puts it on a stage's. The product knows of it in one line of
scripts/host/runner.sh.
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path
from types import CodeType

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("STOPPED", HERE.parent.parent / ".local" / "stopped"))
events = sys.monitoring.events


def watch(process: str, file: str, function: str, nth: int) -> None:
    """Stops at the `nth` call of `function` in a file of that name, in the process of that name."""
    calls = 0

    def begins(code: CodeType, _: int) -> object:
        nonlocal calls
        if (code.co_qualname, Path(code.co_filename).name) != (function, file):
            return sys.monitoring.DISABLE
        if multiprocessing.current_process().name != process:
            return None
        calls += 1
        if calls == nth:
            stop(f"{file}:{function}:{nth}")
        return None

    sys.monitoring.use_tool_id(sys.monitoring.DEBUGGER_ID, "stop")
    sys.monitoring.register_callback(sys.monitoring.DEBUGGER_ID, events.PY_START, begins)
    sys.monitoring.set_events(sys.monitoring.DEBUGGER_ID, events.PY_START)


def stop(point: str) -> None:
    marker = FOLDER / point
    marker.touch()
    while marker.exists():
        time.sleep(0.02)


stage, _, point = os.environ.get("STOP_AT", "").rpartition("@")
if ":" in point and (not stage or "STOPPED" in os.environ):
    process, _, function = point.rpartition("/")
    file, function, *nth = function.split(":")
    watch(process or "MainProcess", file, function, int(nth[0]) if nth else 1)
if point and "STOPPED" not in os.environ:
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{HERE}:{os.environ['PATH'].removeprefix(f'{HERE}:')}"
