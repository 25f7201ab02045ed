"""Publishes what the pipeline made: train's part if it never happened, then what exists only when all stages ended.

The receipt is in the registry: a version with the model's digest, a decision, and the digest of dvc.lock.
"""

import importlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests

from scripts.faults import reason
from scripts.pipeline import images
from scripts.project import ROOT, UserError, load_yaml
from scripts.registry import plots, reader
from stagekit import sha256
from stages.train import promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL = ROOT / "models" / "model.skops"
METADATA = ROOT / "models" / "model_metadata.json"
LOCK = ROOT / "dvc.lock"
PATCH = "uncommitted.patch"
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
    """The version that is all there for `digest` and `lock`, if the registry is at rest besides.

    By plain REST calls, since MLflow takes seconds to import.
    """
    state = reader.read(model)
    if state is None or promotion.next_step(state):
        return None
    for version in state.versions:
        tags = version.tags
        if (tags.get("model_sha256"), tags.get("dvc_lock_sha256")) == (digest, lock):
            number, accuracy = str(version.number), _accuracy()
            return Published(model, number, tags["decision"], tags.get("reason", ""), accuracy, version.stage, False)
    return None


class Snapshot(NamedTuple):
    """What a run is about to use, taken first, since people edit and commit during a run.

    `files` are the artifacts below pipeline/: dvc.yaml, params.yaml, images.json, and the patch if there is one.
    """

    commit: str
    files: Mapping[str, bytes]

    @property
    def dirty(self) -> bool:
        return PATCH in self.files


def snapshot(built: Mapping[str, images.Image]) -> Snapshot:
    """To be called when dvc.yaml is rendered and GIT_COMMIT is set. Raises UserError where git cannot tell."""
    tags = {name: image.tag for name, image in built.items()}
    files = {name: (ROOT / name).read_bytes() for name in ("dvc.yaml", "params.yaml")}
    files["images.json"] = (json.dumps(tags, indent=2) + "\n").encode()
    if patch := uncommitted():
        files[PATCH] = patch
    return Snapshot(os.environ["GIT_COMMIT"], files)


def published_before() -> Published | None:
    """The version of the model at hand, if the registry has all of it. Raises UserError where the server is away."""
    model, lock = json.loads(os.environ["REGISTRY"])["model"], sha256(LOCK)
    try:
        return receipt(model, sha256(MODEL), lock)
    except promotion.Unclear as error:
        raise UserError(_not_published(str(error))) from None
    except (requests.RequestException, ValueError) as error:
        server = os.environ["MLFLOW_TRACKING_URI"]
        raise UserError(_not_published(f"the MLflow server {server} did not answer ({reason(error)})")) from None


def get_ready() -> None:
    """Imports what `publish_all` needs beyond this module, which takes seconds, and draws a first picture."""
    for module in ("mlflow", "stages.train.registry", "stages.train.server", "pandas", "sklearn.metrics"):
        importlib.import_module(module)
    plots.warm_up()


def publish_all(used: Snapshot) -> Published:
    """Sees to it that the registry has all of the model at hand, which was made of `used` (see `snapshot`).

    Raises UserError where the server is away.
    """
    print("publishing ...", flush=True)
    from mlflow import MlflowClient

    from stages.train import registry, server

    try:
        settings = server.Settings.from_environment(os.environ)
        outcome = registry.publish(MODEL, METADATA, settings)
        with server.server_errors():
            _complete(MlflowClient(), settings.model, outcome.version, outcome.run_id, sha256(LOCK), used)
    except server.RegistryError as error:
        raise UserError(_not_published(str(error))) from None
    return Published(
        settings.model, outcome.version, outcome.stage, outcome.reason, _accuracy(), outcome.now, news=True
    )


def _accuracy() -> float:
    return json.loads(METADATA.read_text())["metrics"]["test_accuracy"]


def _not_published(why: str) -> str:
    return f"the model is trained, but not published: {why}; 'make run' publishes it once that works, without training"


