"""`make promote VERSION=`: a person puts a version into production. That stands until a new model beats it."""

from scripts.project import UserError
from scripts.registry import reader, records


def main(arguments: list[str]) -> None:
    if not reader.parse(arguments)["version"]:
        raise UserError("VERSION is empty; expected one, as in 'make promote VERSION=3': 'make models' lists them")
    given, model, state = reader.ask(arguments)
    version = reader.pick(state, given["version"])
    if records.champion(state) == version.number and records.at_rest(state):
        print(f"version {version.number} of {model} is in production already")
        return
    with reader.registry_of(model) as (client, who):
        from scripts.registry import decisions

        decisions.put(client, model, who, version.number, "promote", given["why"])
