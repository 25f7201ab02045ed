"""Runs again what made a version, in a worktree of its commit, with its patch, its dvc.yaml and its parameters.

Without any cache: the stages that lead to the model all run. Nothing is published.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import settings
from scripts.pipeline import build, failures, images, template
from scripts.pipeline.containers import stop_stages
from scripts.pipeline.dvc_adapter import md5
from scripts.pipeline.params import read_params
from scripts.pipeline.stage import block
from scripts.project import PROJECT, ROOT, Project, UserError
from scripts.registry.provenance import APPLY, LOCK, NO_COMMIT, PATCH, git
from scripts.registry.recorded import FOLDER, GIVEN, Lock, Record, cache_path, files, last
from scripts.registry.records import COMMIT, Version

LOG = "reproduce.log"
SILENT = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Without these a stage logs nothing."""


@contextmanager
def worktree(
    version: Version, record: Record, project: Project = PROJECT, *, agree: Callable[[bytes], None]
) -> Iterator[Path]:
    """Give the tree that the version was made from; delete it, and what a killed call left, in the end.

    The commands of its dvc.yaml will run beside the Docker socket, and anybody who may write to the registry could have
    written the record. If this clone has not, `agree` is called with its patch, and raises UserError if that is not to
    be run. Raise UserError also if the commit is not here, its patch does not fit, or its dvc.yaml is another one than
    commit and patch give.
    """
    remove(project)
    commit = version.tags.get(COMMIT, NO_COMMIT)
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit) or not _has(commit, project):
        raise UserError(
            f"version {version.number} is of commit {commit}, which is not here; expected it: fetch it with 'git fetch'"
        )
    tree = folder(project) / f"version-{version.number}"
    tree.parent.mkdir(parents=True, exist_ok=True)
    is_ours = (project.made / record.seal).exists()
    if record.patch and not is_ours:
        agree(record.patch)
    try:
        git("worktree", "add", "--quiet", "--detach", str(tree), commit, project=project)
        committed = _text(tree / "dvc.yaml")
        if record.patch:
            git(*APPLY, str(record.folder / PATCH), project=Project(tree))
        for name in ("dvc.yaml", "params.yaml"):
            (tree / name).unlink(missing_ok=True)  # it may be a link to elsewhere
            shutil.copy(record.folder / name, tree / name)
        (tree / LOCK).unlink(missing_ok=True)
        read_params(tree / "params.yaml")  # its keys become words of a shell command
        if not is_ours and _text(tree / "dvc.yaml") not in (committed, _rendered(tree)):
            raise UserError(
                f"version {version.number} has a dvc.yaml in the registry that is neither its commit's nor what its "
                "template renders to; expected one of them, since its commands would run here: look at "
                f"{FOLDER}/dvc.yaml of its run"
            )
        yield tree
    finally:
        remove(project)


def _text(path: Path) -> str | None:
    """Return the text of a file; None if it is none."""
    return path.read_text(errors="replace") if path.is_file() and not path.is_symlink() else None


def _rendered(tree: Path) -> str | None:
    """Return the dvc.yaml that the template of `tree` renders to; None if this version of the code cannot say."""
    try:
        return template.load(tree).text
    except UserError:
        return None


def folder(project: Project) -> Path:
    return project.local / "reproduce"


