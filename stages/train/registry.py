"""Publishing: a trained model becomes an MLflow run, a registered version and a decision about production.

`publish` is idempotent and keyed by the model's content: the tag `model_sha256`, set in the calls that create the run
and the version, is the receipt. train calls it when its outputs are on disk; `make run` calls it again for what never
happened: a stage restored from cache, a server that was down, a switch to another server. What is in production is
told by records, and `settle` makes the registry follow them: see promotion.py.

Only REST calls that MLflow servers from 2.7 on answer are used (no logged models).
"""

import json
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, NamedTuple

import mlflow.sklearn
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

import skops_model
from stagekit import sha256
from stages.train import production, promotion
from stages.train.server import Settings, is_clash, quiet, server_errors, versions

ATTEMPTS = 10
"""How often a model's run and version are made: one more for each call in which another machine was as fast."""
SERVING_PACKAGES = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "skops")


class Outcome(NamedTuple):
    """What became of a model: its version and run, the stage that it was given and why, and the one that it has now."""

    version: str
    run_id: str
    stage: str
    reason: str
    now: str


def publish(model: Path, metadata_path: Path, settings: Settings) -> Outcome:
    """Sees to it that `model` has a run, a version and a decision, and tells them.

    `metadata_path` is the JSON that train wrote beside the model. What is there already is left as it is.
    Raises RegistryError where the server cannot be reached or refuses.
    """
    metadata = json.loads(metadata_path.read_text())
    digest = sha256(model)
    with server_errors(), quiet():
        client = MlflowClient()
        version = _version(client, settings, digest, model, metadata)
        state = production.settle(client, settings, production.Judge(client, settings, metadata["data"]["test"]))
    settled = state.version(int(version.version))
    stage, reason = settled.tags["decision"], settled.tags.get("reason", "")
    return Outcome(version.version, version.run_id, stage, reason, settled.stage)


def find_version(client: MlflowClient, model: str, digest: str) -> ModelVersion | None:
    """The oldest version of `model` whose content is `digest`, if there is one."""
    return next((v for v in versions(client, model) if v.tags.get("model_sha256") == digest), None)


def _version(
    client: MlflowClient, settings: Settings, digest: str, model: Path, metadata: dict[str, Any]
) -> ModelVersion:
    """The version that holds this model; what is missing of it and of its run is made."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if version := find_version(client, settings.model, digest):
                return version
            run = _finished_run(client, settings, digest, model, metadata)
            return _register(client, settings, digest, run, metadata)
        except MlflowException as error:
            # Another machine wrote the same row at the same moment: what is there now is looked at again.
            if attempt == ATTEMPTS or not is_clash(error):
                raise


# --- the run


def _finished_run(client: MlflowClient, settings: Settings, digest: str, model: Path, metadata: dict[str, Any]) -> Run:
    """The run that holds this model; one that was begun and never finished is finished."""
    experiment_id = _experiment(client, settings.experiment)
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


def _experiment(client: MlflowClient, name: str) -> str:
    """The experiment's id; it is made if there is none."""
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    try:
        # The kind makes MLflow's pages show tables of runs rather than those for chat applications.
        return client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(name).experiment_id  # another machine was faster


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
        source=json.dumps({name: data[name] for name in ("path", "sha256", "md5")}),
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
        "test_data_sha256": metadata["data"]["test"]["sha256"],
        **{name: str(metadata["metrics"][name]) for name in promotion.HIGHER_IS_BETTER},
    }
    source = f"{run.info.artifact_uri}/model"
    made = client.create_model_version(settings.model, source, run.info.run_id, tags=tags)
    first = find_version(client, settings.model, digest)
    if first.version != made.version:  # another machine registered the same model at the same moment
        client.delete_model_version(settings.model, made.version)
        if first.run_id != made.run_id:
            client.delete_run(made.run_id)
    return first
