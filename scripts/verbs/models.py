"""`make models`: a table of each model's versions in the registry, and which ones were in production."""

from collections.abc import Iterator
from typing import Any

from scripts.pipeline.console import printable
from scripts.project import UserError
from scripts.registry import reader, records
from scripts.registry.recorded import table
from scripts.registry.records import State, Version

COLUMNS = ("version", "stage", "alias", "score", "test data", "commit", "dirty", "when", "who", "why")


def score_of(version: Version, metric: str) -> object:
    """Return the score that was decided on, else the one that was logged; an empty text if there is none.

    `metric` is the tag of the gate's metric, empty if that is not known. Versions from before there were records have
    the word `test` before it.
    """
    logged = version.tags.get(metric) or version.tags.get(f"test_{metric}")
    score = version.record.get("score", logged)
    return "" if score is None else score


def row(state: State, version: Version, metric: str) -> tuple[Any, ...]:
    """Return what COLUMNS has of one version; digests are cut to eight digits."""
    tags, record = version.tags, version.record
    aliases = sorted(alias for alias, number in state.aliases.items() if number == version.number)
    return (
        version.number,
        version.stage,
        ", ".join(aliases),
        score_of(version, metric),
        tags.get(records.TEST_DATA, "")[:8],
        tags.get(records.COMMIT, "")[:8],
        {"true": "yes", "false": "no"}.get(tags.get(records.DIRTY, ""), ""),
        record.get("at", ""),
        record.get("by", ""),
        tags.get("reason", "not decided yet" if version.ours else "not registered by this project"),
    )


def decisions_of_persons(state: State) -> Iterator[str]:
    """Yield a line for each decision that a person made, the first one first."""
    for made in records.promotions(state):
        if made.by_a_person:
            at, by, action, reason = (made.record.get(name, "?") for name in ("at", "by", "action", "reason"))
            what = f"version {made.version}" if made.version else "none"
            yield f"{at}  {by}: {what} in production ({action}: {reason})"


def show(state: State, metric: str) -> None:
    """Print the versions, the history, and what persons decided."""
    rows = [row(state, version, metric) for version in state.versions]
    print(table(rows, COLUMNS))
    print(f"\nin production: {' -> '.join(str(number or 'none') for number in records.history(state)) or 'none'}")
    for line in decisions_of_persons(state):
        print(printable(line))


def main(arguments: list[str]) -> None:
    names = reader.names(reader.parse(arguments))
    known = reader.pipelines_models()
    reader.start_server()
    found = {name: reader.look_up(name) for name in names}
    if not any(state and state.versions for state in found.values()):
        raise UserError(
            f"there is no version of {', '.join(names)} in the registry; expected one: 'make run' registers it"
        )
    for place, (name, state) in enumerate(found.items()):
        print(f"\nmodel: {name}" if place else f"model: {name}")
        if state and state.versions:
            show(state, known[name].gate.tag if name in known else "")
        else:
            print("there is no version of it yet: 'make run' registers one")
