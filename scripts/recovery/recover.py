"""Clears what a run that was killed left behind, and says so in a line for each thing.

To be called under the clone's lock: whatever is still there of a run is then of one that has ended.
"""

import os

from scripts.pipeline.containers import GRACE, stop_stages
from scripts.project import PROJECT, Project
from scripts.recovery import containers, dvc_files, unfinished
from scripts.recovery.dvc_files import is_idle, keep_dvc_lock, locks_are_held

__all__ = ["GRACE", "clear", "is_idle", "keep_dvc_lock", "locks_are_held", "mend", "recover", "stop_stages"]


def recover(project: Project = PROJECT, *, ended_well: bool) -> None:
    """Make the clone fit for a run; look for half-written files only if the last run did not end well.

    Raise UserError if something cannot be removed.
    """
    clear(project)
    mend(project, ended_well=ended_well)


def clear(project: Project = PROJECT) -> None:
    """Remove what holds up a run: containers, folders and locks. Raise UserError if that is not possible."""
    if "RUNNER_SOCKET" in os.environ:  # not with the verbs that start no container
        containers.remove_left()
    unfinished.remove_work_folders(project)
    dvc_files.clear_locks(project)


def mend(project: Project = PROJECT, *, ended_well: bool, run_cache: bool = True) -> None:
    """Restore or remove damaged files: dvc.lock, and what it and the run-cache name in DVC's cache.

    That takes the longer, the more results there are. A run that finds all files as it left them can do without; and
    whoever mends the results of the run-cache that he restores can do without all others.
    """
    dvc_files.restore_dvc_lock(project, ended_well=ended_well)
    dvc_files.remove_damaged_files(project, run_cache=run_cache)
    if not ended_well:
        dvc_files.remove_damaged_folders(project)
        unfinished.remove_half_written(project)
    if run_cache:
        dvc_files.remove_empty_entries(project)
