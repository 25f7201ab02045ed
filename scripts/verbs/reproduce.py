"""`make reproduce VERSION=`: runs again what made a version, and compares every output and metric with the record.

A record is what the registry says: a patch that this clone has not recorded itself is shown, and YES=1 runs it.
Exit code 0 if all is identical, or equal to 6 decimals (processors differ in the last digits). Nothing is published.
"""

import functools
import sys

from scripts import tables
from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, UserError
from scripts.registry import comparison, reader, recorded, reproduction
from scripts.registry.comparison import Line
from scripts.registry.recorded import Record
from scripts.registry.records import Version


def ask(patch: bytes, version: Version, *, agreed: bool) -> None:
    """Show a patch that somebody else's record has. Raise UserError if nobody agrees that its code is run."""
    print(f"version {version.number} was made with changes that are in no commit and not of this clone:\n")
    tell(patch.decode(errors="replace"))
    if agreed:
        return
    if not (sys.stdin.isatty() and input("Run this code here? [y/N] ").strip().lower() in ("y", "yes")):
        raise UserError(
            "nothing was run; expected somebody who has read the changes above and trusts them: call with YES=1"
        )


def run_again(version: Version, record: Record, project: Project, *, agreed: bool) -> list[Line]:
    """Return what came of making the version again, line by line."""
    agree = functools.partial(ask, version=version, agreed=agreed)
    with reproduction.worktree(version, record, project, agree=agree) as tree:
        reproduction.give_inputs(tree, record.lock, project)
        with reproduction.images_of(tree, record, project):
            print(f"running {', '.join(record.lock)} of version {version.number} again ...", flush=True)
            printed = reproduction.run_stages(tree, record.lock, project)
        file = recorded.fetch(version, recorded.model_file(version), record.folder)
        return comparison.compare(version, record, recorded.metrics_of(version), file, tree, printed, project)


def main(arguments: list[str], project: Project = PROJECT) -> int:
    verdicts = []
    for name in reader.names(reader.parse(arguments)):
        given, model, state = reader.ask([*arguments, f"model={name}"])
        version = reader.pick(state, given["version"])
        with recorded.record_of(version) as record:
            lines = run_again(version, record, project, agreed=given.get("yes") == "1")
        verdicts.append(comparison.verdict(lines))
        print(tables.text(tables.Table(("", "made again"), lines)))
        print(f"\nversion {version.number} of {model}: {verdicts[-1]}", flush=True)
    return int(comparison.DIFFERS in verdicts)
