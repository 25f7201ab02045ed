"""The example is what its forks start from; a fork's own stages are for its CI to check."""

from scripts.contract import contract
from scripts.project import PROJECT


def test_the_example_keeps_the_contract() -> None:
    """`make check` finds nothing: in stages/, in the template, and in params.yaml."""
    assert [str(each) for each in contract.check(PROJECT)] == []
