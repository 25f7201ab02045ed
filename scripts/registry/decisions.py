"""A person's decision about production, as `make promote` and `make rollback` make it."""

from mlflow import MlflowClient

from scripts.project import UserError
from scripts.registry import records
from scripts.registry.mlflow import read
from scripts.registry.reconcile import decide_by_person, reconcile


def put(client: MlflowClient, model: str, who: str, version: int, action: str, why: str) -> None:
    """Record the decision, make stages and aliases follow it, and say so.

    Raise UserError if somebody else decided at the same moment.
    """
    state = read(client, model)
    if records.is_clear(state):
        state = reconcile(client, model, who)  # records first what was done by hand
    before = records.champion(state)
    decide_by_person(client, model, who, state, version, action, why or f"by 'make {action}'")
    now = records.champion(reconcile(client, model, who))
    if now != version:
        raise UserError(
            f"somebody else put version {now} into production at the same moment; expected only one of you: agree"
        )
    was = f"; version {before} was" if before else ""
    print(f"version {version} of {model} is in production{was}")
