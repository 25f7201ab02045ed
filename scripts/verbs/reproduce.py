"""`make reproduce VERSION=`: runs again what made a version, and compares every output and metric with the record.

In a worktree of the version's commit, with its patch, its dvc.yaml and its parameters, and no cache: all stages run.
Nothing is published. Exit code 0 if all is identical, or equal to 6 decimals (processors differ in the last digits).
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from dvc.repo import Repo
from tabulate import tabulate

import skops_model
from scripts import settings
from scripts.pipeline import build, failures, images
from scripts.project import LOCAL, ROOT, UserError, load_yaml
from scripts.recovery import recover
from scripts.registry import publish, reader
from scripts.registry.publish import PATCH, git
from scripts.verbs.lineage import files
from stagekit import rounded, sha256
from stages.train.promotion import HIGHER_IS_BETTER, Version
from stages.train.scoring import HeldOut

FOLDER = LOCAL / "reproduce"
MODEL_FILE = "model/model.skops"  # in the version's run
LOG = LOCAL / "logs" / "reproduce.log"
MODEL, METADATA = publish.MODEL.relative_to(ROOT), publish.METADATA.relative_to(ROOT)
IDENTICAL, EQUAL = "identical", "equal to 6 decimals"
SILENT = ("REGISTRY", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Without these train publishes nothing."""


class Line(NamedTuple):
    """What was compared, and what came of it: IDENTICAL, EQUAL, or how it differs."""

    what: str
    verdict: str


# --- run it again


@contextmanager
def worktree(version: Version, recorded: Path) -> Iterator[Path]:
    """The tree that the version was made from; gone, with what a killed call left, when the block ends."""
    remove()
    commit = version.tags.get("git_commit", "none")
    tree = FOLDER / f"version-{version.number}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True).returncode:
        raise UserError(f"version {version.number} is of commit {commit}, which is not here; expected it: 'git fetch'")
    try:
        git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(tree), commit)
        if version.tags.get("git_dirty") == "true":
            git("-C", str(tree), "apply", "--whitespace=nowarn", str(recorded / PATCH))
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(recorded / name, tree)
        (tree / "dvc.lock").unlink(missing_ok=True)
        yield tree
    finally:
        remove()


def remove() -> None:
    """Deletes the worktree, also one that a killed call left.

    Only ours: to this container the user's own worktrees look as if they were gone, and 'prune' would delete them.
    """
    for line in git("worktree", "list", "--porcelain").splitlines():
        if line.startswith(f"worktree {FOLDER}/"):
            git("worktree", "remove", "--force", "--force", line.removeprefix("worktree "), may_fail=True)
    shutil.rmtree(FOLDER, ignore_errors=True)


def give_inputs(tree: Path, lock: Mapping[str, Any]) -> None:
    """Puts the user's own data into `tree`. Raises UserError where it is not what the version was made from."""
    with Repo(str(ROOT)) as repo:
        for path, (made_by, digest) in files(lock).items():
            if made_by != "given":
                continue
            if (ROOT / path).is_dir() and not (tree / path).exists():
                shutil.copytree(ROOT / path, tree / path)
            if (tree / path).is_dir():
                continue  # compared with the rest
            places = (tree / path, ROOT / path, kept_copy(repo, digest))
            source = next((file for file in places if file.is_file() and md5(file) == digest), None)
            if source is None:
                found = f"has the MD5 {md5(ROOT / path)}" if (ROOT / path).is_file() else "is missing"
                raise UserError(f"{path} {found}; expected the file of MD5 {digest} that the version was made from")
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            if source != tree / path:
                shutil.copy(source, tree / path)


def md5(path: Path) -> str:
    """The hash by which DVC names a file."""
    from dvc_data.hashfile.hash import file_md5
    from dvc_objects.fs.local import LocalFileSystem

    return file_md5(str(path), LocalFileSystem())


