"""Clears what a run that was killed left behind, and says so in a line for each thing.

To be called under the clone's lock: whatever is still there of a run is then of one that has ended.
"""

import os

from scripts.pipeline.containers import GRACE, stop_stages
from scripts.project import PROJECT, Project
from scripts.recovery import containers, dvc_files, unfinished
from scripts.recovery.dvc_files import is_idle, keep_dvc_lock, locks_are_held

__all__ = ["GRACE", "is_idle", "keep_dvc_lock", "locks_are_held", "recover", "stop_stages"]


def recover(project: Project = PROJECT, *, ended_well: bool) -> None:
    """Make the clone fit for a run; look for half-written files only if the last run did not end well.

    Raise UserError if something cannot be removed.
    """
    if "RUNNER_SOCKET" in os.environ:  # not with the verbs that start no container
        containers.remove_left()
    unfinished.remove_work_folders(project)
    dvc_files.clear_locks(project)
    dvc_files.restore_dvc_lock(project, ended_well=ended_well)
    dvc_files.remove_damaged_files(project)
    if not ended_well:
        dvc_files.remove_damaged_folders(project)
        unfinished.remove_half_written(project)
    dvc_files.remove_empty_entries(project)
