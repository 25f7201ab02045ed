"""What the registry has of a model, by plain REST calls: MLflow takes seconds to import."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from scripts import mlflow_server, settings
from scripts.faults import reason
from scripts.pipeline import template
from scripts.project import UserError
from stages.train import promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from stages.train.server import Settings


def read(model: str) -> promotion.State | None:
    """What the registry has of `model`; None if it has no such model. Raises RequestException for any other answer."""
    found = _get("registered-models/get", name=model)
    if found is None:
        return None
    aliases = {alias["alias"]: alias["version"] for alias in found["registered_model"].get("aliases", [])}
    versions, query = [], {"filter": f"name='{model}'", "max_results": "1000"}
    while True:
        page = _get("model-versions/search", **query) or {}
        versions += [
            promotion.Version(int(v["version"]), v["current_stage"], v.get("run_id", ""), _tags(v))
            for v in page.get("model_versions", [])
        ]
        if not page.get("next_page_token"):
            return promotion.State.of(versions, aliases, _tags(found["registered_model"]))
        query["page_token"] = page["next_page_token"]


def _tags(entity: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in entity.get("tags", [])}


def _get(call: str, **query: str) -> dict[str, Any] | None:
    """MLflow's answer to a call that reads; None where what it asks for is not there."""
    url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/{call}"
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    response = requests.get(url, params=query, auth=(user, password) if user or password else None, timeout=10)
    if response.status_code == 404 and '"RESOURCE_DOES_NOT_EXIST"' in response.text:
        return None
    response.raise_for_status()
    return response.json()


def ask(arguments: list[str]) -> tuple[dict[str, str], str, promotion.State]:
    """What a command on models was called with, as in `model=m version=3`; the model's name, and what there is of it.

    `model` may be empty: then it is the one of params.yaml. Starts the local server if that is in use.
    Raises UserError where there is no such model, or the server does not answer.
    """
    given = dict(argument.split("=", 1) for argument in arguments)
    params = template.read_params()
    os.environ.update(settings.for_a_run(params))
    model = given.get("model") or params["mlflow"]["model"]
    if settings.is_local(os.environ):
        mlflow_server.start()
        mlflow_server.wait()
    try:
        state = read(model)
        if state:
            promotion.promotions(state)  # whether all records can be read
    except promotion.Unclear as error:
        raise UserError(str(error)) from None
    except (requests.RequestException, ValueError) as error:
        server = os.environ["MLFLOW_TRACKING_URI"]
        raise UserError(f"the MLflow server {server} did not answer ({reason(error)}); ask 'make doctor'") from None
    if state is None or not state.versions:
        raise UserError(f"there is no version of {model} in the registry; expected one: 'make run' registers it")
    return given, model, state


def pick(state: promotion.State, which: str) -> promotion.Version:
    """The version that a number or an alias names. Raises UserError where none does."""
    number = int(which) if which.isdecimal() else state.aliases.get(which)
    found = state.version(number) if number else None
    if found is None:
        numbers = ", ".join(str(version.number) for version in state.versions)
        names = "".join(f", {alias}" for alias in sorted(state.aliases))
        raise UserError(f"there is no version {which or '(none given)'}; expected one of {numbers}{names}")
    return found


@contextmanager
def registry_of(model: str) -> Iterator[tuple["MlflowClient", "Settings"]]:
    """MLflow's client, and the settings for `model`. Raises UserError where the server does not do what is asked."""
    from mlflow import MlflowClient

    from stages.train import server

    try:
        with server.server_errors(), server.quiet():
            yield MlflowClient(), replace(server.Settings.from_environment(os.environ), model=model)
    except server.RegistryError as error:
        raise UserError(f"{error}; nothing is lost: repeat this command once that works") from None


@contextmanager
def pipeline_of(version: promotion.Version) -> Iterator[Path]:
    """A folder, for a while, with what the version's run recorded of the pipeline: dvc.yaml, dvc.lock, params.yaml,
    images.json and, if the tree was dirty, uncommitted.patch. Raises UserError where there is no such record.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = fetch(version, "pipeline", temporary)
        if folder is None:
            raise UserError(
                f"version {version.number} has no record of its pipeline; expected one that 'make run' published to "
                "its end: name another version"
            )
        yield folder


def fetch(version: promotion.Version, path: str, folder: str | Path) -> Path | None:
    """Where below `folder` an artifact of the version's run now is; None if there is none."""
    from stages.train import server

    with registry_of("") as (client, _):
        run = server.run_of(client, version)
        return server.artifact(run, path, folder) if run else None


def at_rest(state: promotion.State) -> bool:
    """Whether stages and aliases follow the records, and every version is decided on."""
    return is_clear(state) and promotion.next_step(state) is None


def is_clear(state: promotion.State) -> bool:
    """Whether stages and alias name one version."""
    try:
        promotion.next_step(state)
    except promotion.Unclear:
        return False
    return True
