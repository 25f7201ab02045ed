"""Starts a run in Airflow, and follows it in the terminal."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from scripts.airflow import attempt, drawing, plan
from scripts.airflow.api import Api, Away, address, page
from scripts.pipeline.console import harmless, tell
from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, Project, UserError
from scripts.registry import provenance

LOOKS = 2.0  # seconds between two questions
PATIENCE = 300  # seconds until Airflow has read a new drawing; it takes one or two
AWAY = 600  # seconds that Airflow may be away while a run is followed
QUEUED = 60  # seconds in a queue after which it is said that nobody takes it
ENDS = {"success", "failed"}
"""Airflow's words for a run that has ended."""
SHOWN = {"queued", "running", "up_for_retry", "success", "failed", "upstream_failed"}
"""Those for a task that a person should hear of."""


def parameters(project: Project = PROJECT) -> dict[str, str]:
    """Return the commit that is checked out, and what is not committed, as a run's parameters; write the patch.

    Raise UserError if there is no commit, or if a patch is too large to travel.
    """
    commit = commit_of(project)
    patch = patch_of(commit, project)
    if not patch:
        return {"commit": commit}
    return {"commit": commit, "patch": attempt.keep(patch, project.root), "changes": attempt.packed(patch)}


def commit_of(project: Project = PROJECT) -> str:
    """Return the commit that is checked out. Raise UserError if there is none."""
    commit = provenance.head(project)
    if commit == provenance.NO_COMMIT:
        raise UserError("there is no commit yet; expected one, which each task clones: call 'git commit'")
    return commit


def patch_of(commit: str, project: Project = PROJECT, instead: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return what is not committed, with texts of files `instead` of theirs. Raise UserError if it is too large."""
    patch = provenance.uncommitted(commit, project, instead)
    if len(patch) > attempt.LARGEST:
        raise UserError(
            f"what is not committed is a patch of {len(patch)} bytes; expected {attempt.LARGEST} at most, which "
            "travels with the run: commit it"
        )
    return patch


def begin(pipeline: Pipeline, project: Project = PROJECT) -> str:
    """Start a run; return its id. Raise UserError if Airflow does not answer, or cannot read the pipeline."""
    api, conf = Api(project), parameters(project)
    ensure_known(api, pipeline, project)
    run = name_of_now(conf["commit"])
    api.begin(run, conf)
    return run


def name_of_now(commit: str) -> str:
    """Return what a run of a commit is called that begins now."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:18] + f"-{commit[:8]}"


def ensure_known(api: Api, pipeline: Pipeline, project: Project = PROJECT) -> dict[str, Any]:
    """Return the drawing of the pipeline when Airflow has its pools and has read it. Raise UserError if it cannot."""
    drawn = plan.draw(pipeline)
    api.pools(plan.section(pipeline).get("pools") or {})
    ensure_read(api, drawn, project)
    return drawn


def ensure_read(api: Api, drawn: Mapping[str, Any], project: Project = PROJECT) -> None:
    """Return when Airflow's DAG is the pipeline at hand. Raise UserError if it cannot be."""
    tag = drawing.digest(drawn)
    if tag not in (tags := api.tags() or []):
        if tags and api.runs():
            raise UserError(
                "a run of a pipeline with other stages, queues or schedule goes on in Airflow, and its tasks would "
                f"change; expected none: wait for its end ({address(project)}), or stop it there"
            )
        plan.write(drawn, project)
    began = time.monotonic()
    while tag not in (api.tags() or []):
        if time.monotonic() - began > PATIENCE:
            why = "; ".join(api.faults()) or "it says nothing"
            raise UserError(
                f"Airflow has not read the pipeline within {PATIENCE} s ({why}); expected its DAG processor to: "
                "'make airflow' starts it anew"
            )
        if api.tags() is not None:
            api.read_again()
        time.sleep(LOOKS)


def follow(run: str, project: Project = PROJECT) -> None:
    """Print a line for each change of a task until the run has ended. Raise UserError if it has not ended well."""
    api = Api(project)
    seen: dict[str, tuple[str, int]] = {}
    since: dict[str, float] = {}
    away = None
    while True:
        try:
            state = api.state(run)
            tasks = api.tasks(run)
            away = None
        except Away:
            away = away or time.monotonic()
            if time.monotonic() - away > AWAY:
                raise
            time.sleep(LOOKS)
            continue
        for task in sorted(tasks, key=lambda task: task["start_date"] or "9"):
            _tell_change(task, seen, since)
        if state in ENDS:
            break
        time.sleep(LOOKS)
    if state != "success":
        raise UserError(_why(api, run, tasks))


def _tell_change(task: Mapping[str, Any], seen: dict[str, tuple[str, int]], since: dict[str, float]) -> None:
    name, now = task["task_id"], (task["state"] or "", task["try_number"])
    if seen.get(name) == now:
        if now[0] == "queued" and time.monotonic() - since.get(name, 0) > QUEUED:
            since[name] = time.monotonic()
            served = f"or none serves the queue {task['queue']} ('make airflow' renews this machine's)"
            _line(name, f"still queued: all workers are busy, {served}")
        return
    seen[name], since[name] = now, time.monotonic()
    if now[0] in SHOWN:
        took = f" ({task['duration']:.1f} s)" if task["duration"] and now[0] in ("success", "failed") else ""
        where = f" on {task['hostname']}" if now[0] == "running" and task["hostname"] else ""
        again = f", try {now[1]}" if now[1] > 1 else ""
        _line(name, f"{now[0].replace('_', ' ')}{again}{where}{took}")


def _line(name: str, text: str) -> None:
    tell(f"{datetime.now():%H:%M:%S}  {name:<20} {text}")


def _why(api: Api, run: str, tasks: list[Mapping[str, Any]]) -> str:
    """Return the sentences of the tasks that failed by themselves."""
    failed = [task for task in tasks if task["state"] == "failed"]
    said = [f"{task['task_id']}: {_sentence(api, run, task)}" for task in failed]
    return "\nerror: ".join(said) or "the run was stopped in Airflow; expected its end: start another one"


def _sentence(api: Api, run: str, task: Mapping[str, Any]) -> str:
    return why(api.log(run, task["task_id"], task["try_number"]))[1]


def why(lines: Sequence[Any]) -> tuple[str, str]:
    """Return what a task that failed has raised, by its log: the exception's name and the sentence, which is the last
    line of what it printed. Without a name its worker was lost."""
    for line in reversed(lines):
        if isinstance(line, dict) and (details := line.get("error_detail")):
            raised = details[0]
            said = harmless(str(raised.get("exc_value", "")).replace("\n", " ")).removeprefix("error: ")
            return str(raised.get("exc_type", "")), said
    return "", "its worker was lost, as often as it may be; expected one that lives: look at the workers' machines"


def link(run: str, project: Project = PROJECT, dag: str = drawing.DAG) -> str:
    return page(address(project), run, dag)