@contextmanager
def images_of(tree: Path, recorded: Path) -> Iterator[None]:
    """Builds the images of `tree`; those that were not here before, and no other clone uses, are gone when it ends.

    Raises UserError where they are not the recorded ones.
    """
    if python_of(tree) != python_of(ROOT):
        raise UserError(
            f"the version was made with {python_of(tree)}; expected the Python image that this clone uses, "
            f"{python_of(ROOT)}: 'make reproduce' in a clone of that commit"
        )
    wanted = images.load(tree / "stages")
    for name, tag in json.loads((recorded / "images.json").read_text()).items():
        made = wanted[name].tag if name in wanted else "none"
        if made != tag:
            raise UserError(f"the image of {name} was {tag}, and its commit and patch make {made}; expected the same")
    before = build.on_this_machine()
    try:
        build.ensure(wanted)
        yield
    finally:
        present = images.load()
        build.claim_present(present, build.on_this_machine())
        for image in wanted.values():
            if image.tag not in before:
                forget(image, claimed=present.get(image.name) == image)


def forget(image: images.Image, *, claimed: bool) -> None:
    """Deletes an image, unless this clone (`claimed`) or another one uses it."""
    if not claimed and build.claim(image) in build.on_this_machine():
        subprocess.run(["docker", "image", "rm", build.claim(image)], capture_output=True)
    tags = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.RepoTags}}", image.tag], capture_output=True, text=True
    )
    if "stages/clone-" not in tags.stdout:
        subprocess.run(["docker", "image", "rm", image.tag], capture_output=True)


def python_of(tree: Path) -> str:
    """The Python image that the stages of `tree` start from."""
    lines = (tree / "stages" / images.BASE / "Dockerfile").read_text().splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith("ARG PYTHON_IMAGE=")), "none")


def run_stages(tree: Path) -> None:
    """Runs every stage in `tree`, without any cache. Raises UserError where one fails."""
    environ = {name: value for name, value in os.environ.items() if name not in SILENT}
    environ["DVC_SITE_CACHE_DIR"] = str(FOLDER / "site-cache")
    environ |= settings.limits(os.environ, images.stage_names(tree / "stages"))
    LOG.parent.mkdir(parents=True, exist_ok=True)
    try:
        with LOG.open("w") as log:
            command = ["dvc", "repro", "--force"]
            done = subprocess.run(command, cwd=tree, env=environ, stdout=log, stderr=subprocess.STDOUT)
    finally:
        recover.stop_stages()  # an interrupt leaves the one that was running
    if done.returncode:
        printed = LOG.read_text(errors="replace").splitlines()
        stage = [line.split("'")[1] for line in printed if line.startswith("Running stage '")][-1:]
        raise UserError(
            f"it did not run again: {failures.why(printed, ''.join(stage), starved=False)} ({LOG.relative_to(ROOT)})"
        )


# --- compare


def compare_outputs(before: Mapping[str, Any], tree: Path) -> Iterator[Line]:
    """Each file that the stages made, against dvc.lock's record; and the copies of it that this clone has."""
    after = files(load_yaml((tree / "dvc.lock").read_text()))
    with Repo(str(ROOT)) as repo:
        for path, (_, digest) in files(before).items():
            kept = kept_copy(repo, digest)
            whole = kept.is_file() and md5(kept) == digest.removesuffix(".dir")
            now = after[path][1] if path in after else "none"
            if now == digest:
                yield Line(path, IDENTICAL)
            elif whole and close(kept, tree / path, tree):
                yield Line(path, EQUAL)
            else:
                yield Line(path, f"differs: MD5 {now}, recorded {digest}")
            if kept.is_file() and not whole:
                yield Line(f"{path} in DVC's cache", f"differs: MD5 {md5(kept)}, recorded {digest}")
            if tampered(repo, path, digest):
                yield Line(f"{path} in the working tree", f"differs: MD5 {md5(ROOT / path)}, recorded {digest}")


def kept_copy(repo: Repo, digest: str) -> Path:
    """Where DVC's cache has the file of this hash, if it has it."""
    return Path(repo.cache.local.oid_to_path(digest))


