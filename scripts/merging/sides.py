"""Finds what belongs to each of the three versions of dvc.lock that git hands to a merge driver.

git runs the driver before it touches the work tree, and tells it no commit but, by the variables GITHEAD_*, the one
that `git merge` merges. A version of dvc.lock says by itself which commit it is of: the one that has this file. So
merge, rebase, cherry-pick, revert and stash are all the same here.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from scripts.merging.locks import CLASH, Lock, Wanted, clashes, commands, three_way
from scripts.pipeline import dvc_adapter
from scripts.project import PROJECT, Project, UserError
from scripts.registry.provenance import LOCK, git
from scripts.yaml12 import load_strangers_yaml

PARAMS = "params.yaml"
MOST_BYTES = 10_000_000  # of a file that is parsed


class Side(NamedTuple):
    """A version of dvc.lock: `whole` is all of it, `commit` one that has it, None if there is none."""

    whole: Mapping[str, Any]
    commit: str | None

    @property
    def stages(self) -> Lock:
        return self.whole.get("stages") or {}


def read(files: Sequence[Path], heads: Sequence[str], project: Project = PROJECT) -> tuple[Side, Side, Side]:
    """Return base, ours and theirs of the three files. `heads` are the commits that git names.

    Raise UserError if one is no dvc.lock.
    """
    blobs = [git("hash-object", "--no-filters", "--", str(file), project=project).strip() for file in files]
    ours = _commit_of(blobs[1], ["HEAD"], project)
    theirs = _commit_of(blobs[2], heads, project)
    parents = [f"{theirs}^"] if theirs else []
    if ours and theirs:
        parents = [*git("merge-base", ours, theirs, project=project, may_fail=True).split()[:1], *parents]
    commits = (_commit_of(blobs[0], parents, project), ours, theirs)
    base, ours_, theirs_ = (Side(_lock(file), commit) for file, commit in zip(files, commits, strict=True))
    return base, ours_, theirs_


def _commit_of(blob: str, likely: Iterable[str], project: Project) -> str | None:
    """Return a commit whose dvc.lock is `blob`: one of those that are likely, else the newest one that brought it."""
    for name in likely:
        if git("rev-parse", "--verify", "--quiet", f"{name}:{LOCK}", project=project, may_fail=True).strip() == blob:
            return git("rev-parse", "--verify", name, project=project).strip()
    # Of a merge, and of a stash, which is one, with each of its parents.
    search = ("log", "--all", "--diff-merges=separate", "--format=%H", f"--find-object={blob}", "--", LOCK)
    for commit in dict.fromkeys(git(*search, project=project, may_fail=True).split()):
        # The commit that removed it is found as well.
        if git("rev-parse", "--verify", "--quiet", f"{commit}:{LOCK}", project=project, may_fail=True).strip() == blob:
            return commit
    return None


def _lock(file: Path) -> Mapping[str, Any]:
    """Return the content of a version of dvc.lock; nothing of an empty one: that side has none."""
    try:
        found = _value(file.read_bytes())
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise UserError(f"a version of dvc.lock cannot be read ({' '.join(str(error).split())[:200]})") from None
    stages = found.get("stages") or {} if isinstance(found, Mapping) else None
    if not isinstance(stages, Mapping) or not all(isinstance(entry, Mapping) for entry in stages.values()):
        raise UserError("a version of dvc.lock has no stages; expected what a run wrote")
    return found


def _value(data: bytes) -> Any:
    """Return the value of a YAML text, {} of an empty one. Raise yaml.YAMLError or ValueError if it is none."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data)} bytes; expected at most {MOST_BYTES}")
    found = load_strangers_yaml(data.decode(), aliases=False)
    return {} if found is None else found


# --- what the merged pipeline asks of its stages


def wanted(base: Side, ours: Side, theirs: Side, project: Project = PROJECT) -> Wanted:
    """Return the stages of the merged dvc.yaml, with the command and the parameters that their entries must have.

    If a side's commit is not to be found, or its pipeline not to be read, its entries say what its pipeline was.
    """
    sides = (base, ours, theirs)
    pipelines = [_pipeline(side.commit, project) for side in sides]
    if any(pipeline is None for pipeline in pipelines):
        recorded = [{name: _asked(entry) for name, entry in side.stages.items()} for side in sides]
        merged = three_way(*recorded)
        return {name: None if clashes(asked) else asked for name, asked in merged.items()}
    merged = three_way(*pipelines)
    return {name: _resolved(block, merged[PARAMS]) for name, block in merged["stages"].items()}


def _asked(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"cmd": commands(entry), "params": entry.get("params") or {}}


def _pipeline(commit: str | None, project: Project) -> dict[str, Any] | None:
    """Return `stages` of a commit's dvc.yaml, and its params.yaml; None if they cannot be read."""
    if commit is None:
        return None
    try:
        texts = (git("show", f"{commit}:{name}", project=project) for name in ("dvc.yaml", PARAMS))
        pipeline, params = (_value(text.encode("utf-8", "surrogateescape")) for text in texts)
        stages = pipeline.get("stages") or {}
    except (UserError, AttributeError, yaml.YAMLError, ValueError):
        return None
    are_mappings = isinstance(params, Mapping) and isinstance(stages, Mapping)
    return {"stages": stages, PARAMS: params} if are_mappings else None


def _resolved(block: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `cmd` and `params` of a stage's block as an entry has them; None if that is not known."""
    if not isinstance(block, Mapping) or clashes(block):
        return None
    known = {name: section for name, section in params.items() if not clashes(section)}
    try:
        cmd = [dvc_adapter.filled_in(str(command), known) for command in commands(block)]
    except (dvc_adapter.DvcException, TypeError):  # a parameter that both changed, that is not there, or that is a date
        return None
    found = {}
    listed = block.get("params") or []
    for key in listed if isinstance(listed, list) else [CLASH]:
        value = _at(params, key) if isinstance(key, str) else CLASH  # of another file, which may be anything
        if clashes(value):
            return None
        found[key] = value
    return {"cmd": cmd, "params": {PARAMS: found} if found else {}}


def _at(params: Mapping[str, Any], key: str) -> Any:
    """Return the value at a key like `train.seed`; CLASH if there is none."""
    found: Any = params
    for part in key.split("."):
        found = found.get(part, CLASH) if isinstance(found, Mapping) else CLASH
    return found
