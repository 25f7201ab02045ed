"""What the gate says of a branch's model, by what is at hand: nothing is measured, and nothing is registered."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import requests

from scripts import settings
from scripts.digests import sha256
from scripts.faults import reason
from scripts.pipeline.stage import Model, Pipeline
from scripts.project import Project, UserError
from scripts.registry import reader, recorded, records, scoring
from scripts.registry.gate import Gate, Measurement, Unscorable, Verdict, judge
from scripts.registry.records import PRODUCTION, ScoredBy, State, Version
from scripts.registry.stage_files import read_bytes

OTHER_MEASURE = "it was measured by another scorer or on other data, and 'make run' alone measures it again"


class Said(NamedTuple):
    """A verdict in a sentence, the stage that it gives the model, and whether another model was in production."""

    sentence: str
    stage: str
    is_compared: bool


def of_production(
    project: Project, pipeline: Pipeline, model: Model, lock: Mapping[str, Any], measured: Measurement | Unscorable
) -> tuple[Said | None, str]:
    """Return what the gate says of the model on disk against production, or said when it was published; and why it
    says nothing.

    `lock` has the entries of dvc.lock by stage.
    """
    try:
        state = reader.read(model.name)
        if state is None or not state.versions:
            return None, f"the registry has no version of {model.name} yet"
        digest = sha256(project.root / model.file)
        mine = next((each for each in state.versions if each.tags.get(records.DIGEST) == digest and each.decided), None)
        if mine:
            return _said_already(mine), ""
        theirs = _champion(state, model.gate, scoring.scored_by(pipeline, model, lock), measured)
    except (requests.RequestException, ValueError) as error:
        server = os.environ["MLFLOW_TRACKING_URI"]
        return None, f"the MLflow server {server} does not say what is in production ({reason(error)})"
    except (records.Unclear, UserError) as error:
        return None, f"the registry does not say what is in production ({error})"
    return _would("Against production", judge(measured, theirs, model.gate), is_compared=theirs is not None), ""


def _said_already(version: Version) -> Said:
    stage, why = version.tags["decision"], version.tags.get("reason", "")
    registry = "This clone's own registry" if settings.is_local(os.environ) else "The registry"
    sentence = f"{registry} has it as version {version.number}: {stage}: {why}"
    return Said(sentence, stage, bool(version.record.get("champion")))


def _champion(
    state: State, gate: Gate, scored_by: ScoredBy, measured: Measurement | Unscorable
) -> tuple[int, Measurement | Unscorable] | None:
    """Return the version in production, and what the registry has of its measurement."""
    number = records.champion(state)
    version = state.version(number) if number else None
    if version is None:
        return None

    from scripts.registry import reconcile

    def rows() -> tuple[float, ...] | None:
        with tempfile.TemporaryDirectory() as folder:
            file = recorded.fetch(version, scored_by.rows_file, Path(folder))
            return reconcile.parsed_rows(read_bytes(file)) if file else None

    has_rows = isinstance(measured, Measurement) and measured.rows is not None
    found = reconcile.logged_measurement(version, gate, scored_by, rows if has_rows else None)
    return version.number, found or Unscorable(OTHER_MEASURE)


def of_stand_in(model: Model, measured: Measurement | Unscorable, name: str, theirs: Measurement | Unscorable) -> Said:
    """Return what the gate would say if the model of `name` were in production."""
    return _would(
        f"With the model of {name} for production's", judge(measured, (name, theirs), model.gate), is_compared=True
    )


def _would(against: str, verdict: Verdict, *, is_compared: bool) -> Said:
    verb = "would go to" if verdict.stage == PRODUCTION else "would stay in"
    return Said(f"{against} it {verb} {verdict.stage}: {verdict.reason}", verdict.stage, is_compared)
