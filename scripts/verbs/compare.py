"""`make compare A= B=`: two versions side by side: scores, parameters, data, images, code."""

from collections.abc import Mapping
from typing import Any

from scripts import tables
from scripts.pipeline.console import tell
from scripts.pipeline.params import as_written
from scripts.project import UserError
from scripts.registry import reader, recorded
from scripts.tables import Table


def side_by_side(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each fact of either version its `name`, what it is of `a` and of `b`, and whether it `differs`."""
    found = []
    for name in dict.fromkeys([*a, *b]):
        both = {side: facts[name] for side, facts in (("a", a), ("b", b)) if name in facts}
        found.append({"name": name, **both, "differs": len({*map(as_written, both.values())}) != 1 or len(both) == 1})
    return found


def table(facts: list[dict[str, Any]], a: int, b: int) -> Table:
    """Return a row for each fact: * if the two versions differ in it, its name, what it is of each."""
    rows = [
        (
            "*" if fact["differs"] else "",
            fact["name"],
            *(as_written(fact[side]) if side in fact else "-" for side in "ab"),
        )
        for fact in facts
    ]
    return Table(("", "", f"version {a}", f"version {b}"), rows)


def main(arguments: list[str]) -> None:
    if not reader.parse(arguments)["a"]:
        raise UserError("A is empty; expected two versions, as in 'make compare A=1 B=2'; without B, A and production")
    form = tables.form(reader.parse(arguments))
    given, model, state = reader.ask(arguments)
    versions = [reader.pick(state, given[which]) for which in ("a", "b")]
    sides = []
    for version in versions:
        with recorded.record_of(version) as record:
            sides.append(recorded.facts(version, record, recorded.metrics_of(version)))
    a, b = (version.number for version in versions)
    facts = side_by_side(*sides)
    summary = f"{sum(fact['differs'] for fact in facts)} of {len(facts)} differ (*)"
    found = {"model": model, "a": a, "b": b, "facts": facts}
    tell(tables.written(form, found, [table(facts, a, b), summary]))
