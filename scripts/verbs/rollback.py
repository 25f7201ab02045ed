"""`make rollback [VERSION=]`: back to the version that was in production before this one, or to an earlier one."""

from scripts.project import UserError
from scripts.registry import reader
from scripts.verbs.promote import put
from stages.train import promotion
from stages.train.promotion import State


def target(state: State, which: str) -> int:
    """The version to go back to. Raises UserError where there is none, or where that one never was in production."""
    earlier = [number for number in promotion.history(state)[:-1] if number is not None]
    if not earlier:
        raise UserError("no version was in production before this one; expected one: 'make promote VERSION=' sets any")
    number = reader.pick(state, which).number if which else earlier[-1]
    if number not in earlier:
        known = ", ".join(map(str, earlier))
        raise UserError(f"version {number} was not in production before; expected one of {known}, or 'make promote'")
    return number


def main(arguments: list[str]) -> None:
    from stages.train import production

    given, model, _ = reader.ask(arguments)
    with reader.registry_of(model) as (client, settings):
        state = production.settle(client, settings)  # records what was done by hand, so that this is what is undone
        put(client, settings, target(state, given["version"]), "rollback", given["why"])
