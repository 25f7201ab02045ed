"""`make promote VERSION=`: a person puts a version into production. That stands until a new model beats it."""

from typing import TYPE_CHECKING

from scripts.project import UserError
from scripts.registry import reader
from stages.train import promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from stages.train.server import Settings


def put(client: "MlflowClient", settings: "Settings", version: int, action: str, why: str) -> None:
    """Records a person's decision, makes stages and aliases follow it, and says so."""
    from stages.train import production

    state = production.read(client, settings.model)
    if reader.is_clear(state):
        state = production.settle(client, settings)  # records first what was done by hand
    before = promotion.champion(state)
    production.decide_by_person(client, settings, state, version, action, why or f"by 'make {action}'")
    now = promotion.champion(production.settle(client, settings))
    if now != version:
        raise UserError(
            f"somebody else put version {now} into production at the same moment; expected one of you: agree"
        )
    was = f"; version {before} was" if before else ""
    print(f"version {version} of {settings.model} is in production{was}")


def main(arguments: list[str]) -> None:
    given, model, state = reader.ask(arguments)
    if not given["version"]:
        raise UserError("VERSION is empty; expected one, as in 'make promote VERSION=3': 'make models' lists them")
    version = reader.pick(state, given["version"])
    if promotion.champion(state) == version.number and reader.at_rest(state):
        print(f"version {version.number} of {model} is in production already")
        return
    with reader.registry_of(model) as (client, settings):
        put(client, settings, version.number, "promote", given["why"])
