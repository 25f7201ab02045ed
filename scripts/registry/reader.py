"""What the registry has of a model, by plain REST calls: MLflow takes a second to import."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from scripts import bounded, mlflow_server, settings
from scripts.faults import reason
from scripts.project import UserError
from scripts.registry import records
from scripts.registry.records import State, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from scripts.pipeline.stage import Model


MANY = 20
"""So many versions are not listed in a sentence."""
NOT_MLFLOWS = "it answers with something else than an MLflow server does"


def read(model: str) -> State | None:
    """Return what the registry has of `model`; None if it has no such model.

    Raise RequestException if there is no answer, ValueError for one that is not MLflow's.
    """
    found = get("registered-models/get", name=model)
    if found is None:
        return None
    return state_of(found, list(_pages(model)))


def state_of(found: Mapping[str, Any], pages: Sequence[Mapping[str, Any]]) -> State:
    """Return what MLflow's answers say of a model and of its versions. Raise ValueError if they are not MLflow's."""
    try:
        versions = [Version.of(each) for page in pages for each in page.get("model_versions", [])]
        registered = found["registered_model"]
        aliases = {alias["alias"]: alias["version"] for alias in registered.get("aliases", [])}
        return State.of(versions, aliases, records.tags_of(registered))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise ValueError(NOT_MLFLOWS) from None


def has_run(version: Version) -> bool:
    """Return True if the run of a version is there, and was not deleted. Raise as `read` does."""
    found = get("runs/get", run_id=version.run_id)
    try:
        return found is not None and found["run"]["info"].get("lifecycle_stage") != "deleted"
    except (KeyError, TypeError, AttributeError):
        raise ValueError(NOT_MLFLOWS) from None


def experiment(name: str) -> str | None:
    """Return the id of an experiment, which is a number; None if there is none of this name. Raise as `read` does."""
    found = get("experiments/get-by-name", experiment_name=name)
    try:
        return str(int(found["experiment"]["experiment_id"])) if found else None
    except (KeyError, TypeError):
        raise ValueError(NOT_MLFLOWS) from None


def metrics(run: str) -> dict[str, float]:
    """Return the last value of each metric of a run; none if there is no such run. Raise as `read` does."""
    found = get("runs/get", run_id=run)
    try:
        listed = found["run"]["data"].get("metrics", []) if found else []
        return {str(metric["key"]): float(metric["value"]) for metric in listed}
    except (KeyError, TypeError, AttributeError):
        raise ValueError(NOT_MLFLOWS) from None


def _pages(model: str) -> Iterator[dict[str, Any]]:
    query = {"filter": f"name='{model}'", "max_results": "1000"}
    for _ in range(bounded.PAGES):
        page = get("model-versions/search", **query) or {}
        yield page
        if not page.get("next_page_token"):
            return
        query["page_token"] = page["next_page_token"]
    raise ValueError("its list of versions does not end")


def get(call: str, **query: str) -> dict[str, Any] | None:
    """Return MLflow's answer to a call that reads; None if what it asks for is not there."""
    url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/{call}"
    response = bounded.get(url, params=query, auth=settings.mlflow_login(os.environ), timeout=10)
    if response.status_code == 404 and '"RESOURCE_DOES_NOT_EXIST"' in response.text:
        return None
    response.raise_for_status()
    body = bounded.json(response)
    if not isinstance(body, dict):
        raise ValueError(NOT_MLFLOWS)
    return body


# --- what a command was asked


def ask(
    arguments: Sequence[str], look: Callable[[str], State | None] | None = None
) -> tuple[dict[str, str], str, State]:
    """Return what a command on one model was called with (`model=m version=3`), the model's name, and what there is.

    Without a name it is the pipeline's only model. `look` reads it, if not all of its versions are needed. Start the
    local server if that is in use. Raise UserError if there are several, if there is no such model, or if the server
    does not answer.
    """
    given = parse(arguments)
    model, *others = names(given)
    if others:
        raise UserError(f"MODEL is empty; expected one of {', '.join([model, *others])}, as in 'MODEL={model}'")
    start_server()
    state = answered(lambda: look(model)) if look else look_up(model)
    if state is None or not state.versions:
        raise UserError(f"there is no version of {model} in the registry; expected one: 'make run' registers it")
    return given, model, state


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Return the words `name=value` by name."""
    return dict(argument.split("=", 1) for argument in arguments)


def names(given: Mapping[str, str]) -> list[str]:
    """Return the model that is named, else all models of the pipeline. Raise UserError if it has none."""
    if given.get("model"):
        return [given["model"]]
    if found := list(pipelines_models()):
        return found
    raise UserError("dvc.yaml.template has no model; expected a line {{ model(...) }} below artifacts, or MODEL=")


def pipelines_models() -> dict[str, "Model"]:
    """Return the models of the pipeline by name."""
    from scripts.pipeline import template

    return {model.name: model for model in template.load().models}


def start_server() -> None:
    """Start the local server if that is in use, and wait until it answers."""
    if settings.is_local(os.environ):
        mlflow_server.start()
        mlflow_server.wait()


def look_up(model: str) -> State | None:
    """Return what the registry has of `model`. Raise UserError if the server does not answer, or a record is none."""
    return answered(lambda: read(model))


def answered[T](look: Callable[[], T]) -> T:
    """Return what a look at the registry finds. Raise UserError if the server does not answer, or a record is none."""
    try:
        found = look()
        if state := getattr(found, "state", found):
            records.promotions(state)  # whether all records can be read
        return found
    except records.Unclear as error:
        raise UserError(str(error)) from None
    except (requests.RequestException, ValueError) as error:
        server = os.environ["MLFLOW_TRACKING_URI"]
        raise UserError(f"the MLflow server {server} did not answer ({reason(error)}); ask 'make doctor'") from None


def pick(state: State, which: str) -> Version:
    """Return the version that a number or an alias names; if none is named, the one in production, else the newest.

    Raise UserError if there is no such version.
    """
    if which:
        number = int(which) if which.isdecimal() else state.aliases.get(which)
    else:
        number = records.champion(state) or state.versions[-1].number
    found = state.version(number) if number else None
    if found is None:
        numbers = ", ".join(str(version.number) for version in state.versions)
        if len(state.versions) > MANY:
            numbers = f"{state.versions[0].number} to {state.versions[-1].number}"
        names = "".join(f", {alias}" for alias in sorted(state.aliases))
        raise UserError(
            f"there is no version {which or number}; expected one of {numbers}{names}: 'make models' shows them"
        )
    return found


@contextmanager
def registry_of(model: str) -> Iterator[tuple["MlflowClient", str]]:
    """Yield MLflow's client, and who asks. Raise UserError if the server does not do what is asked about `model`."""
    from scripts.registry import mlflow

    try:
        with mlflow.server_errors(), mlflow.quiet():
            yield mlflow.Client(), settings.who(os.environ)
    except mlflow.RegistryError as error:
        raise UserError(f"{model}: {error}; nothing is lost: repeat this command once that works") from None
