"""The pipeline as a DAG of Airflow: a task a stage, each of which is one call of make in a clone of its own.

It imports neither DVC nor the machinery: Airflow reads it again and again. What its tasks are stands in `drawing.py`.
"""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    BaseOperator,
    CronTriggerTimetable,
    Param,
    TaskGroup,
    XComArg,
    get_parsing_context,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from scripts.airflow import attempt, drawing, inputs

DRAWING = Path("/run/drawing/pipeline.json")
RETRIES = {
    # Some eight minutes in all: a server's restart is shorter, and who waits for an answer wants one.
    "retries": 5,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}
PARAMS = {
    "commit": Param(type="string", pattern="^[0-9a-f]{40}$", description="the commit that runs, as git names it"),
    "patch": Param("", type="string", pattern="^([0-9a-f]{64})?$", description="SHA-256 of what is not committed"),
    "changes": Param("", type="string", description="that patch, compressed: 'make airflow-run' sends it"),
}


JOBS = {
    "commit": PARAMS["commit"],
    "jobs": Param({}, type="object", description="for each task here, stages with patches: 'make sweep' sends them"),
}


class Call(BaseOperator):
    """Calls a program of the clone on this worker. Exit code 75 is tried again, any other but 0 fails at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(do_xcom_push=False, **options)
        self.attempt: attempt.Attempt | None = None

    def command(self, context: Any, clone: Path) -> Any:
        raise NotImplementedError

    def execute(self, context: Any) -> None:
        clone = Path(os.environ["CLONE_PATH"])
        self.attempt = attempt.Attempt(self.command(context, clone), clone)
        code, sentence = self.attempt.run(self.log.info)
        if code == attempt.AGAIN:
            raise AirflowException(sentence)
        if code:
            raise AirflowFailException(sentence)

    def on_kill(self) -> None:
        if self.attempt:
            self.attempt.stop()


class Stage(Call):
    """Runs a stage, or publishes: a fresh clone of the run's commit each time."""

    def __init__(self, *, stage: str, **options: Any) -> None:
        super().__init__(**options)
        self.stage = stage

    def command(self, context: Any, clone: Path) -> Any:
        params = context["params"]
        keep(params, clone)
        run, number = context["run_id"], context["ti"].try_number
        return drawing.command(run, self.stage, number, params["commit"], params["patch"])


