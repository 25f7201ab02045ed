"""The stages of this repository keep the contract of stages/README.md, as far as it can be seen from outside."""

import pytest

from scripts.contract import contract
from scripts.project import PROJECT, ROOT


def test_the_stages_keep_the_contract():
    """`make check` finds nothing: in stages/, in the template, and in params.yaml."""
    assert [str(each) for each in contract.check(PROJECT)] == []


@pytest.mark.parametrize(("file", "most"), [("stages/base/stagekit.py", 150), ("Makefile", 190)])
def test_what_all_must_read_is_short(file, most):
    """The stage kit and the Makefile stay short enough to be read as a whole."""
    lines = len((ROOT / file).read_text().splitlines())
    assert lines <= most, f"{file} has {lines} lines; expected {most} at most"
