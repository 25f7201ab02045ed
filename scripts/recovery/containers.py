"""Containers that a killed run left."""

from datetime import UTC, datetime, timedelta

from scripts.pipeline.containers import docker, of_this_clone, stop_stages
from scripts.recovery.report import say

STARTS_WITHIN = timedelta(minutes=5)
"""Ten times what a start takes on a machine with far too much to do, so a runner that is just starting stays."""


def remove_stages() -> None:
    """Remove the containers of stages, and of measurements, that run on without their run."""
    if stop_stages(grace=0):
        say("removed the stage containers of an interrupted run")


def remove_unstarted_runners() -> None:
    """Remove runners that were created and never started, because their docker client was killed in between."""
    mine = ["--filter", of_this_clone(), "--filter", "label=pipeline.role=runner", "--filter", "status=created"]
    for line in docker("container", "ls", "--all", *mine, "--format", "{{.ID}} {{.CreatedAt}}").splitlines():
        name, day, time, zone, *_ = line.split()
        if datetime.now(UTC) - datetime.fromisoformat(f"{day} {time}{zone}") > STARTS_WITHIN:
            # Not 'prune', of which the engine runs one at a time, for all clones.
            docker("container", "rm", "--force", name)
            say("removed a runner that had never started")
