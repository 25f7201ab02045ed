"""Containers that a killed run left."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from scripts.pipeline.containers import docker, is_of_a_part, stop
from scripts.recovery.report import say

STARTS_WITHIN = timedelta(minutes=5)
"""Ten times what a start takes on a machine with far too much to do, so a runner that is just starting stays."""
LABELS = ("pipeline.clone", "pipeline.role", "pipeline.stage")
COLUMNS = "\t".join([*(f'{{{{.Label "{label}"}}}}' for label in LABELS), "{{.State}}", "{{.CreatedAt}}", "{{.ID}}"])


class _Container(NamedTuple):
    clone: str
    role: str  # empty where there is no such label, as of a stage
    stage: str
    state: str
    created_at: str  # 2026-11-26 18:41:03 +0000 UTC
    id: str

    @property
    def age(self) -> timedelta:
        day, time, zone, *_ = self.created_at.split()
        return datetime.now(UTC) - datetime.fromisoformat(f"{day} {time}{zone}")


def remove_left() -> None:
    """Remove containers of stages and of measurements that run on without their run, and runners that never started.

    A docker client that is killed between creating a container and starting it leaves one that never starts.
    """
    found = list(_containers())
    stages = [each.id for each in found if each.stage]
    if stages:
        stop(stages, grace=0)
        say("removed the stage containers of an interrupted run")
    for each in found:
        if each.role == "runner" and each.state == "created" and each.age > STARTS_WITHIN:
            docker("container", "rm", "--force", each.id)  # not 'prune': one at a time in an engine, for all clones
            say("removed a runner that had never started")


def _containers() -> Iterator[_Container]:
    """Yield all containers of this clone: one question, since each takes a fiftieth of a second of every command."""
    for line in docker(
        "container", "ls", "--all", "--filter", "label=pipeline.clone", "--format", COLUMNS
    ).splitlines():
        found = _Container(*line.split("\t"))
        if found.clone == os.environ["CLONE"] or is_of_a_part(found.clone):
            yield found
