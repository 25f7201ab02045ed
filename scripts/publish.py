"""Publishes what the pipeline made: train's part if it never happened, then what exists only when all stages ended.

The receipt is in the registry: a version with the model's digest, a decision, and the digest of dvc.lock.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests
import yaml

from scripts import images, pictures
from scripts.project import ROOT, UserError
from stagekit import sha256
from stages.train.faults import reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL = ROOT / "models" / "model.skops"
METADATA = ROOT / "models" / "model_metadata.json"
LOCK = ROOT / "dvc.lock"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""What git calls a tree without files."""


class Published(NamedTuple):
    """What the registry has of the model at hand: the stage it was given when it came and why, and the one it has now.

    `news`: whether all this was put there by this run.
    """

    model: str
    version: str
    stage: str
    reason: str
    accuracy: float
    now: str
    news: bool


def receipt(model: str, digest: str, lock: str) -> Published | None:
    """The version that is all there for `digest` and `lock`, by plain REST calls (MLflow takes seconds to import)."""
    url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/model-versions/search"
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    query = {"filter": f"name='{model}'", "max_results": "1000"}
    while True:
        response = requests.get(url, params=query, auth=(user, password) if user or password else None, timeout=10)
        response.raise_for_status()
        page = response.json()
        for version in page.get("model_versions", []):
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            if (tags.get("model_sha256"), tags.get("dvc_lock_sha256")) == (digest, lock) and "decision" in tags:
                accuracy, now = float(tags["test_accuracy"]), version.get("current_stage") or tags["decision"]
                return Published(model, version["version"], tags["decision"], tags["reason"], accuracy, now, news=False)
        if not page.get("next_page_token"):
            return None
        query["page_token"] = page["next_page_token"]


def snapshot(built: Mapping[str, images.Image]) -> dict[str, str]:
    """What a run is about to use, by the name that it gets in MLflow; taken first, since people edit during a run."""
    names = ("dvc.yaml", "params.yaml")
    tags = {name: image.tag for name, image in built.items()}
    return {name: (ROOT / name).read_text() for name in names} | {"images.json": json.dumps(tags, indent=2) + "\n"}


def publish_all(used: Mapping[str, str]) -> Published:
    """Sees to it that the registry has all of the model at hand, which was made of `used` (see `snapshot`).

    Raises UserError where the server is away.
    """
    model, lock = json.loads(os.environ["REGISTRY"])["model"], sha256(LOCK)
    try:
        done = receipt(model, sha256(MODEL), lock)
    except (requests.RequestException, ValueError) as error:
        server = os.environ["MLFLOW_TRACKING_URI"]
        raise UserError(_not_published(f"the MLflow server {server} did not answer ({reason(error)})")) from None
    if done:
        return done
    print("publishing ...", flush=True)
    from mlflow import MlflowClient

    from stages.train import registry

    try:
        settings = registry.Settings.from_environment(os.environ)
        outcome = registry.publish(MODEL, METADATA, settings)
        with registry.server_errors():
            _complete(MlflowClient(), model, outcome.version, outcome.run_id, lock, used)
    except registry.RegistryError as error:
        raise UserError(_not_published(str(error))) from None
    accuracy = json.loads(METADATA.read_text())["metrics"]["test_accuracy"]
    return Published(model, outcome.version, outcome.stage, outcome.reason, accuracy, outcome.stage, news=True)


def _not_published(why: str) -> str:
    return f"the model is trained, but not published: {why}; 'make run' publishes it once that works, without training"


def _complete(
    client: "MlflowClient", model: str, version: str, run_id: str, lock: str, used: Mapping[str, str]
) -> None:
    """Adds to the run what exists only after the pipeline; the receipt comes last."""
    pipeline = yaml.safe_load(used["dvc.yaml"])
    patch = uncommitted()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy(LOCK, folder)
        for name, text in used.items():
            (folder / name).write_text(text)
        if patch:
            (folder / "uncommitted.patch").write_bytes(patch)
        client.log_artifacts(run_id, temporary, "pipeline")
    with tempfile.TemporaryDirectory() as temporary:
        for path in metrics_files(pipeline):
            shutil.copy(path, temporary)
        pictures.draw(pipeline.get("plots", []), Path(temporary))
        client.log_artifacts(run_id, temporary, "evaluation")
    for path in metrics_files(pipeline):
        for name, value in json.loads(path.read_text()).items():
            if isinstance(value, int | float):
                client.log_metric(run_id, name, value)
    dirty = "true" if patch else "false"
    client.set_tag(run_id, "git_dirty", dirty)
    client.set_tag(run_id, "dvc_lock_sha256", lock)
    client.set_model_version_tag(model, version, "git_dirty", dirty)
    client.set_model_version_tag(model, version, "dvc_lock_sha256", lock)


def metrics_files(pipeline: Mapping[str, Any]) -> list[Path]:
    """The files that the stages of dvc.yaml list under `metrics`."""
    return [ROOT / path for stage in pipeline["stages"].values() for path in stage.get("metrics", [])]


def uncommitted() -> bytes:
    """The patch that makes the commit at hand into the code that ran; empty if there is no difference.

    It holds the changes of tracked files, and new files below stages/ and scripts/ alone: what else lies in the clone
    (a copy of .env, data) must not travel to a server. dvc.yaml and dvc.lock, which a run writes, are artifacts of
    their own. Raises UserError where git cannot tell.
    """
    head = git("rev-parse", "--verify", "--quiet", "HEAD", may_fail=True).strip() or EMPTY_TREE
    objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects").strip()
    with tempfile.TemporaryDirectory() as temporary:
        # An index and an object store of our own: the user's stay as they are.
        aside = {
            "GIT_INDEX_FILE": str(Path(temporary, "index")),
            "GIT_OBJECT_DIRECTORY": temporary,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        git("read-tree", head, **aside)
        git("add", "--update", **aside)
        git("add", "--", "stages", "scripts", **aside)
        written_by_a_run = (":(exclude)dvc.yaml", ":(exclude)dvc.lock")
        return git("diff", "--cached", "--binary", head, "--", ".", *written_by_a_run, **aside).encode("utf-8", TEXT)


TEXT = "surrogateescape"
"""How bytes that are no UTF-8 survive as text."""


def git(*arguments: str, may_fail: bool = False, **environ: str) -> str:
    """What `git ARGUMENTS` prints. Raises UserError with git's words where it fails."""
    done = subprocess.run(["git", *arguments], env=os.environ | environ, capture_output=True, text=True, errors=TEXT)
    if done.returncode and not may_fail:
        raise UserError(
            f"git cannot tell what is not committed ('git {arguments[0]}': {' '.join(done.stderr.split())[:300]}); "
            "expected a whole repository: mend it and run again"
        )
    return done.stdout
