"""The tasks of Airflow's DAG, from a drawing of the pipeline: pure, so that it needs neither DVC nor Airflow.

Airflow reads the DAG again and again, in several containers. So `make airflow-run` draws the pipeline once, as JSON
(`plan.py`), and the DAG is made of that: another branch that is checked out changes no run that goes on.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

DAG, START, LOOK, JOBS = "pipeline", "pipeline-start", "pipeline-inputs", "pipeline-jobs"
"""The DAG whose runs are runs of the pipeline, the one that begins them, the one that looks for changed inputs, and the
one that runs stages with other parameters."""
PUBLISH = "publish"
"""The last task. No stage may have this name."""
QUEUE, POOL = "default", "default_pool"
"""Airflow's own, of tasks that name none."""
HOME = "home"
"""The queue of tasks that are one machine's own, as they look at its clone or write its MLflow: the worker beside
Airflow serves it, no other one does."""
JOB, PLAN = "job", "plan"
"""How the tasks are called that run jobs, a mapped one for each queue and pool, and those that say which they are."""
NO_NAME = re.compile(r"[^\w.-]", re.ASCII)


class Task(NamedTuple):
    """A task of the DAG: the stage that it runs, and the tasks that it waits for."""

    id: str
    stage: str
    needs: tuple[str, ...]
    queue: str = QUEUE
    pool: str = POOL

    @property
    def group(self) -> str:
        """The group in which Airflow shows it: the block of a foreach; empty if it is alone."""
        return self.id.partition(".")[0] if "." in self.id else ""


def task_id(stage: str) -> str:
    """Return a stage's name as Airflow takes it: `train@fr` -> `train.fr`. No block has a dot in its name."""
    return stage.replace("@", ".", 1)


def tasks(drawing: Mapping[str, Any]) -> list[Task]:
    """Return the tasks of a drawing, each after those that it needs; the last one publishes, and needs all others."""
    found = [
        Task(
            task_id(name),
            name,
            tuple(map(task_id, stage["needs"])),
            stage.get("queue") or QUEUE,
            stage.get("pool") or POOL,
        )
        for name, stage in drawing["stages"].items()
    ]
    return [*found, Task(PUBLISH, PUBLISH, tuple(task.id for task in found), HOME)]


def only(id: str) -> Task:
    """Return the task of this id alone, for a worker: what it runs is in the run's commit, not in a drawing here."""
    return Task(id, id.replace(".", "@", 1), ())


class JobTask(NamedTuple):
    """A mapped task of the DAG for jobs: it runs those whose stages are in its queue and pool."""

    id: str
    queue: str
    pool: str

    @property
    def plan(self) -> str:
        """The id of the task before it, which says which jobs they are."""
        return PLAN + self.id.removeprefix(JOB)


def job_task(stage: Mapping[str, Any]) -> JobTask:
    """Return the task that runs jobs of a stage of a drawing."""
    queue, pool = stage.get("queue") or QUEUE, stage.get("pool") or POOL
    name = JOB if (queue, pool) == (QUEUE, POOL) else NO_NAME.sub("-", f"{JOB}-{queue}-{pool}")
    return JobTask(name, queue, pool)


def job_tasks(drawing: Mapping[str, Any]) -> list[JobTask]:
    """Return the tasks that run jobs, one for each queue and pool of a drawing."""
    return list({task.id: task for task in map(job_task, drawing["stages"].values())}.values())


def only_job(id: str) -> JobTask:
    """Return the task for jobs of this id, or the one whose jobs the task of this id says, for a worker."""
    return JobTask(id if id.startswith(JOB) else JOB + id.removeprefix(PLAN), QUEUE, POOL)


def job_run(run: str, number: int) -> str:
    """Return what names the attempts of one job of a run: no two of them share a folder."""
    return f"{run}-{number}"


def digest(drawing: Mapping[str, Any]) -> str:
    """Return what tells two drawings apart; it is a tag of the DAG."""
    return "drawing-" + hashlib.sha256(json.dumps(drawing, sort_keys=True).encode()).hexdigest()[:12]


def queues(drawing: Mapping[str, Any]) -> list[str]:
    """Return the queues that the stages of a drawing are in: any worker may serve them."""
    return list(dict.fromkeys([QUEUE, *(stage.get("queue") or QUEUE for stage in drawing["stages"].values())]))


def folder_of(run: str) -> str:
    """Return a run's id as the name of a folder that Docker can mount, another for each: Airflow's ids have colons."""
    name = NO_NAME.sub("-", run).lstrip(".")
    return name if name == run else f"{name}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"


def command(run: str, stage: str, attempt: int, commit: str, patch: str) -> Sequence[str]:
    """Return the call of one attempt; what its exit codes mean stands in `attempt.py`."""
    words = ["sh", "scripts/airflow/task.sh", folder_of(run), stage, str(attempt), commit]
    return [*words, patch] if patch else words