def _has(commit: str, project: Project) -> bool:
    command = ["git", "-C", str(project.root), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def remove(project: Project = PROJECT) -> None:
    """Delete the worktree, also one that a killed call left.

    No other: to this container the user's own worktrees look as if they were gone, and 'prune' would delete them.
    """
    for line in git("worktree", "list", "--porcelain", project=project).splitlines():
        if line.startswith(f"worktree {folder(project)}/"):
            path = line.removeprefix("worktree ")
            git("worktree", "remove", "--force", "--force", path, project=project, may_fail=True)
    shutil.rmtree(folder(project), ignore_errors=True)


def give_inputs(tree: Path, lock: Lock, project: Project = PROJECT) -> None:
    """Put the user's own data into `tree`. Raise UserError if it is not what the version was made from."""
    for path, (made_by, digest) in files(lock).items():
        if made_by != GIVEN:
            continue
        places = (tree / path, project.root / path, cache_path(digest, project.root))
        source = next((place for place in places if place.exists() and md5(place) == digest), None)
        if source is None:
            here = project.root / path
            found = f"has the MD5 {md5(here)}" if here.exists() else "is missing"
            raise UserError(f"{path} {found}; expected the data of MD5 {digest} that the version was made from")
        if source != tree / path:
            _copy(source, tree / path)


def _copy(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def run_stages(tree: Path, lock: Lock, project: Project = PROJECT) -> list[str]:
    """Run the stages of `lock` in `tree`, without any cache; return the lines that they print.

    Raise UserError if one fails.
    """
    text = (tree / "dvc.yaml").read_text()
    asked_for = re.findall(r"--env (\w+)", text)
    without = {*SILENT, *(set(settings.SECRETS) - set(asked_for))}
    environ = {name: value for name, value in os.environ.items() if name not in without}
    environ |= settings.limits(os.environ, sorted({block(name) for name in lock}))
    if re.search(rf"\$\w+_({'|'.join(settings.OF_SOME)})(_OPTION)?\b", text):
        environ |= template.load(tree).given(environ)
    environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}  # this code takes outputs over, not the version's
    path = project.logs / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w") as log, tempfile.TemporaryDirectory() as site_cache:
            command = ["dvc", "repro", "--force", "--", *last(lock)]
            environ["DVC_SITE_CACHE_DIR"] = site_cache
            done = subprocess.run(command, cwd=tree, env=environ, stdout=log, stderr=subprocess.STDOUT)
    finally:
        stop_stages()  # an interrupt leaves the one that was running
    printed = path.read_text(errors="replace").splitlines()
    if done.returncode:
        stage = [line.split("'")[1] for line in printed if line.startswith("Running stage '")][-1:]
        why = failures.why(printed, "".join(stage), project, starved=False, log=LOG)
        raise UserError(f"it did not run again: {why}")
    return printed


# --- images


@contextmanager
def images_of(tree: Path, record: Record, project: Project = PROJECT) -> Iterator[None]:
    """Build the images of `tree`; in the end delete those that were not here before and that no other clone uses.

    Raise UserError if they are not the recorded ones.
    """
    wanted = matching(tree, record, project)
    before = build.on_this_machine()
    try:
        build.ensure(wanted, project)
        yield
    finally:
        present = images.load(project.stages)
        build.claim_present(present, build.on_this_machine())
        for image in wanted.values():
            if image.tag not in before:
                forget(image, claimed=present.get(image.name) == image)


def matching(tree: Path, record: Record, project: Project = PROJECT) -> dict[str, images.Image]:
    """Return the images of `tree` that the record's stages run in, and the base.

    Raise UserError if their tags are not the recorded ones.
    """
    if python_of(tree) != python_of(project.root):
        raise UserError(
            f"the version was made with {python_of(tree)}; expected the Python image that this clone uses, "
            f"{python_of(project.root)}: 'make reproduce' in a clone of that commit"
        )
    made = images.load(tree / "stages")
    for name in record.lock:
        recorded, found = record.images.get(name, "none"), made[name].tag if name in made else "none"
        if recorded != found:
            raise UserError(
                f"the image of {name} was {recorded}, and its commit and patch make {found}; expected the same: "
                "'make reproduce' in a clone of that commit"
            )
    return {name: made[name] for name in (images.BASE, *record.lock)}


def forget(image: images.Image, *, claimed: bool) -> None:
    """Delete an image, unless this clone (`claimed`) or another one uses it."""
    if not claimed and build.claim(image) in build.on_this_machine():
        subprocess.run(["docker", "image", "rm", build.claim(image)], capture_output=True)
    tags = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.RepoTags}}", image.tag], capture_output=True, text=True
    )
    if "stages/clone-" not in tags.stdout:
        subprocess.run(["docker", "image", "rm", image.tag], capture_output=True)


def python_of(tree: Path) -> str:
    """Return the Python image that the stages of `tree` start from."""
    path = tree / "stages" / images.BASE / images.DOCKERFILE
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition("=")[2] for line in lines if line.startswith("ARG PYTHON_IMAGE=")), "none")
