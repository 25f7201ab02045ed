"""Publishing: a trained model becomes an MLflow run, a registered version and a decision about production.

`publish` is idempotent and keyed by the model's content: the tag `model_sha256`, set in the calls that create the run
and the version, is the receipt. train calls it when its outputs are on disk; `make run` calls it again for what never
happened: a stage restored from cache, a server that was down, a switch to another server.

Only REST calls that MLflow servers from 2.7 on answer are used (no logged models).
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, NamedTuple

import mlflow.sklearn
import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

import skops_model
from stagekit import sha256
from stages.train import faults

PRODUCTION, STAGING, ARCHIVED = "Production", "Staging", "Archived"
SERVING_PACKAGES = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "skops")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps MLflow's advice out of the log: that stages are deprecated, that no pip was found, where its page is."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("mlflow", "urllib3")}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


class RegistryError(Exception):
    """The server did not do what was asked: its text is one line that says which server and why."""


@dataclass(frozen=True)
class Settings:
    """What publishing needs to know beside the model: the sections mlflow and promotion of params.yaml, and git's word.

    They come by the environment, not as arguments: a change of them must not train a model again.
    """

    experiment: str
    model: str
    min_improvement: float
    git_commit: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads REGISTRY (JSON) and GIT_COMMIT, which the runner sets. Raises RegistryError where they are missing."""
        if not (environ.get("MLFLOW_TRACKING_URI") and environ.get("REGISTRY")):
            raise RegistryError("MLFLOW_TRACKING_URI or REGISTRY is not set; expected both, as make sets them")
        return cls(**json.loads(environ["REGISTRY"]), git_commit=environ.get("GIT_COMMIT", "none"))


class Outcome(NamedTuple):
    """What became of a model: its version, the run it came from, the stage it was given and why."""

    version: str
    run_id: str
    stage: str
    reason: str


def publish(model: Path, metadata_path: Path, settings: Settings) -> Outcome:
    """Sees to it that `model` has a run, a version and a decision, and tells them.

    `metadata_path` is the JSON that train wrote beside the model. What is there already is left as it is.
    Raises RegistryError where the server cannot be reached or refuses.
    """
    metadata = json.loads(metadata_path.read_text())
    digest = sha256(model)
    with server_errors(), quiet():
        client = MlflowClient()
        version = find_version(client, settings.model, digest)
        if version is None:
            run = _finished_run(client, settings, digest, model, metadata)
            version = _register(client, settings, digest, run, metadata)
        if "decision" not in version.tags:
            version = _decide(client, settings, version)
    return Outcome(version.version, version.run_id, version.tags["decision"], version.tags["reason"])


@contextmanager
def server_errors() -> Iterator[None]:
    """Turns what MLflow's client and requests raise into RegistryError, in one line."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        raise RegistryError(f"the MLflow server {uri} did not do what was asked ({faults.reason(error)})") from error


def versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """All versions of `model`, the newest first; none if there is no such model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{model}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version), reverse=True)


def find_version(client: MlflowClient, model: str, digest: str) -> ModelVersion | None:
    """The newest version of `model` whose content is `digest`, if there is one."""
    return next((v for v in versions(client, model) if v.tags.get("model_sha256") == digest), None)


# --- the run


def _finished_run(client: MlflowClient, settings: Settings, digest: str, model: Path, metadata: dict[str, Any]) -> Run:
    """The run that holds this model; one that was begun and never finished is finished."""
    experiment = client.get_experiment_by_name(settings.experiment)
    experiment_id = experiment.experiment_id if experiment else _create_experiment(client, settings.experiment)
    begun = client.search_runs([experiment_id], f"tags.model_sha256 = '{digest}'", max_results=1)
    run = begun[0] if begun else _begin_run(client, settings, digest, experiment_id)
    if run.info.status != "FINISHED":
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, run.info.start_time, 0) for name, value in metadata["metrics"].items()],
            params=[Param(name, str(value)) for name, value in metadata["params"].items()],
        )
        client.log_inputs(run.info.run_id, [_dataset(name, data) for name, data in metadata["data"].items()])
        _log_model(client, run.info.run_id, model, metadata)
        client.set_terminated(run.info.run_id)
    return run


def _create_experiment(client: MlflowClient, name: str) -> str:
    # The kind makes MLflow's pages show tables of runs rather than those for chat applications.
    return client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})


def _begin_run(client: MlflowClient, settings: Settings, digest: str, experiment_id: str) -> Run:
    tags = {
        "model_sha256": digest,
        "mlflow.runName": f"{settings.model}-{digest[:8]}",
        "mlflow.source.name": "train",
        "mlflow.source.git.commit": settings.git_commit,
        "git_commit": settings.git_commit,
    }
    return client.create_run(experiment_id, tags=tags)


