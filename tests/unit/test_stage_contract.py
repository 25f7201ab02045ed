"""What everybody reads who makes the repository their own stays short."""

import pytest

from scripts.project import ROOT


@pytest.mark.parametrize(("file", "most"), [("stages/base/stagekit.py", 150), ("Makefile", 190)])
def test_what_all_must_read_is_short(file, most):
    """The stage kit and the Makefile stay short enough to be read as a whole."""
    lines = len((ROOT / file).read_text().splitlines())
    assert lines <= most, f"{file} has {lines} lines; expected {most} at most"
