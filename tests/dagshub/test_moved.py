"""From local to DagsHub and back: no stage runs, nothing is registered twice."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.conftest import NOTHING, Clone, Make, stages_line
from tests.dagshub.stand_in import OLD, StandIn, configure

pytestmark = pytest.mark.docker


class Moved(NamedTuple):
    """A clone that ran locally, then got credentials, then a better model, then lost them; and each run's output."""

    clone: Clone
    stand_in: StandIn
    credentials: Make
    first: dict[str, str]  # the stages of the versions there
    better: Make
    second: dict[str, str]
    back: Make


@pytest.fixture(scope="module")
def moved(clone_at: Callable[[str], Clone], stand_in_for: Callable[[Clone, str], StandIn]) -> Moved:
    """Return a clone that went from local to DagsHub's old MLflow and back."""
    clone = clone_at("dagshub-moved")
    clone.make("run")
    stand_in = stand_in_for(clone, OLD)
    configure(clone)
    credentials = clone.make("run")
    first = stand_in.stages()
    clone.edit("params.yaml", "max_depth: null", "max_depth: 1")
    better = clone.make("run")
    second = stand_in.stages()
    (clone.path / ".env").write_text("")
    return Moved(clone, stand_in, credentials, first, better, second, clone.make("run"))


def test_credentials_publish_the_model_on_disk(moved: Moved) -> None:
    """Once .env has credentials, the next run runs no stage and registers one version on DagsHub."""
    assert stages_line(moved.credentials) == NOTHING
    assert "version 1, published now" in moved.credentials.stdout
    assert moved.first == {"1": "Production"}


def test_a_better_model_goes_to_production_there(moved: Moved) -> None:
    """A better model is promoted there, and the one before it is Archived."""
    assert "better than production" in moved.better.stdout
    assert moved.second == {"1": "Archived", "2": "Production"}


def test_going_back_runs_no_stage(moved: Moved) -> None:
    """Without credentials the next run runs no stage, publishes the better model locally and leaves DagsHub alone."""
    assert stages_line(moved.back) == NOTHING
    assert "version 2, published now" in moved.back.stdout
    assert "http://127.0.0.1:" in moved.back.stdout
    assert [version["stage"] for version in moved.clone.registry()] == ["Archived", "Production"]
    assert moved.stand_in.stages() == moved.second
