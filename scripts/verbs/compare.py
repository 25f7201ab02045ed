"""`make compare A= B=`: two versions side by side: scores, parameters, data, images, code."""

from collections.abc import Mapping

from scripts.project import UserError
from scripts.registry import reader, recorded
from scripts.registry.recorded import table


def side_by_side(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Return a row for each fact of either version: * if they differ, its name, what it is of `a` and of `b`."""
    return [
        ("" if a.get(name) == b.get(name) else "*", name, a.get(name, "-"), b.get(name, "-"))
        for name in dict.fromkeys([*a, *b])
    ]


def main(arguments: list[str]) -> None:
    if not reader.parse(arguments)["a"]:
        raise UserError("A is empty; expected two versions, as in 'make compare A=1 B=2'; without B, A and production")
    given, _, state = reader.ask(arguments)
    versions = [reader.pick(state, given[which]) for which in ("a", "b")]
    sides = []
    for version in versions:
        with recorded.record_of(version) as record:
            sides.append(recorded.facts(version, record, recorded.metrics_of(version)))
    rows = side_by_side(*sides)
    print(table(rows, ("", "", *(f"version {version.number}" for version in versions))))
    print(f"\n{sum(bool(row[0]) for row in rows)} of {len(rows)} differ (*)")
