"""A person's decision about production, as `make promote` and `make rollback` make it."""

from mlflow import MlflowClient

from scripts.project import UserError
from scripts.registry import records
from scripts.registry.mlflow import Reading
from scripts.registry.reconcile import decide_by_person, reconcile

LONGEST_WHY = 300
"""Characters; a record of them fits into a tag, whatever they are."""


def put(client: MlflowClient, model: str, who: str, version: int, action: str, why: str) -> None:
    """Record the decision, make stages and aliases follow it, and say so.

    Raise UserError if the reason is too long, or if somebody else decided, or deleted the version, at the same moment.
    """
    if len(why) > LONGEST_WHY:
        raise UserError(f"WHY has {len(why)} characters; expected at most {LONGEST_WHY}: shorten it")
    reading = Reading(client, model)
    state = reading.now()
    if records.is_clear(state) and not records.at_rest(state):
        state = reconcile(client, model, who, reading=reading)  # records first what was done by hand
    if state.version(version) is None:
        raise UserError(f"version {version} of {model} was deleted meanwhile; expected one of those of 'make models'")
    before = records.champion(state)
    reading.forget_one(decide_by_person(client, model, who, state, version, action, why or f"by 'make {action}'"))
    now = records.champion(reconcile(client, model, who, reading=reading))
    if now != version:
        raise UserError(
            f"somebody else put version {now} into production at the same moment; expected only one of you: agree"
        )
    was = f"; version {before} was" if before else ""
    print(f"version {version} of {model} is in production{was}")
