"""`make models`: a table of the versions in the registry, and which ones were in production."""

from collections.abc import Iterator
from typing import Any

from tabulate import tabulate

from scripts.registry import reader
from stages.train import promotion
from stages.train.promotion import State, Version

COLUMNS = ("version", "stage", "alias", "score", "test data", "commit", "dirty", "when", "who", "why")


def row(state: State, version: Version) -> tuple[Any, ...]:
    """What COLUMNS has of one version; digests are cut to eight digits."""
    tags, record = version.tags, version.record
    aliases = sorted(alias for alias, number in state.aliases.items() if number == version.number)
    return (
        version.number,
        version.stage,
        ", ".join(aliases),
        record.get("score", tags.get("test_accuracy")),
        tags.get("test_data_sha256", "")[:8],
        tags.get("git_commit", "")[:8],
        {"true": "yes", "false": "no"}.get(tags.get("git_dirty", ""), ""),
        record.get("at", ""),
        record.get("by", ""),
        tags.get("reason", "not decided yet" if version.ours else "not registered by this project"),
    )


def told_by_persons(state: State) -> Iterator[str]:
    """A line for each decision that a person made, the first one first."""
    for made in promotion.promotions(state):
        if made.by_a_person:
            record = made.record
            what = f"version {made.version}" if made.version else "none"
            yield f"{record['at']}  {record['by']}: {what} in production ({record['action']}: {record['reason']})"


def main(arguments: list[str]) -> None:
    _, model, state = reader.ask(arguments)
    rows = [row(state, version) for version in state.versions]
    print(tabulate(rows, COLUMNS, tablefmt="simple", disable_numparse=True))
    print(f"\nin production: {' -> '.join(str(number or 'none') for number in promotion.history(state)) or 'none'}")
    for line in told_by_persons(state):
        print(line)
    print(f"model: {model}")
