"""git's merge driver of dvc.lock, as scripts/host/merge_lock.sh calls it: BASE OURS THEIRS [COMMIT...].

Writes the merged dvc.lock to OURS, as git wants it. Exit code 0 if it is merged, CONFLICT if a person must decide.
"""

import sys
from pathlib import Path

from scripts.merging import sides
from scripts.merging.locks import CLASH, Merged, merge, three_way
from scripts.pipeline import dvc_adapter
from scripts.pipeline.console import printable
from scripts.project import PROJECT, Project, UserError

CONFLICT = 3
"""Not 1, with which a call ends that cannot do its work."""


def sentences(merged: Merged) -> list[str]:
    """Return what a person must know of the stages that both sides changed."""
    found = []
    if merged.unknown:
        names = ", ".join(map(printable, merged.unknown))
        found.append(
            f"dvc.lock: both sides changed {names}, and neither has the result of both changes; expected a new one: "
            "resolve the other files, then 'make run' and 'git add dvc.lock dvc.yaml'"
        )
    if merged.differing:
        names = ", ".join(map(printable, merged.differing))
        found.append(
            f"dvc.lock: the two sides have other outputs of {names} for the same command, parameters and inputs; "
            "expected one: 'git add dvc.lock' takes HEAD's, or 'git checkout --theirs dvc.lock' the other side's "
            "dvc.lock; then 'make run'"
        )
    return found


def main(arguments: list[str], project: Project = PROJECT) -> int:
    files = [Path(name) for name in arguments[:3]]
    base, ours, theirs = found = sides.read(files, arguments[3:], project)
    rest = three_way(*({key: value for key, value in side.whole.items() if key != "stages"} for side in found))
    if CLASH in rest.values():
        raise UserError("both sides changed something in dvc.lock that is no stage; expected stages alone")
    try:
        merged = merge(base.stages, ours.stages, theirs.stages, sides.wanted(*found, project))
    except ValueError as error:
        raise UserError(f"dvc.lock cannot be merged: {error}") from None
    dvc_adapter.write_lock(files[1], {**rest, "stages": merged.stages})
    for sentence in sentences(merged):
        print(sentence, file=sys.stderr)
    return CONFLICT if merged.unknown or merged.differing else 0
