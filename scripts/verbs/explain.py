"""`make explain`: what the next run would do with each stage, and why; exit 1 if a stage would run, or might."""

from scripts.explain import explanation, report
from scripts.pipeline import dvc_adapter
from scripts.pipeline.console import tell
from scripts.project import PROJECT
from scripts.recovery import run_lock


def main(arguments: list[str]) -> int:
    given = dict(argument.split("=", 1) for argument in arguments)
    dvc_adapter.only_warnings()
    with run_lock.watched() as ended_well:
        found = explanation.explain(PROJECT, given.get("stage", "").split(), ended_well=ended_well)
    tell(report.as_json(found) if given.get("json") == "1" else "\n".join(report.lines(found)))
    return 1 if report.would_run(found) else 0