class Job(Call):
    """Runs the stage of a job, with its patch: a fresh clone each time."""

    def __init__(self, *, job: dict[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.job = job

    def command(self, context: Any, clone: Path) -> Any:
        keep(self.job, clone)
        instance = context["ti"]
        run = drawing.job_run(context["run_id"], instance.map_index)
        commit = context["params"]["commit"]
        return drawing.command(run, self.job["stage"], instance.try_number, commit, self.job["patch"])


class Plan(BaseOperator):
    """Gives a task for jobs those of them that are its own."""

    def __init__(self, *, of: str, **options: Any) -> None:
        super().__init__(**options)
        self.of = of

    def execute(self, context: Any) -> list[dict[str, str]]:
        return context["params"]["jobs"].get(self.of, [])


class Start(Call):
    """Starts a run of the commit that is checked out, and of what is not committed."""

    def command(self, context: Any, clone: Path) -> Any:
        return ["make", "airflow-run"]


class Look(BaseOperator):
    """Ends well, and so tells Airflow of a new version of its asset, if an input has changed; else it is skipped."""

    def __init__(self, *, path: str, **options: Any) -> None:
        super().__init__(do_xcom_push=False, **options)
        self.path = path

    def execute(self, context: Any) -> None:
        if not inputs.has_changed(self.path, Path(os.environ["CLONE_PATH"])):
            raise AirflowSkipException(f"{self.path} is as it was")


def keep(patched: Any, clone: Path) -> None:
    """Write a patch that came along to where task.sh looks for it."""
    if patched["patch"]:
        try:
            attempt.keep(attempt.unpacked(patched["changes"], patched["patch"]), clone)
        except ValueError as error:
            raise AirflowFailException(f"{error}; expected what make sent: call it again") from None


def task_of(task: drawing.Task) -> Stage:
    group = f"{task.group}." if task.group else ""
    return Stage(task_id=task.id.removeprefix(group), stage=task.stage, queue=task.queue, pool=task.pool, **RETRIES)


def pipeline(drawn: dict[str, Any]) -> DAG:
    """Return the DAG of the whole pipeline, for those who decide what runs next."""
    known: dict[str, Stage] = {}
    groups: dict[str, TaskGroup] = {}
    with DAG(drawing.DAG, schedule=None, params=PARAMS, tags=[drawing.digest(drawn)]) as dag:
        for task in drawing.tasks(drawn):
            if task.group:
                if task.group not in groups:
                    groups[task.group] = TaskGroup(task.group)
                with groups[task.group]:
                    known[task.id] = task_of(task)
            else:
                known[task.id] = task_of(task)
        for task in drawing.tasks(drawn):
            known[task.id].set_upstream([known[name] for name in task.needs])
    return dag


def alone(id: str) -> DAG:
    """Return a DAG with one task, for the worker that runs it, whatever is checked out there."""
    with DAG(drawing.DAG, schedule=None, params=PARAMS) as dag:
        task = drawing.only(id)
        Stage(task_id=task.id, stage=task.stage, **RETRIES)
    return dag


def jobs(tasks: list[drawing.JobTask]) -> DAG:
    """Return the DAG whose runs are stages with other parameters, side by side."""
    with DAG(drawing.JOBS, schedule=None, params=JOBS) as dag:
        for task in tasks:
            plan = Plan(task_id=task.plan, of=task.id, **RETRIES)
            named = {"map_index_template": "{{ task.job['name'] }}"}
            Job.partial(task_id=task.id, queue=task.queue, pool=task.pool, **RETRIES, **named).expand(job=XComArg(plan))
    return dag


def asset_of(path: str) -> Asset:
    return Asset(name=path, uri=f"file:///{path}")  # its path in the clone


def start(drawn: dict[str, Any]) -> DAG:
    """Return the DAG that starts runs, when a schedule says so or an input has changed."""
    cron = CronTriggerTimetable(drawn["schedule"], timezone="UTC") if drawn.get("schedule") else None
    assets = AssetAny(*map(asset_of, drawn["inputs"])) if drawn.get("watch") and drawn["inputs"] else None
    both = AssetOrTimeSchedule(timetable=cron, assets=assets) if cron and assets else cron or assets
    with DAG(drawing.START, schedule=both, catchup=False, max_active_runs=1) as dag:
        Start(task_id="start", queue=drawing.HOME, **RETRIES)
    return dag


def look(drawn: dict[str, Any]) -> DAG:
    """Return the DAG that looks, now and then, whether an input that no stage makes has changed."""
    cron = CronTriggerTimetable(drawn["watch"], timezone="UTC") if drawn.get("watch") else None
    with DAG(drawing.LOOK, schedule=cron, catchup=False, max_active_runs=1) as dag:
        for number, path in enumerate(drawn["inputs"]):
            Look(task_id=f"input-{number}", path=path, outlets=[asset_of(path)], queue=drawing.HOME)
    return dag


at_work = get_parsing_context()
if at_work.task_id and at_work.dag_id == drawing.DAG:
    dag = alone(at_work.task_id)
elif at_work.task_id and at_work.dag_id == drawing.JOBS:
    dag = jobs([drawing.only_job(at_work.task_id)])
else:  # read by Airflow's DAG processor, or by the worker that has the clone
    drawn = json.loads(DRAWING.read_text())
    dag = pipeline(drawn)
    others = jobs(drawing.job_tasks(drawn))
    watches = drawn.get("watch") and drawn["inputs"]
    if watches:
        looks = look(drawn)
    if watches or drawn.get("schedule"):
        starts = start(drawn)
