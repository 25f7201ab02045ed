"""`make status`: what a run would do with each stage, in a line; and whether each model at hand is published."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts import settings, tables
from scripts.explain import explanation, report
from scripts.pipeline import dvc_adapter, template
from scripts.pipeline.console import tell
from scripts.pipeline.stage import Model, Pipeline
from scripts.project import PROJECT, Project, Unavailable, UserError
from scripts.recovery import run_lock
from scripts.registry import publish
from scripts.tables import Part, Table


def of_model(project: Project, pipeline: Pipeline, model: Model) -> dict[str, Any]:
    """Return what the registry has of a model as it is on disk; `published` is None if that cannot be asked."""
    found: dict[str, Any] = {"model": model.name, "file": model.file, "published": False, "version": None}
    found |= {"stage": None, "why": None}
    if not all((project.root / path).exists() for path in (model.file, model.metrics)):
        return found | {"why": "it is not made yet: 'make run' makes it"}
    try:
        receipt = publish.receipt(project, pipeline, model)
    except UserError as error:
        hint = "; 'make ui' starts it" if isinstance(error, Unavailable) and settings.is_local(os.environ) else ""
        return found | {"published": None, "why": f"{getattr(error, 'why', error)}{hint}"}
    if receipt is None:
        return found | {"why": "'make publish' does it, or the next 'make run'"}
    return found | {"published": True, "version": int(receipt.version), "stage": receipt.now, "why": receipt.reason}


def parts(stages: report.Found, models: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """Yield the table of the stages, what a run would do, and the table of the models."""
    yield Table(("stage", "a run", "why"), report.rows(stages))
    yield report.summary(stages)
    rows = [(each["model"], _place(each), each["why"]) for each in models]
    if rows:
        yield Table(("model", "published", "why"), rows)


def _place(model: Mapping[str, Any]) -> str:
    if model["published"]:
        return f"version {model['version']}, {model['stage']}"
    return "not known" if model["published"] is None else "no"


def main(arguments: list[str], project: Project = PROJECT) -> None:
    form = tables.form(dict(argument.split("=", 1) for argument in arguments))
    dvc_adapter.only_warnings()
    with run_lock.watched(project) as ended_well:
        stages = explanation.explain(project, [], ended_well=ended_well)
    pipeline = template.load(project.root)
    models = [of_model(project, pipeline, model) for model in pipeline.models]
    found = report.described(stages) | {"models": models}
    tell(tables.written(form, found, list(parts(stages, models))))
