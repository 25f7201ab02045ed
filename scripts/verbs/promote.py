"""`make promote VERSION=`: a person puts a version into production. That stands until a new model beats it."""

from scripts.project import UserError
from scripts.registry import glance, reader, records
from scripts.registry.records import State, Version


def is_in_production(model: str, state: State, version: Version) -> bool:
    """Return True if a version is in production, and the registry at rest; `state` is a part of what there is."""
    last = records.applied(state)
    if not last or last.version != version.number:
        return False
    whole = reader.look_up(model)
    return whole is not None and records.champion(whole) == version.number and records.at_rest(whole)


def main(arguments: list[str]) -> None:
    which = reader.parse(arguments)["version"]
    if not which:
        raise UserError("VERSION is empty; expected one, as in 'make promote VERSION=3': 'make models' lists them")
    given, model, state = reader.ask(arguments, lambda name: glance.with_version(name, which))
    version = reader.pick(state, which)
    if is_in_production(model, state, version):
        print(f"version {version.number} of {model} is in production already")
        return
    with reader.registry_of(model) as (client, who):
        from scripts.registry import decisions

        decisions.put(client, model, who, version.number, "promote", given["why"])
