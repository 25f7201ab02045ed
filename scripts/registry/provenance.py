"""What a model is made of beside its data: the commit, what is not committed, and its part of dvc.lock."""

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from scripts.pipeline import images
from scripts.pipeline.stage import Model, Pipeline
from scripts.pipeline.template import TEMPLATE
from scripts.project import NOTEBOOKS, PROJECT, Project, UserError
from scripts.yaml12 import dump_yaml, load_yaml

PATCH = "uncommitted.patch"
LOCK = "dvc.lock"
NO_COMMIT = "none"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""What git calls a tree without files."""
TEXT = "surrogateescape"
"""How bytes that are no UTF-8 survive as text."""


class Snapshot(NamedTuple):
    """What a run is about to use, taken first, since people edit and commit during a run.

    `files` are artifacts below pipeline/: dvc.yaml, params.yaml, images.json, and the patch if there is one.
    `repository` is where a browser finds the code, `branch` the one that is checked out; empty if there is none.
    """

    commit: str
    files: Mapping[str, bytes]
    repository: str = ""
    branch: str = ""

    @property
    def dirty(self) -> bool:
        return PATCH in self.files

    @property
    def seal(self) -> str:
        return seal(self.files)


def snapshot(pipeline: Pipeline, wanted: Mapping[str, images.Image], project: Project = PROJECT) -> Snapshot:
    """Return what a run of `pipeline` in the `wanted` images uses. Raise UserError if git cannot say."""
    commit = head(project)
    tags = {images.BASE: wanted[images.BASE].tag}
    tags |= {stage.block: stage.image for stage in pipeline.stages.values()}
    files = {
        "dvc.yaml": pipeline.text.encode(),
        "params.yaml": project.params.read_bytes(),
        "images.json": (json.dumps(tags, indent=2) + "\n").encode(),
    }
    if patch := uncommitted(commit, project):
        files[PATCH] = patch
    branch = git("symbolic-ref", "--quiet", "--short", "HEAD", project=project, may_fail=True).strip()
    return Snapshot(commit, files, repository(project), branch)


def seal(files: Mapping[str, bytes]) -> str:
    """Return a digest of what `make reproduce` would run of a record: its dvc.yaml, params.yaml and patch."""
    parts = (hashlib.sha256(files.get(name, b"")).hexdigest() for name in ("dvc.yaml", "params.yaml", PATCH))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def head(project: Project = PROJECT) -> str:
    """Return the commit that is checked out; NO_COMMIT in a repository that has none yet."""
    return git("rev-parse", "--verify", "--quiet", "HEAD", project=project, may_fail=True).strip() or NO_COMMIT


def repository(project: Project = PROJECT) -> str:
    """Return the address at which a browser finds the remote `origin`; empty if that is none, or a folder.

    A user or a token in it is left out.
    """
    return browsable(git("remote", "get-url", "origin", project=project, may_fail=True).strip())


def browsable(address: str) -> str:
    """Return the address in a browser of what git calls a remote: `git@host:a/b.git` -> `https://host/a/b`."""
    if found := re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+\.[\w.-]+):(?!//)([\w./-]+)", address):
        host, path, scheme = found[1], found[2], "https"
    else:
        parts = urlsplit(address)
        host, path, scheme = parts.netloc.rpartition("@")[2], parts.path, parts.scheme
        if scheme in ("ssh", "git", "git+ssh"):
            host, scheme = parts.hostname or "", "https"
    path = path.strip("/").removesuffix(".git")
    fine = scheme in ("http", "https") and host and re.fullmatch(r"[\w.-]+(/[\w.-]+)+", path)
    return f"{scheme}://{host}/{path}" if fine else ""


def uncommitted(commit: str, project: Project = PROJECT, instead: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return the patch, for `git apply`, that makes `commit` into the code that runs; empty if they are the same.

    `instead` are texts of files, by their paths, which count in place of what is there.

    It holds the changes of tracked files, and the new files below stages/ and scripts/ that git does not ignore: what
    else lies in the clone (a copy of .env, data, a token) must not travel to a server, nor what somebody typed into
    .env.example, nor a notebook. dvc.yaml and dvc.lock, which a run writes, are artifacts of their own. Raise UserError
    if git cannot say.
    """
    before = EMPTY_TREE if commit == NO_COMMIT else commit
    objects = git("rev-parse", "--path-format=absolute", "--git-path", "objects", project=project).strip()
    with tempfile.TemporaryDirectory() as temporary:
        # An index and an object store of its own: the user's stay as they are.
        aside = {
            "GIT_INDEX_FILE": str(Path(temporary, "index")),
            "GIT_OBJECT_DIRECTORY": temporary,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        git("read-tree", before, project=project, **aside)
        git("add", "--update", project=project, **aside)
        code = [name for name in ("stages", "scripts", TEMPLATE) if (project.root / name).exists()]
        git("add", "--", *code, project=project, **aside)
        for name, text in instead.items():
            blob = git("hash-object", "-w", "--stdin", project=project, given=text, **aside).strip()
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", project=project, **aside)
        names = ("dvc.yaml", LOCK, ".env.example", NOTEBOOKS)
        paths = [".", *(f":(exclude){name}" for name in names)]
        patch = _git(["diff", "--cached", *WHOLE, before, "--", *paths], project, aside)
        if patch:
            _check_applies(patch, before, paths, project, aside)
        return patch


def _check_applies(patch: bytes, before: str, paths: Sequence[str], project: Project, aside: Mapping[str, str]) -> None:
    """Raise UserError if the patch does not make `before` into what the index of `aside` has at `paths`.

    It is kept for years, and nobody would see before then that it is of no use.
    """
    scratch = {**aside, "GIT_INDEX_FILE": f"{aside['GIT_INDEX_FILE']}-scratch"}
    try:
        git("read-tree", before, project=project, **scratch)
        _git([*APPLY, "--cached", "-"], project, scratch, given=patch)
        made = git("write-tree", project=project, **scratch).strip()
        git("diff", "--cached", "--quiet", made, "--", *paths, project=project, **aside)
    except UserError as error:
        why = str(error).partition("failed: ")[2].partition(";")[0] or "it makes other files"
        raise UserError(
            f"what is not committed cannot be kept as a patch ({why}); expected one that git applies: commit your "
            "changes, and run again"
        ) from None


PLAIN = (
    "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false", "-c", "core.hooksPath=/dev/null",
    "-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "core.symlinks=true", "-c", "core.splitIndex=false",
    "-c", "core.attributesFile=/dev/null", "-c", "diff.suppressBlankEmpty=false", "-c", "diff.interHunkContext=0",
)  # fmt: skip
APPLY = ("apply", "--whitespace=nowarn", "--no-ignore-whitespace")
WHOLE = (
    "--binary", "--full-index", "--no-color", "-U3", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative",
    "--submodule=short", "-O/dev/null", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
"""What a person may have set for their own eyes (color.ui=always, diff.noprefix ...) makes a patch that git refuses."""


def git(*arguments: str, project: Project = PROJECT, may_fail: bool = False, given: str = "", **environ: str) -> str:
    """Return what `git ARGUMENTS` prints in the project. Raise UserError with git's words if it fails."""
    return _git(arguments, project, environ, may_fail=may_fail, given=given.encode("utf-8", TEXT)).decode("utf-8", TEXT)


def _git(
    arguments: Sequence[str],
    project: Project,
    environ: Mapping[str, str],
    *,
    may_fail: bool = False,
    given: bytes = b"",
) -> bytes:
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("GIT_DIFF_OPTS", "GIT_EXTERNAL_DIFF")
    }
    command = ["git", "-C", str(project.root), *PLAIN, *arguments]
    done = subprocess.run(command, env={**inherited, **environ}, input=given, capture_output=True)
    if done.returncode and not may_fail:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise UserError(
            f"'git {' '.join(arguments)[:80]}' failed: {said[:300]}; expected a whole repository, in which git can say "
            "what is not committed: mend it and run again"
        )
    return done.stdout


# --- dvc.lock


def lock_of(pipeline: Pipeline, model: Model, project: Project = PROJECT) -> bytes:
    """Return the part of dvc.lock that belongs to a model, its scorer and all that leads to it, as YAML.

    The same for the same entries, whatever else dvc.lock holds. Raise UserError if one is missing.
    """
    stages = read_lock(project)
    names = pipeline.leading_to(model.scorer)
    if missing := [name for name in names if name not in stages]:
        raise UserError(
            f"dvc.lock has no entry of {missing[0]}, which {model.name} needs; expected one: 'make run' writes it"
        )
    part = {"schema": "2.0", "stages": {name: stages[name] for name in names}}
    return dump_yaml(part, width=120).encode()


def read_lock(project: Project = PROJECT) -> dict[str, Any]:
    """Return the entries of dvc.lock, as they were when it last was whole; none if there is no dvc.lock."""
    if not project.dvc_lock.exists():
        return {}
    # DVC writes dvc.lock in place, maybe at this moment; the copy is written in one step.
    path = project.kept_lock if project.kept_lock.exists() else project.dvc_lock
    try:
        return dict(load_yaml(path.read_bytes())["stages"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path.name} is damaged; expected what a run wrote: delete it, and run again") from None
