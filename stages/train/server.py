"""The MLflow server as publishing sees it: its settings, its faults, what it has of the model."""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from scripts import faults
from stages.train.promotion import Gate, State, Unclear, Version


class RegistryError(Exception):
    """The server did not do what was asked: its text is one line that says which server and why."""


@dataclass(frozen=True)
class Settings:
    """What publishing needs to know beside the model: the sections mlflow and promotion of params.yaml, and git's word.

    They come by the environment, not as arguments: a change of them must not train a model again.
    """

    experiment: str
    model: str
    gate: Gate
    git_commit: str
    who: str  # who decides, by the user name that MLflow or the machine knows

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads REGISTRY (JSON) and GIT_COMMIT, which the runner sets. Raises RegistryError where they are missing."""
        if not (environ.get("MLFLOW_TRACKING_URI") and environ.get("REGISTRY")):
            raise RegistryError("MLFLOW_TRACKING_URI or REGISTRY is not set; expected both, as make sets them")
        given = json.loads(environ["REGISTRY"])
        gate = Gate(**given.pop("gate"))
        return cls(**given, gate=gate, git_commit=environ.get("GIT_COMMIT", "none"))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps MLflow's advice out of the log (stages are deprecated, no pip was found, where its page is), and bars."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("mlflow", "urllib3")}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


@contextmanager
def server_errors() -> Iterator[None]:
    """Turns what MLflow's client and requests raise into RegistryError, in one line."""
    try:
        yield
    except (MlflowException, OSError, ImportError) as error:  # the last: the server names a store we have no client of
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        raise RegistryError(f"the MLflow server {uri} did not do what was asked ({faults.reason(error)})") from error
    except Unclear as error:
        raise RegistryError(str(error)) from None


def is_clash(error: MlflowException) -> bool:
    """Whether another client wrote the same row of the server's database at the same moment."""
    return "IntegrityError" in str(error)


def versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """All versions of `model`, the oldest first; none if there is no such model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{model}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def read(client: MlflowClient, model: str) -> State:
    """What the registry has of `model`. The model comes before its versions: its tags are written after theirs."""
    registered = client.get_registered_model(model)
    found = [Version(int(v.version), v.current_stage, v.run_id, v.tags) for v in versions(client, model)]
    return State.of(found, registered.aliases, registered.tags)


def run_of(client: MlflowClient, version: Version) -> Run | None:
    """The run that the version came from, if that is there; a stranger's version may come from none."""
    if not version.run_id:
        return None
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def artifact(run: Run, path: str, folder: str | Path) -> Path | None:
    """Where below `folder` an artifact of `run` now is, a file or a folder; None if the run has no such one.

    Not by the client's own calls, which ask for logged models first, of which servers before MLflow 3 know nothing.
    """
    there = get_artifact_repository(run.info.artifact_uri)
    if path not in [file.path for file in there.list_artifacts(path.rpartition("/")[0] or None)]:
        return None
    return Path(there.download_artifacts(path, str(folder)))
