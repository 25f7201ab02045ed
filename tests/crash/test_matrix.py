"""Every process of a run, killed at every named point of one."""

import pytest

from tests.conftest import Clone
from tests.killing import POINTS, VICTIMS, Result, kill_at, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_changes_nothing(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    victim: str,
    point: str,
    record_property,
) -> None:
    """After the kill of a process, the next run gives the same outputs, dvc.lock and registry, and leaves nothing."""
    clone, expected = undisturbed
    kill_at(clone, victim, point, expected, record_property)
