"""The MLflow server as publishing sees it: its faults, and what it has of a model."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from scripts import faults
from scripts.registry.records import State, Unclear, Version

FAULTS = (MlflowException, OSError, ImportError)
"""What MLflow's client and requests raise; ImportError, if the server names a store that no client is installed for."""


class RegistryError(Exception):
    """The server did not do what was asked. The text is one line that says which server and why."""


class _Elsewhere(Exception):
    """Carries an exception past `server_errors`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's advice (stages are deprecated, where a run's page is) and its progress bars out of the log."""
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
    """Turn what MLflow's client and requests raise into RegistryError, in one line."""
    try:
        yield
    except FAULTS as error:
        why = faults.reason(error)
        raise RegistryError(f"the MLflow server {address()} did not do what was asked ({why})") from error
    except Unclear as error:
        raise RegistryError(str(error)) from None
    except _Elsewhere as fault:
        raise fault.error from None


def not_the_servers[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that works without the server: `server_errors` lets its exceptions pass as they are."""

    def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except FAULTS as error:
            raise _Elsewhere(error) from error

    return call


def address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def is_clash(error: MlflowException) -> bool:
    """Return True if another client wrote the same row of the server's database at the same moment."""
    return "IntegrityError" in str(error)


def versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """Return all versions of `model`, the oldest first; none if there is no such model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{model}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def read(client: MlflowClient, model: str) -> State:
    """Return what the registry has of `model`.

    The model comes before its versions: its tags are written after theirs.
    """
    registered = client.get_registered_model(model)
    found = [Version(int(v.version), v.current_stage, v.run_id, v.tags) for v in versions(client, model)]
    return State.of(found, registered.aliases, registered.tags)


def run_of(client: MlflowClient, version: Version) -> Run | None:
    """Return the run that the version came from; None if it came from none, or that is gone."""
    if not version.run_id:
        return None
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def artifact(run: Run, path: str, folder: str | Path) -> Path | None:
    """Download an artifact of `run`, a file or a folder; return where it is below `folder`, None if there is none.

    Not by the client's own calls, which ask for logged models first: servers before MLflow 3 do not know those.
    """
    there = get_artifact_repository(run.info.artifact_uri)
    if path not in [file.path for file in there.list_artifacts(path.rpartition("/")[0] or None)]:
        return None
    return Path(there.download_artifacts(path, str(folder)))


def check_location(uri: str) -> None:
    """Raise RegistryError if artifacts sent to `uri` would not reach the server that is in use.

    MLflow's client writes to a path on its own disk, and gives the server's user and token to any other host.
    """
    try:
        parts, host = urlsplit(uri), urlsplit(uri).hostname
    except ValueError:
        raise RegistryError(f"the MLflow server {address()} keeps artifacts at {uri!r}, which is no address") from None
    mend = "name a new experiment in params.yaml"
    if len(parts.scheme) < 2 or parts.scheme == "file":
        raise RegistryError(
            f"the MLflow server {address()} keeps artifacts at {parts.path}, which is a folder of this container; "
            "expected a server that takes them: start it with --serve-artifacts and without --default-artifact-root, "
            f"and {mend}"
        )
    if parts.scheme == "mlflow-artifacts" and host not in (None, urlsplit(address()).hostname):
        raise RegistryError(
            f"the MLflow server {address()} keeps artifacts at {uri}, which is another server; expected its own, since "
            f"{host} would get the user and the token: {mend}"
        )
