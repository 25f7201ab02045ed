"""`make promote VERSION=`: a person puts a version into production. That stands until a new model beats it."""

from typing import TYPE_CHECKING

from scripts import registered
from scripts.project import UserError
from stages.train import promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from stages.train.server import Settings


def put(client: "MlflowClient", settings: "Settings", version: int, action: str, why: str) -> None:
    """Records a person's decision, makes stages and aliases follow it, and says so."""
    from stages.train import production

    state = production.read(client, settings.model)
    if registered.is_clear(state):
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
    given, model, state = registered.ask(arguments)
    if not given["version"]:
        raise UserError("VERSION is empty; expected one, as in 'make promote VERSION=3': 'make models' lists them")
    version = registered.pick(state, given["version"])
    if promotion.champion(state) == version.number and registered.at_rest(state):
        print(f"version {version.number} of {model} is in production already")
        return
    with registered.registry_of(model) as (client, settings):
        put(client, settings, version.number, "promote", given["why"])
