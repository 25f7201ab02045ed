"""Deletes what is kept of a sweep. Its results stay in DVC's cache, and its runs in MLflow."""

import shutil

from scripts.project import Project
from scripts.sweeps import slots, study


def remove(project: Project, name: str) -> str:
    """Delete the folder of a sweep, and stop what still runs of it; return the sentence that says so.

    Raise UserError if there is no such sweep.
    """
    found = study.named(project, name)
    folder = study.folder(project, found.id)
    slots.remove(folder / study.SLOTS)
    shutil.rmtree(folder)
    return f"sweep {found.id} is deleted; its results stay in DVC's cache, and its runs in MLflow"
