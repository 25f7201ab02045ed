"""The page of a run that goes on, which renews itself in a browser: a file, with no server behind it."""

import time
from pathlib import Path

from scripts.project import Project, UserError, atomic_write
from scripts.report import facts, history, page

PAGE = "live.html"
PAUSE = 1.0  # seconds between two states of the page
RENEWED_EACH = 2  # seconds, by the browser


def folder(project: Project) -> Path:
    """Return the folder of the run that goes on. Raise UserError if there is none."""
    found = history.runs(project)
    if not found or found[-1]["outcome"] != facts.RUNNING:
        raise UserError(
            "no run goes on here; expected one that has begun a stage: 'make run' in another terminal first"
        )
    return history.folder(project) / found[-1]["id"]


def follow(place: Path, project: Project) -> str:
    """Renew the page until the run has ended; return how it did. The page then leads to the run's report."""
    while (run := history.of(place, project)) and run["outcome"] == facts.RUNNING:
        atomic_write(place / PAGE, page.page(run, renew=RENEWED_EACH))
        time.sleep(PAUSE)
    if not (place / history.PAGE).exists():  # it was killed
        atomic_write(place / history.PAGE, page.page(run))
    atomic_write(place / PAGE, page.page(run, moved_to=history.PAGE))
    return run["outcome"]
