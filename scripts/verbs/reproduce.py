"""`make reproduce VERSION=`: runs again what made a version, and compares every output and metric with the record.

Exit code 0 if all is identical, or equal to 6 decimals (processors differ in the last digits). Nothing is published.
"""

from scripts.project import PROJECT, Project
from scripts.registry import comparison, reader, recorded, reproduction
from scripts.registry.comparison import Line
from scripts.registry.recorded import Record, table
from scripts.registry.records import Version


def run_again(version: Version, record: Record, project: Project) -> list[Line]:
    """Return what came of making the version again, line by line."""
    with reproduction.worktree(version, record, project) as tree:
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
            lines = run_again(version, record, project)
        verdicts.append(comparison.verdict(lines))
        print(table(lines, ("", "made again")))
        print(f"\nversion {version.number} of {model}: {verdicts[-1]}", flush=True)
    return int(comparison.DIFFERS in verdicts)
