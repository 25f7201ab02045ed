"""Stops a process of a run at a named point, for the tests that kill.

STOP_AT=[CONTAINER@|PROCESS/]FILE:FUNCTION[:N] names the Nth call (the first) of a function. CONTAINER is a stage, whose
container is meant (`train@train.py:fit`), or `score/STAGE` for the one that measures another version of a model.
PROCESS is a stage, for the process in which DVC works on it (`train/_yaml.py:_dump:1`), or `publish` for the publishing
process (`publish/versions.py:_log_files`). With neither it is the run's main process (`recover.py:recover`).
(STAGE@full: see the `docker` beside this file.) The process that begins the function says so by a file in
.local/stopped (in a container, /stopped) and waits there until that file is deleted.

Python imports this file by its name when it starts. `STOP_AT` puts this folder on the runner's PYTHONPATH, and the
`docker` beside this file puts it on a stage's. The product knows of it in one line of scripts/host/runner.sh.
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path
from types import CodeType

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("STOPPED", HERE.parent.parent / ".local" / "stopped"))
PUBLISHER = "scripts.registry.publisher"
events = sys.monitoring.events


def this_process() -> str:
    """Return the name of this process: the publishing one is a program of its own, the stages' are forks."""
    return "publish" if PUBLISHER in sys.orig_argv else multiprocessing.current_process().name


def watch(process: str, file: str, function: str, nth: int) -> None:
    """Stop at the `nth` call of `function` in a file of that name, in the process of that name."""
    calls = 0

    def begins(code: CodeType, _: int) -> object:
        nonlocal calls
        if (code.co_qualname, Path(code.co_filename).name) != (function, file):
            return sys.monitoring.DISABLE
        if this_process() != process:
            return None
        calls += 1
        if calls == nth:
            stop(f"{file}:{function}:{nth}")
        return None

    sys.monitoring.use_tool_id(sys.monitoring.DEBUGGER_ID, "stop")
    sys.monitoring.register_callback(sys.monitoring.DEBUGGER_ID, events.PY_START, begins)
    sys.monitoring.set_events(sys.monitoring.DEBUGGER_ID, events.PY_START)


def stop(point: str) -> None:
    """Say that the point is reached, and wait until the file that says so is gone."""
    marker = FOLDER / point
    marker.touch()
    while marker.exists():
        time.sleep(0.02)


container, _, point = os.environ.get("STOP_AT", "").rpartition("@")
if ":" in point and (not container or "STOPPED" in os.environ):
    process, _, function = point.rpartition("/")
    file, function, *nth = function.split(":")
    watch(process or "MainProcess", file, function, int(nth[0]) if nth else 1)
if point and "STOPPED" not in os.environ:
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{HERE}:{os.environ['PATH'].removeprefix(f'{HERE}:')}"
