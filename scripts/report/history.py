"""The runs that a clone keeps: a folder each below .local/runs, named by when it began."""

import fcntl
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.project import Project, UserError, atomic_write
from scripts.report import facts

MOST_RUNS = 200
"""That are kept; of older ones nothing is left."""
EVENTS, RUN, PAGE = "events.jsonl", "run.json", "report.html"
NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?")


def folder(project: Project) -> Path:
    return project.local / "runs"


def begin(project: Project) -> Path:
    """Make the folder of a run that begins now; delete those of the oldest ones."""
    top = folder(project)
    name = f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S}"
    places = [top / name, *(top / f"{name}-{number}" for number in range(2, 1000))]
    place = next(place for place in places if not place.exists())
    for old in _folders(project)[: 1 - MOST_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _folders(project: Project) -> list[Path]:
    """Return the folders of all runs, the last one last."""
    if not folder(project).is_dir():
        return []
    found = [path for path in folder(project).iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (path.name[:19], len(path.name), path.name))


def runs(project: Project) -> list[dict[str, Any]]:
    """Return what is known of each run, the last one last; of one that was killed, what it had noted by then."""
    return list(backwards(project))[::-1]


def backwards(project: Project) -> Iterator[dict[str, Any]]:
    """Yield what is known of each run, the last one first."""
    return (found for path in reversed(_folders(project)) if (found := of(path, project)))


def of(path: Path, project: Project) -> dict[str, Any] | None:
    """Return what is known of the run in a folder; None if that is nothing."""
    try:
        found = json.loads((path / RUN).read_bytes())
        return found if found["schema"] == facts.SCHEMA else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        events = facts.read(path / EVENTS)
        if not events:
            return None
    going_on = path == _folders(project)[-1] and _is_locked(project)
    return facts.run_of(path.name, events, outcome=facts.RUNNING if going_on else facts.KILLED)


def _is_locked(project: Project) -> bool:
    """Return whether a command holds the clone's lock."""
    path = project.local / "run.lock"
    if not path.exists():
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def named(project: Project, name: str) -> dict[str, Any]:
    """Return the run whose time begins with `name`, the last one if that is empty. Raise UserError."""
    found = runs(project)
    if not found:
        raise UserError("there is no run here yet; expected one that did something: 'make run' first")
    fitting = [run for run in found if run["id"].startswith(name)]
    if not fitting:
        raise UserError(f"there is no run {name[:60]!r}; expected a time of 'make log', like {found[-1]['id']}")
    if len(fitting) > 1 and name and name not in (run["id"] for run in fitting):
        raise UserError(
            f"{len(fitting)} runs began at {name!r}; expected one: give more of its time, as 'make log' has it"
        )
    return next((run for run in fitting if run["id"] == name), fitting[-1])


def write(path: Path, run: dict[str, Any], page: str) -> None:
    """Keep what is known of a run, and its page; what it had noted on the way is in them."""
    atomic_write(path / RUN, json.dumps(run, indent=1, allow_nan=False) + "\n")
    atomic_write(path / PAGE, page)
    (path / EVENTS).unlink(missing_ok=True)
