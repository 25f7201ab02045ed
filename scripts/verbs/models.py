"""`make models`: a table of each model's versions in the registry, and which ones were in production."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts import tables
from scripts.pipeline.console import tell
from scripts.project import UserError
from scripts.registry import glance, reader, records
from scripts.registry.glance import Glance
from scripts.registry.records import State, Version
from scripts.tables import Part, Table
from scripts.validation import is_asked


def score_of(version: Version, metric: str) -> object:
    """Return the score that was decided on, else the one that was logged; None if there is none.

    `metric` is the tag of the gate's metric, empty if that is not known. Versions from before there were records have
    the word `test` before it.
    """
    logged = version.tags.get(metric) or version.tags.get(f"test_{metric}")
    return version.record.get("score", logged)


def described(state: State, version: Version, metric: str) -> dict[str, Any]:
    """Return what there is to say of one version, by name."""
    tags, record = version.tags, version.record
    return {
        "version": version.number,
        "stage": version.stage,
        "aliases": sorted(alias for alias, number in state.aliases.items() if number == version.number),
        "score": _as_number(score_of(version, metric)),
        "why": tags.get("reason", "not decided yet" if version.ours else "not registered by this project"),
        "at": record.get("at"),
        "by": record.get("by"),
        "commit": tags.get(records.COMMIT),
        "changes": {"true": True, "false": False}.get(tags.get(records.DIRTY, "")),
        "test_data": tags.get(records.TEST_DATA),
        "run": version.run_id,
    }


def _as_number(score: Any) -> float | None:
    try:
        return float(score)
    except (TypeError, ValueError):  # it is not known, or somebody edited it
        return None


def persons(state: State) -> Iterator[dict[str, Any]]:
    """Yield each decision that a person made, the first one first."""
    for made in records.promotions(state):
        if made.by_a_person:
            yield {name: made.record.get(name) for name in ("at", "by", "action", "reason")} | {"version": made.version}


def of_model(name: str, seen: Glance | None, metric: str) -> dict[str, Any]:
    """Return what the registry has of a model: versions, those that were in production, what persons decided.

    Of a part of the versions, `left_out` says so.
    """
    if seen is None:
        return {"model": name, "versions": [], "production": [], "decisions": []}
    state = seen.state
    return {
        "model": name,
        "versions": [described(state, version, metric) for version in state.versions],
        "production": records.history(state) if seen.is_whole else records.recent_history(state),
        "decisions": list(persons(state)),
    } | ({} if seen.is_whole else {"left_out": True})


# --- as it is shown


LEFT_OUT = (
    f"these are the newest {glance.FEW}, those with an alias and the last of each stage: 'make models ALL=1' shows all "
    "versions, the whole history and all decisions of persons"
)


def parts(found: Mapping[str, Any]) -> list[Part]:
    """Return the table of a model's versions, and what its history was."""
    if not found["versions"]:
        return [f"model: {found['model']}\nthere is no version of it yet: 'make run' registers one"]
    rows = [
        (version["version"], (version["stage"], *version["aliases"]), version["score"], _why(version))
        for version in found["versions"]
    ]
    known = [str(number or "none") for number in found["production"]]
    history = " -> ".join([*(["..."] if "left_out" in found else []), *known]) or "none"
    return [
        f"model: {found['model']}",
        Table(("version", "stage", "score", "why"), rows, right={0, 2}),
        "\n".join([f"in production: {history}", *map(_decision, found["decisions"])]),
        LEFT_OUT if "left_out" in found else "",
    ]


def _why(version: Mapping[str, Any]) -> list[str]:
    """Return a version's reason; and when it was decided by whom, of what code, on what data."""
    commit, data = (str(version[name] or "")[:8] for name in ("commit", "test_data"))
    facts = [
        " by ".join(str(version[name]) for name in ("at", "by") if version[name]),
        commit and f"commit {commit}{' and changes' if version['changes'] else ''}",
        data and f"test data {data}",
    ]
    return [version["why"], *filter(None, [", ".join(filter(None, facts))])]


def _decision(made: Mapping[str, Any]) -> str:
    at, by, action, reason = ("?" if made[name] is None else made[name] for name in ("at", "by", "action", "reason"))
    what = f"version {made['version']}" if made["version"] else "none"
    return f"{at}  {by}: {what} in production ({action}: {reason})"


def look_up(name: str, *, is_whole: bool) -> Glance | None:
    """Return all versions of a model, or the newest ones and those that it names. Raise UserError."""
    if not is_whole:
        return reader.answered(lambda: glance.newest(name))
    state = reader.look_up(name)
    return Glance(state, is_whole=True) if state else None


def main(arguments: list[str]) -> None:
    given = reader.parse(arguments)
    form, names = tables.form(given), reader.names(given)
    known = reader.pipelines_models()
    reader.start_server()
    is_whole = form is tables.Form.JSON or is_asked(given, "ALL", "all versions")
    seen = {name: look_up(name, is_whole=is_whole) for name in names}
    if not any(each and each.state.versions for each in seen.values()):
        raise UserError(
            f"there is no version of {', '.join(names)} in the registry; expected one: 'make run' registers it"
        )
    found = [of_model(name, each, known[name].gate.tag if name in known else "") for name, each in seen.items()]
    tell(tables.written(form, {"models": found}, [part for each in found for part in parts(each)]))
