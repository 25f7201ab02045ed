"""`make explain`: what the next run would do with each stage, and why; exit 1 if a stage would run, or might."""

from scripts.explain import explanation, report
from scripts.pipeline import dvc_adapter
from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project
from scripts.recovery import run_lock
from scripts.validation import is_asked


def main(arguments: list[str], project: Project = PROJECT) -> int:
    given = dict(argument.split("=", 1) for argument in arguments)
    json = is_asked(given, "JSON", "JSON")
    dvc_adapter.only_warnings()
    with run_lock.watched(project) as ended_well:
        found = explanation.explain(project, given.get("stage", "").split(), ended_well=ended_well)
    tell(report.as_json(found) if json else "\n".join(report.lines(found)))
    return 1 if report.would_run(found) else 0
