"""A run that is told to end at every named point of one."""

import pytest

from tests.conftest import Clone
from tests.killing import POINTS, SIGNALS, Result, signal_at, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("how", SIGNALS)
def test_a_signal_ends_a_run_in_order(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    how: str,
    point: str,
    record_property,
) -> None:
    """It ends in one line and leaves nothing; the next run gives what an undisturbed one gives."""
    clone, expected = undisturbed
    signal_at(clone, how, point, expected, record_property)
