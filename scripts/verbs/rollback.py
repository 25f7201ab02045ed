"""`make rollback [VERSION=]`: back to the version that was in production before this one, or to an earlier one."""

from scripts.project import UserError
from scripts.registry import reader, records
from scripts.registry.records import State


def target(state: State, which: str) -> int:
    """Return the version to go back to. Raise UserError if there is none, or if it never was in production."""
    earlier = [number for number in records.history(state)[:-1] if number is not None]
    if not earlier:
        raise UserError("no version was in production before this one; expected one: 'make promote VERSION=' sets any")
    number = reader.pick(state, which).number if which else earlier[-1]
    if number not in earlier:
        known = ", ".join(map(str, earlier))
        raise UserError(f"version {number} was not in production before; expected one of {known}, or 'make promote'")
    return number


def main(arguments: list[str]) -> None:
    given, model, _ = reader.ask(arguments)
    with reader.registry_of(model) as (client, who):
        from scripts.registry import decisions, reconcile

        state = reconcile.reconcile(client, model, who)  # records first what was done by hand: that is what is undone
        decisions.put(client, model, who, target(state, given["version"]), "rollback", given["why"])
