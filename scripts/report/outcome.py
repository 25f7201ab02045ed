"""What is known of a run at its end: why stages ran, parameters, metrics, models and their decisions, lineage."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import yaml

from scripts import mlflow_server, settings
from scripts.pipeline.params import as_written, told_apart
from scripts.pipeline.stage import Pipeline
from scripts.project import Project, UserError
from scripts.registry import glance, logged, reader, recorded, records
from scripts.report.facts import number, text
from scripts.yaml12 import load_yaml

MOST = 1000  # metrics, parameters, files
EVIDENCE = ("score", "champion", "champion_score", "p_value", "at", "by")
"""What of the record of a decision is as_written beside its reason."""

type Run = Mapping[str, Any]


def known(
    project: Project, pipeline: Pipeline, before: bytes, published: Sequence[Run], last: Run | None, *, online: bool
) -> dict[str, Any]:
    """Return it as `facts.run_of` takes it. `before` is dvc.lock as it was, `last` the last run that ended well;
    `online` is whether the registry may be asked."""
    was = _lock(before)
    lock = _lock(project.dvc_lock.read_bytes() if project.dvc_lock.exists() else b"")
    last = last or {"params": [], "metrics": []}
    models, production = _models(pipeline, published, online=online)
    return {
        "why": {name: list(why(pipeline, name, was.get(name), entry)) for name, entry in lock.items()},
        "params": params(pipeline, last),
        "metrics": _metrics(project, pipeline, last, production),
        "models": models,
        "lineage": _lineage(project, lock),
    }


def _lock(data: bytes) -> dict[str, dict[str, Any]]:
    try:
        stages = (load_yaml(data) or {}).get("stages") or {}
        return {str(name): entry for name, entry in stages.items() if isinstance(entry, dict)}
    except (yaml.YAMLError, ValueError, AttributeError):  # a stage's end was cut off, or a merge has conflicts
        return {}


# --- why


def why(pipeline: Pipeline, name: str, was: Run | None, now: Run) -> Iterator[str]:
    """Yield what differs from what dvc.lock had of a stage before."""
    if was is None:
        yield "it is new"
        return
    old, new = (dict(_leaves(entry)) for entry in (was, now))
    for key in dict.fromkeys([*old, *new]):
        if key not in old:
            yield f"parameter {key} is new: {new[key]}"
        elif key not in new:
            yield f"parameter {key} is gone; it was {old[key]}"
        elif old[key] != new[key]:
            yield f"parameter {key}: {old[key]} -> {new[key]}"
    for path, digest in inputs(now).items():
        if inputs(was).get(path) != digest:
            yield f"input {path}"
    stage = pipeline.stages.get(name)
    if stage and stage.image not in str(was.get("cmd")):
        yield f"code: image {stage.image}"
    elif was.get("cmd") != now.get("cmd") and old == new:
        yield "its block in dvc.yaml"


def _leaves(entry: Run) -> Iterator[tuple[str, str]]:
    listed = entry.get("params")
    for file in listed.values() if isinstance(listed, Mapping) else ():
        for name, value in logged.leaves(file) if isinstance(file, Mapping) else ():
            yield name, told_apart(value)


def inputs(entry: Run) -> dict[str, str]:
    listed = entry.get("deps")
    deps = listed if isinstance(listed, list) else []
    return {str(dep.get("path")): str(dep.get("md5")) for dep in deps if isinstance(dep, Mapping)}


# --- numbers


def params(pipeline: Pipeline, last: Run) -> list[dict[str, Any]]:
    before = {param["name"]: param["value"] for param in last["params"]}
    found = {
        f"{stage.block}.{name}": text(as_written(value))
        for stage in pipeline.stages.values()
        for name, value in logged.leaves(stage.section or {})
    }
    listed = [{"name": text(name), "value": value, "last": before.get(text(name))} for name, value in found.items()]
    return listed[:MOST]


def _metrics(project: Project, pipeline: Pipeline, last: Run, production: Mapping[str, Run]) -> list[dict[str, Any]]:
    before = {(metric["file"], metric["name"]): metric["value"] for metric in last["metrics"]}
    found = []
    for path in [path for stage in pipeline.stages.values() for path in stage.metrics.values()]:
        for name, value in numbers(project.root, path).items():
            metric = {"file": text(path), "name": text(name), "value": number(value)}
            metric["last"] = before.get((metric["file"], metric["name"]))
            metric["production"] = number(production.get(path, {}).get(name))
            found.append(metric)
    return found[:MOST]


def numbers(root: Path, path: str) -> dict[str, float]:
    try:
        return logged.read_metrics(root / path)
    except UserError:  # it is not there, or holds no metrics: its stage, or publishing, says so
        return {}


# --- models


def _models(
    pipeline: Pipeline, published: Sequence[Run], *, online: bool
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Return what became of the models; and of the version that each was compared with the metrics, by their file."""
    found, production = [], {}
    files = {model.name: model.metrics for model in pipeline.models}
    for each in published:
        model = {key: text(each[key]) for key in ("model", "version", "stage", "now", "reason", "metric")}
        model |= {"score": number(each["score"]), "news": each["news"], "evidence": {}, "run": None, "page": None}
        if online:
            production[files.get(each["model"], "")] = _ask(model, each["model"], int(each["version"]))
        found.append(model)
    return found, production


def _ask(model: dict[str, Any], name: str, version: int) -> dict[str, float]:
    """Add what the registry says of a version; return the metrics of the one that it was compared with."""
    try:
        mine = glance.version(name, version)
        if mine is None:
            return {}
        record = mine.record
        evidence = {key: record[key] for key in EVIDENCE if record.get(key) is not None}
        model["evidence"] = {
            key: value if isinstance(value, int | float) and number(value) == value else text(value)
            for key, value in evidence.items()
        }
        model["run"] = text(mine.run_id)
        if settings.is_local(os.environ):
            route = mlflow_server.route(f"models/{quote(name)}/versions/{version}")
            model["page"] = f"{mlflow_server.address()}/{route}"
        champion = record.get("champion")
        other = glance.version(name, champion) if isinstance(champion, int) else None
        return reader.metrics(other.run_id) if other else {}
    except (requests.RequestException, ValueError, UserError, records.Unclear):
        return {}  # the decision and its reason are known all the same


# --- lineage


def _lineage(project: Project, lock: Mapping[str, Run]) -> dict[str, Any]:
    command = ["git", "-C", str(project.root), "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    files = [
        {"path": text(path), "stage": text(stage), "md5": text(md5)}
        for path, (stage, md5) in recorded.files(lock).items()
    ]
    return {
        "commit": settings.commit(project),
        "changed": [text(line[3:]) for line in changed][:MOST],
        "files": files[:MOST],
    }
