"""Runs stages with other parameters in Airflow, side by side: for a sweep, each trial is a task.

A job is a stage of the commit at hand with a patch, in a clone of its own, as in a run of the pipeline. What it makes
is on DVC's remote when it has ended. One DAG has them: a list of jobs is a run, in which a task is mapped over them.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from scripts.airflow import attempt, drawing, following
from scripts.airflow.api import Api, Away
from scripts.pipeline.elsewhere import Ended, Job
from scripts.pipeline.stage import Pipeline
from scripts.project import Project, Unavailable, UserError

MOST = 500  # jobs of a run; Airflow maps a task over 1024 at most
LARGEST = 8 << 20  # bytes of all their patches
FAULT = "AirflowFailException"
"""What a task raises if there is no use in trying again: the stage's own fault."""
ENDS = {"success", "failed", "upstream_failed", "skipped", "removed"}
"""Airflow's words for a task that has ended."""


def place(project: Project, pipeline: Pipeline) -> "Airflow":
    return Airflow(project, pipeline)


class Airflow:
    """This clone's Airflow as a place for jobs."""

    def __init__(self, project: Project, pipeline: Pipeline, api: Api | None = None) -> None:
        self._project, self._pipeline = project, pipeline
        self._api = api or Api(project)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        """Run the jobs; yield how each ended. Raise Unavailable if Airflow is away, UserError if it takes none."""
        drawn = following.ensure_known(self._api, self._pipeline, self._project)
        for former in self._api.runs(drawing.JOBS):  # of a caller that was killed
            self._api.stop(former, drawing.JOBS)
        for begin in range(0, len(jobs), MOST):
            for ended in self._run_some(jobs[begin : begin + MOST], drawn):
                yield ended and ended._replace(number=ended.number + begin)

    def _run_some(self, jobs: Sequence[Job], drawn: Mapping[str, Any]) -> Iterator[Ended | None]:
        commit = following.commit_of(self._project)
        grouped, places = self._grouped(jobs, commit, drawn)
        run = following.name_of_now(commit)
        self._api.begin(run, {"commit": commit, "jobs": grouped}, drawing.JOBS)
        try:
            yield from self._follow(run, places)
        finally:
            with suppress(UserError):
                if self._api.state(run, drawing.JOBS) not in following.ENDS:
                    self._api.stop(run, drawing.JOBS)

    def _grouped(
        self, jobs: Sequence[Job], commit: str, drawn: Mapping[str, Any]
    ) -> tuple[dict[str, list[dict[str, str]]], dict[tuple[str, int], int]]:
        """Return the jobs of each task as a run's parameters have them, and each one's number by its place there."""
        grouped: dict[str, list[dict[str, str]]] = {}
        places = {}
        for number, job in enumerate(jobs):
            task = drawing.job_task(drawn["stages"][job.stage]).id
            patch = following.patch_of(commit, self._project, {self._project.params.name: job.params})
            places[task, len(grouped.setdefault(task, []))] = number
            grouped[task].append({"name": job.name, "stage": job.stage, **_packed(patch)})
        size = sum(len(job["changes"]) for some in grouped.values() for job in some)
        if size > LARGEST:
            raise UserError(
                f"what is not committed makes patches of {size} bytes for {len(jobs)} stages; expected {LARGEST} at "
                "most, which travel with the run: commit it"
            )
        return grouped, places

    def _follow(self, run: str, places: Mapping[tuple[str, int], int]) -> Iterator[Ended | None]:
        left, away = dict(places), None
        while True:
            try:
                state = self._api.state(run, drawing.JOBS)
                tasks = self._api.tasks(run, drawing.JOBS)
                away = None
            except Away:
                away = away or time.monotonic()
                if time.monotonic() - away > following.AWAY:
                    raise
                state, tasks = "", []
            for task in tasks:
                where = (task["task_id"], task["map_index"])
                if task["state"] in ENDS and where in left:
                    yield self._ended(run, task, left.pop(where))
            if not left:
                return
            if state in following.ENDS:
                raise Unavailable(
                    f"Airflow ended the run {run} before {len(left)} of its {len(places)} tasks; expected all of them: "
                    f"see {following.link(run, self._project, drawing.JOBS)}"
                )
            yield None
            time.sleep(following.LOOKS)

    def _ended(self, run: str, task: Mapping[str, Any], number: int) -> Ended:
        seconds = task["duration"] or 0.0
        if task["state"] == "success":
            return Ended(number, seconds)
        log = self._api.log(run, task["task_id"], task["try_number"], drawing.JOBS, task["map_index"])
        raised, sentence = following.why(log)
        return Ended(number, seconds, sentence, passing=raised != FAULT)


def _packed(patch: bytes) -> dict[str, str]:
    """Return a patch, by its hash, as it travels."""
    if not patch:
        return {"patch": "", "changes": ""}
    return {"patch": hashlib.sha256(patch).hexdigest(), "changes": attempt.packed(patch)}
