"""Draws the pipeline for Airflow's DAG, and reads what params.yaml says of Airflow."""

import json
from collections.abc import Mapping
from typing import Any

from scripts.airflow import drawing
from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, Project, UserError, write_if_changed

SECTION = "airflow"
KNOWN = ("schedule", "watch", "pools")


def files(project: Project = PROJECT) -> Any:
    """Return the folder of this room's own files."""
    return project.local / "airflow"


def section(pipeline: Pipeline) -> Mapping[str, Any]:
    """Return the section of params.yaml. Raise UserError if there is more in it than is read, or another kind."""
    found = pipeline.params.get(SECTION) or {}
    if not isinstance(found, Mapping) or (unknown := set(found) - set(KNOWN)):
        what = f"the key {min(map(str, unknown))}" if isinstance(found, Mapping) else f"{found!r}"
        raise UserError(
            f"the section {SECTION} of params.yaml has {what}; expected {', '.join(KNOWN)}: correct it (BEYOND.md)"
        )
    for name in ("schedule", "watch"):
        value = found.get(name)
        if value is not None and (not isinstance(value, str) or len(value.split()) != 5):
            raise UserError(
                f'{SECTION}.{name} of params.yaml is {value!r}; expected five fields of cron, like "0 3 * * *", or '
                "null: correct it"
            )
    pools = found.get("pools") or {}
    if not isinstance(pools, Mapping) or not all(type(slots) is int and slots > 0 for slots in pools.values()):
        raise UserError(
            f"{SECTION}.pools of params.yaml is {pools!r}; expected names with how many stages each lets run at once, "
            "like {gpu: 1}: correct it"
        )
    return found


def draw(pipeline: Pipeline) -> dict[str, Any]:
    """Return the drawing of a pipeline. Raise UserError for what Airflow's DAG cannot express."""
    said, stages = section(pipeline), {}
    for name, stage in pipeline.stages.items():
        if name == drawing.PUBLISH:
            raise UserError(
                f"a stage has the name {name}, which is that of Airflow's last task; expected another: rename it"
            )
        meta = stage.meta or {}
        for key in ("queue", "pool"):
            if key in meta and not isinstance(meta[key], str):
                raise UserError(f"stage {name!r}: its {key} is {meta[key]!r}; expected a name: correct it")
        pool = meta.get("pool")
        if pool and pool not in (said.get("pools") or {}):
            raise UserError(
                f"stage {name!r}: its pool {pool} has no size; expected one: add it to {SECTION}.pools of params.yaml"
            )
        stages[name] = {"needs": pipeline.needs(name), "queue": meta.get("queue"), "pool": pool}
    made = {path for stage in pipeline.stages.values() for path in stage.written.values()}
    read = [path for name, stage in pipeline.stages.items() for path in stage.inputs.values() if path not in made]
    inputs = [path for path in dict.fromkeys(read) if not _is_made(path, made)]
    return {"stages": stages, "schedule": said.get("schedule"), "watch": said.get("watch"), "inputs": inputs}


def _is_made(path: str, made: set[str]) -> bool:
    return any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in made)


def write(drawn: Mapping[str, Any], project: Project = PROJECT) -> None:
    """Write a drawing to where the DAG finds it."""
    folder = files(project) / "drawing"
    folder.mkdir(parents=True, exist_ok=True)
    write_if_changed(folder / "pipeline.json", json.dumps(drawn, indent=2) + "\n")