def tampered(repo: Repo, path: str, digest: str) -> bool:
    """Whether the file in the working tree was changed by hand: it is not this one, and no stage made it either."""
    if not (ROOT / path).is_file() or md5(ROOT / path) == digest:
        return False
    return not kept_copy(repo, md5(ROOT / path)).is_file()


def close(one: Path, other: Path, tree: Path) -> bool:
    """Whether two files hold the same to 6 decimals; models, whether they give the test set the same probabilities."""
    if other.suffix == ".json":
        return rounded(json.loads(one.read_text())) == rounded(json.loads(other.read_text()))
    if other.suffix == ".csv":
        return pd.read_csv(one).map(rounded).equals(pd.read_csv(other).map(rounded))
    if other.suffix == ".skops":
        data = json.loads((tree / METADATA).read_text())["data"]["test"]
        features = HeldOut.read(tree / data["path"]).features
        first, second = (skops_model.load(path).predict_proba(features).tolist() for path in (one, other))
        return rounded(first) == rounded(second)
    return False


def compare_metrics(
    recorded: Mapping[str, float], tags: Mapping[str, str], tree: Path, pipeline: Mapping[str, Any]
) -> Iterator[Line]:
    """Each metric of the run and each score of the version, against what the stages measured now."""
    measured = publish.measured(pipeline, tree)
    told: dict[str, tuple[float | None, float | None]] = {
        f"metric {name}": (recorded.get(name), measured.get(name)) for name in dict.fromkeys([*measured, *recorded])
    }
    told |= {
        f"tag {name}": (float(tags[name]), measured[name])
        for name in HIGHER_IS_BETTER
        if name in tags and name in measured
    }
    for what, (before, now) in told.items():
        if before is None or now is None:
            yield Line(what, "differs: nothing recorded" if before is None else "differs: not measured now")
        elif rounded(float(before)) == rounded(float(now)):
            yield Line(what, IDENTICAL if before == now else EQUAL)
        else:
            yield Line(what, f"differs: {now:g}, recorded {before:g}")


def compare_model(registered_file: Path | None, tags: Mapping[str, str], tree: Path) -> Iterator[Line]:
    """The registered file, against its own record and against the model that was made now."""
    if registered_file is None:
        yield Line("the registered model", f"differs: its file is gone, recorded {tags['model_sha256']}")
        return
    digest = sha256(registered_file)
    if digest != tags["model_sha256"]:
        yield Line("the registered model", f"differs: SHA-256 {digest}, recorded {tags['model_sha256']}")
    elif digest == sha256(tree / MODEL):
        yield Line("the registered model", IDENTICAL)
    else:
        same = close(registered_file, tree / MODEL, tree)
        yield Line("the registered model", EQUAL if same else "differs: it gives other probabilities")


def verdict(lines: list[Line]) -> str:
    """The worst of the lines, in a word or two."""
    verdicts = {line.verdict for line in lines}
    if verdicts <= {IDENTICAL}:
        return IDENTICAL
    return EQUAL if verdicts <= {IDENTICAL, EQUAL} else "differs"


def main(arguments: list[str]) -> int:
    given, model, state = reader.ask(arguments)
    version = reader.pick(state, given["version"])
    with reader.pipeline_of(version) as recorded, worktree(version, recorded) as tree:
        lock = load_yaml((recorded / "dvc.lock").read_text())
        pipeline = load_yaml((recorded / "dvc.yaml").read_text())
        give_inputs(tree, lock)
        with images_of(tree, recorded):
            print(f"running {', '.join(pipeline['stages'])} of version {version.number} again ...", flush=True)
            run_stages(tree)
        with reader.registry_of(model) as (client, _):
            metrics = client.get_run(version.run_id).data.metrics
        file = reader.fetch(version, MODEL_FILE, recorded)
        lines = [
            *compare_outputs(lock, tree),
            *compare_model(file, version.tags, tree),
            *compare_metrics(metrics, version.tags, tree, pipeline),
        ]
    print(tabulate(lines, ("", "made again"), disable_numparse=True))
    print(f"\nversion {version.number} of {model}: {verdict(lines)}")
    return 0 if verdict(lines) != "differs" else 1