def _complete(client: "MlflowClient", model: str, version: str, run_id: str, lock: str, used: Snapshot) -> None:
    """Adds to the run what exists only after the pipeline; the receipt comes last."""
    from mlflow.entities import Metric, RunTag

    pipeline = load_yaml(used.files["dvc.yaml"])
    with tempfile.TemporaryDirectory() as temporary:
        for name, data in used.files.items():
            Path(temporary, name).write_bytes(data)
        shutil.copy(LOCK, temporary)
        client.log_artifacts(run_id, temporary, "pipeline")
    with tempfile.TemporaryDirectory() as temporary:
        for path in metrics_files(pipeline):
            shutil.copy(path, temporary)
        plots.draw(pipeline.get("plots", []), Path(temporary))
        client.log_artifacts(run_id, temporary, "evaluation")
    now = int(time.time() * 1000)
    # The commit goes with the patch: the same model may come from other code than it did first.
    code = {"git_commit": used.commit, "git_dirty": str(used.dirty).lower()}
    receipt = {"dvc_lock_sha256": lock}
    tags = {f"image.{name}": tag for name, tag in json.loads(used.files["images.json"]).items()}
    tags |= {"mlflow.source.git.commit": used.commit} | code | receipt
    client.log_batch(run_id, [Metric(name, value, now, 0) for name, value in measured(pipeline).items()])
    for some in itertools.batched(tags.items(), TAGS_AT_ONCE, strict=False):
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in some])
    for name, value in (code | receipt).items():
        client.set_model_version_tag(model, version, name, value)


def measured(pipeline: Mapping[str, Any], root: Path = ROOT) -> dict[str, float]:
    """The numbers of train's metadata and of the stages' metrics, of the clone or of another tree."""
    found = dict(json.loads((root / METADATA.relative_to(ROOT)).read_text())["metrics"])
    for path in metrics_files(pipeline):
        now = json.loads((root / path.relative_to(ROOT)).read_text())
        found |= {name: value for name, value in now.items() if isinstance(value, int | float)}
    return found


def metrics_files(pipeline: Mapping[str, Any]) -> list[Path]:
    """The files that the stages of dvc.yaml list under `metrics`."""
    return [ROOT / path for stage in pipeline["stages"].values() for path in stage.get("metrics", [])]


def uncommitted() -> bytes:
    """The patch that makes the commit at hand into the code that ran; empty if there is no difference.

    It holds the changes of tracked files, and of new ones the code below stages/ and scripts/ alone: what else lies in
    the clone (a copy of .env, data, a token) must not travel to a server, nor what somebody typed into .env.example.
    dvc.yaml and dvc.lock, which a run writes, are artifacts of their own. Raises UserError where git cannot tell.
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
        new = git("ls-files", "-z", "--others", "--exclude-standard", "--", "stages", "scripts", **aside).split("\0")
        if code := [name for name in new if images.allowed(Path(name)) or name.endswith((".py", ".sh"))]:
            git("add", "--", *code, **aside)
        left_out = (":(exclude)dvc.yaml", ":(exclude)dvc.lock", ":(exclude).env.example")
        whole = ("--binary", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
        return git("diff", "--cached", *whole, head, "--", ".", *left_out, **aside).encode("utf-8", TEXT)


TAGS_AT_ONCE = 100  # more in one call are refused by MLflow's server


TEXT = "surrogateescape"
"""How bytes that are no UTF-8 survive as text."""


def git(*arguments: str, may_fail: bool = False, **environ: str) -> str:
    """What `git ARGUMENTS` prints. Raises UserError with git's words where it fails."""
    done = subprocess.run(["git", *arguments], env=os.environ | environ, capture_output=True, text=True, errors=TEXT)
    if done.returncode and not may_fail:
        raise UserError(
            f"'git {' '.join(arguments)[:80]}' failed: {' '.join(done.stderr.split())[:300]}; expected a whole "
            "repository, in which git can tell what is not committed: mend it and run again"
        )
    return done.stdout
