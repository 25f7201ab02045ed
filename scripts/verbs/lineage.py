"""`make lineage VERSION=`: from a version to its run, its commit, its images, its parameters and each file's place."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from tabulate import tabulate

from scripts import mlflow_server, settings
from scripts.faults import reason
from scripts.project import ROOT, load_yaml
from scripts.registry import reader
from scripts.registry.publish import PATCH
from scripts.transfer import FAULTS
from stages.train.promotion import State, Version


def files(lock: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The files of a dvc.lock: by path, the stage that makes it (or "given") and the hash that DVC has of it."""
    stages = lock["stages"]
    made = {out["path"]: (name, out["md5"]) for name, stage in stages.items() for out in stage.get("outs", [])}
    read = {dep["path"]: ("given", dep["md5"]) for stage in stages.values() for dep in stage.get("deps", [])}
    return {**read, **made}


def place(repo: Repo, digest: str) -> str:
    """Where in the remote the file of this hash is, or that it is not, or why that cannot be told."""
    try:
        remote = repo.cloud.get_remote_odb()
        if not remote.exists(digest):
            return "not pushed"
        return remote.fs.unstrip_protocol(remote.oid_to_path(digest))
    except FAULTS as error:
        return f"unknown: {reason(error)}"


def told(model: str, state: State, version: Version, folder: Path) -> Iterator[tuple[str, str]]:
    """What there is to tell beside the tables: a name and a text each."""
    tags = version.tags
    site = mlflow_server.address()
    dagshub = "" if settings.is_local(os.environ) else f"  {site}/commit/{tags.get('git_commit', '')}"
    aliases = "".join(f", {alias}" for alias, number in state.aliases.items() if number == version.number)
    yield "model", f"{model} version {version.number} ({version.stage}{aliases})  {site}/#/models/{model}"
    yield "file", f"model/model.skops, SHA-256 {tags.get('model_sha256', 'unknown')}"
    yield "decision", f"{tags.get('decision', 'none yet')}: {tags.get('reason', '')}"
    yield "run", version.run_id
    yield "commit", f"{tags.get('git_commit', 'unknown')}{dagshub}"
    if tags.get("git_dirty") == "true":
        lines = (folder / PATCH).read_bytes().count(b"\n")
        yield "patch", f"{lines} lines beyond the commit: the run's artifact pipeline/{PATCH}"
    yield "lock", f"pipeline/dvc.lock, SHA-256 {tags.get('dvc_lock_sha256', 'unknown')}"


def main(arguments: list[str]) -> None:
    given, model, state = reader.ask(arguments)
    version = reader.pick(state, given["version"])
    with reader.pipeline_of(version) as folder, Repo(str(ROOT)) as repo:
        print(tabulate(told(model, state, version, folder), tablefmt="plain", disable_numparse=True))
        images = json.loads((folder / "images.json").read_text())
        print("\n" + tabulate(images.items(), ("image", "tag"), disable_numparse=True))
        params = load_yaml((folder / "params.yaml").read_text())
        rows = [(f"{section}.{name}", value) for section, values in params.items() for name, value in values.items()]
        print("\n" + tabulate(rows, ("param", "value"), disable_numparse=True, missingval="null"))
        lock = load_yaml((folder / "dvc.lock").read_text())
        rows = [(path, made_by, digest, place(repo, digest)) for path, (made_by, digest) in files(lock).items()]
        print("\n" + tabulate(rows, ("file", "made by", "md5", "in the remote"), disable_numparse=True))
