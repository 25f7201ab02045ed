"""`make airflow-run`: runs the commit at hand in Airflow, with what is not committed; WAIT=1 follows it."""

import os
from collections.abc import Sequence

from scripts.airflow import following
from scripts.pipeline import template
from scripts.pipeline.console import tell
from scripts.project import PROJECT
from scripts.recovery.signals import Stopped


def main(arguments: Sequence[str]) -> None:
    run = following.begin(template.load(PROJECT.root))
    tell(f"run {run}: {following.link(run)}")
    if not os.environ.get("WAIT"):
        return
    try:
        following.follow(run)
    except Stopped:
        tell(f"no longer followed; the run goes on: {following.link(run)}")
        raise
    tell(f"run {run} has ended well: 'make models' shows its model")