def _dataset(name: str, data: dict[str, Any]) -> DatasetInput:
    # MLflow takes at most 36 characters of digest.
    dataset = Dataset(
        name=name,
        digest=data["sha256"][:36],
        source_type="dvc",
        source=json.dumps({"path": data["path"], "sha256": data["sha256"]}),
        profile=json.dumps({"num_rows": data["rows"]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", {"train": "training", "test": "testing"}[name])])


def _log_model(client: MlflowClient, run_id: str, model: Path, metadata: dict[str, Any]) -> None:
    inputs = Schema([ColSpec("double", name) for name in metadata["features"]])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "model")
        mlflow.sklearn.save_model(
            skops_model.load(model),
            folder,
            serialization_format="skops",
            skops_trusted_types=skops_model.TRUSTED_TYPES,
            signature=ModelSignature(inputs, Schema([ColSpec("string")])),
            pip_requirements=[f"{package}=={installed(package)}" for package in SERVING_PACKAGES],
        )
        # The file that DVC tracks is the file that is registered.
        (folder / "model.skops").write_bytes(model.read_bytes())
        client.log_artifacts(run_id, str(folder), "model")
        client.log_dict(run_id, metadata, "model_metadata.json")


# --- the version


def _register(
    client: MlflowClient, settings: Settings, digest: str, run: Run, metadata: dict[str, Any]
) -> ModelVersion:
    try:
        client.create_registered_model(settings.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {
        "model_sha256": digest,
        "git_commit": settings.git_commit,
        "test_accuracy": str(metadata["metrics"]["test_accuracy"]),
        "test_data_sha256": metadata["data"]["test"]["sha256"],
    }
    source = f"{run.info.artifact_uri}/model"
    return client.create_model_version(settings.model, source, run.info.run_id, tags=tags)


# --- the decision


def judge(accuracy: float, champion: float | None, name: str, min_improvement: float) -> tuple[str, str]:
    """Stage and reason for a model with test `accuracy`, against `champion`'s (None: nothing is in production)."""
    if champion is None:
        return PRODUCTION, "no version was in production"
    numbers = f"its test accuracy {accuracy:.6g} against {champion:.6g} of {name}"
    if round(accuracy - champion, 9) > min_improvement:  # 0.8 - 0.7 is 0.1
        return PRODUCTION, f"better than production: {numbers}"
    wanted = f", {min_improvement:g} more wanted" if min_improvement else ""
    return STAGING, f"not better than production: {numbers}{wanted}"


def _decide(client: MlflowClient, settings: Settings, version: ModelVersion) -> ModelVersion:
    """Compares `version` with production and gives it its stage, its alias and, last of all, the tag `decision`.

    A version without that tag is judged again; what an interrupted decision had done already stays.
    """
    in_production = [v for v in versions(client, settings.model) if v.current_stage == PRODUCTION]
    if any(v.version == version.version for v in in_production):
        stage, reason = PRODUCTION, version.tags.get("reason", "was put there by hand, before it was compared")
    else:
        champion = in_production[0] if in_production else None
        stage, reason = judge(
            float(version.tags["test_accuracy"]),
            _accuracy_of(champion, settings.model) if champion else None,
            f"version {champion.version}" if champion else "",
            settings.min_improvement,
        )
    client.set_model_version_tag(settings.model, version.version, "reason", reason)
    client.update_model_version(settings.model, version.version, description=f"{stage}: {reason}")
    if version.current_stage != stage:
        client.transition_model_version_stage(
            settings.model, version.version, stage, archive_existing_versions=stage == PRODUCTION
        )
    client.set_registered_model_alias(settings.model, stage.lower(), version.version)
    client.set_model_version_tag(settings.model, version.version, "decision", stage)

    decided = client.get_model_version(settings.model, version.version)
    by_alias = client.get_model_version_by_alias(settings.model, stage.lower())
    if decided.current_stage != stage or by_alias.version != version.version:
        raise RegistryError(
            f"version {version.version} of {settings.model} was set to {stage}, but the server has it in "
            f"{decided.current_stage} and the alias {stage.lower()} on version {by_alias.version}"
        )
    return decided


def _accuracy_of(champion: ModelVersion, model: str) -> float:
    try:
        return float(champion.tags["test_accuracy"])
    except (KeyError, ValueError):
        raise RegistryError(
            f"version {champion.version} of {model} is in production without a number as its tag test_accuracy, so "
            "nothing can be compared with it: set that tag, or archive the version"
        ) from None
