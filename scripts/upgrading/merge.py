"""Merges a newer machinery into a fork, by git, without touching its work tree."""

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from scripts.pipeline.console import printable
from scripts.project import PROJECT, Project, UserError
from scripts.registry.provenance import LOCK, PLAIN, git
from scripts.upgrading import machinery
from scripts.upgrading.machinery import Files, is_machinery
from scripts.upgrading.origin import TRAILER
from scripts.yaml12 import load_yaml

MOST = 30  # lines of a list in a message
WIDEST = 100  # characters of such a line
CONFLICTED = re.compile(r"\d+ [0-9a-f]+ ([123])\t(.*)", re.DOTALL)


class Upgrade(NamedTuple):
    """`tree` is the merged one's name; `left_out` are files that the fork has deleted, and that changed since."""

    base: str
    new: str
    tree: str
    left_out: Sequence[str]


def merge(base: str, new: str, project: Project = PROJECT) -> Upgrade:
    """Merge the changes of the machinery between two commits of the template into HEAD's tree.

    Raise UserError, with the names of the files, if that has conflicts. What the fork deleted stays deleted.
    """
    ours = machinery.files("HEAD", project)
    own = {path: file for path, file in ours.items() if not is_machinery(path)}
    before, after = (
        {path: file for path, file in machinery.files(commit, project).items() if is_machinery(path)}
        for commit in (base, new)
    )
    left_out = _in_deleted_folders(before, ours, after)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            for path in left_out:
                before.pop(path, None)
                after.pop(path, None)
            trees = [machinery.tree(side | own, f"{folder}/index", project) for side in (before, after)]
            tree, conflicts = _three_way(*trees, project)
            gone_here = {path for path, sides in conflicts.items() if "2" not in sides}
            deleted = sorted(gone_here & {*before, *after})
            if not deleted:
                break
            left_out += deleted
    if conflicts:
        raise UserError(_told(sorted(conflicts), base, new))
    return Upgrade(base, new, tree, sorted(left_out))


def _in_deleted_folders(before: Files, ours: Files, after: Files) -> list[str]:
    """Return the new files in folders of the base that the fork has deleted whole."""
    deleted = _folders(before) - _folders(ours)
    return [path for path in after if path not in before and deleted & _folders([path])]


def _folders(paths: Sequence[str] | Files) -> set[str]:
    return {str(folder) for path in paths for folder in PurePosixPath(path).parents}


def _three_way(base: str, new: str, project: Project) -> tuple[str, dict[str, set[str]]]:
    """Return the merge of HEAD and a tree, and which sides (1: base, 2: ours, 3: theirs) of each conflict there are."""
    options = ("-c", "merge.directoryRenames=false", "-c", "merge.renames=true", "-c", "merge.conflictStyle=merge")
    command = ["git", "-C", str(project.root), *PLAIN, *options, "merge-tree", "--write-tree", "-z", "--no-messages"]
    done = subprocess.run([*command, f"--merge-base={base}", "HEAD", new], capture_output=True)
    if done.returncode not in (0, 1):
        said = " ".join(os.fsdecode(done.stderr).split())[:300]
        raise UserError(f"git cannot merge ({said}); expected git 2.45 or newer in the runner, and a whole repository")
    tree, *entries = os.fsdecode(done.stdout).split("\0")
    conflicts: dict[str, set[str]] = {}
    for found in filter(None, map(CONFLICTED.fullmatch, entries)):
        conflicts.setdefault(found[2], set()).add(found[1])
    return tree, conflicts


def _told(paths: Sequence[str], base: str, new: str) -> str:
    names = ", ".join(map(printable, paths[:MOST])) + (f" and {len(paths) - MOST} more" if len(paths) > MOST else "")
    return (
        f"this fork and the newer version changed the same lines of {names}; expected no conflict, so nothing was "
        f"changed: look at 'git diff {base[:12]} {new[:12]} -- FILE', make that change in your file (or take theirs: "
        f"'git checkout {new[:12]} -- FILE'), commit, and repeat"
    )


# --- what is said of it


def subjects(upgrade: Upgrade, project: Project = PROJECT) -> list[str]:
    """Return the first lines of the commits that changed the machinery, the newest first."""
    paths = machinery.tops(*(machinery.files(commit, project) for commit in (upgrade.base, upgrade.new)))
    options = ("--no-merges", "--format=%s", f"{upgrade.base}..{upgrade.new}")
    listed = git("log", *options, "--", *paths, project=project, GIT_LITERAL_PATHSPECS="1")
    return listed.splitlines()


def message(upgrade: Upgrade, url: str, project: Project = PROJECT) -> str:
    """Return the message of the upgrade's commit."""
    found = subjects(upgrade, project)
    parts = [
        f"Upgrade the machinery to {upgrade.new[:12]}",
        f"From {public(url)}, where these commits changed it:" if found else f"From {public(url)}.",
        *_listed(found),
    ]
    if upgrade.left_out:
        parts += ["Deleted here, so left out:", *_listed(upgrade.left_out)]
    return "\n\n".join(parts) + f"\n\n{TRAILER}: {upgrade.new}\n"


def left_alone(upgrade: Upgrade, project: Project = PROJECT) -> list[str]:
    """Return the fork's own files that are as they came from the template, and are newer there."""
    before, ours, after = (machinery.files(commit, project) for commit in (upgrade.base, "HEAD", upgrade.new))
    own = [path for path in ours if not is_machinery(path) and path not in ("dvc.yaml", LOCK)]
    return [path for path in own if ours[path] == before.get(path) and after.get(path, ours[path]) != ours[path]]


def _listed(lines: Sequence[str]) -> list[str]:
    short = [f"- {printable(line)[:WIDEST]}" for line in lines[:MOST]]
    if len(lines) > MOST:
        short.append(f"- and {len(lines) - MOST} more")
    return ["\n".join(short)] if short else []


def shown(url: str) -> str:
    """Return an address without the user and the password in it."""
    return printable(re.sub(r"//[^/@]*@", "//", url))[:200]


def public(url: str) -> str:
    """Return an address as a commit may have it: of a folder of this machine its last part alone."""
    return shown(url) if ":" in url else shown(Path(url).name or "a folder")


def changed_stages(before: str, after: str) -> list[str]:
    """Return the stages of two texts of dvc.yaml whose command is another one, or new."""
    old, new = _commands(before), _commands(after)
    return [name for name in new if new[name] != old.get(name)]


def _commands(text: str) -> dict[str, Any]:
    try:
        return {name: block["cmd"] for name, block in load_yaml(text)["stages"].items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):  # a fork may have committed anything, or nothing
        return {}


def write(upgrade: Upgrade, url: str, folder: Path, project: Project = PROJECT) -> None:
    """Leave what scripts/host/upgrade.sh makes a commit of."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "message").write_text(message(upgrade, url, project))
    (folder / "tree").write_text(upgrade.tree)
