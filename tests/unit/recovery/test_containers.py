"""What recovery removes of a run that was killed: containers that would write on, and runners that never started."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from scripts.pipeline import containers as containers_of_stages
from scripts.recovery import containers


@pytest.fixture
def found(docker):
    """Return a function that says which containers there are: (state, minutes old, role, stage, id) each, of the clone
    or, with what follows its name and a slash before the id, of another one."""

    def lists(*rows):
        lines = []
        for state, minutes, role, stage, number in rows:
            created = datetime.now(UTC) - timedelta(minutes=minutes)
            *ours, number = number.split("/")
            clone = os.environ["CLONE"] + "".join(ours)
            lines.append("\t".join([clone, role, stage, state, f"{created:%Y-%m-%d %H:%M:%S} +0000 UTC", number]))
        docker.does("container ls", "cat <<'END'\n" + "".join(f"{line}\n" for line in lines) + "END")

    return lists


def changes(docker):
    return [line for line in docker.asked if not line.startswith("container ls")]


def test_containers_of_stages_are_stopped_and_removed(docker, found, capfd):
    """A stage that runs on without its run, or that has ended and was kept, goes, and one line says so."""
    found(("running", 1, "", "train", "a1"), ("exited", 9, "", "score", "b2"), ("running", 9, "", "", "c3"))
    containers.remove_left()
    assert changes(docker) == ["container stop --time 0 a1 b2", "container rm --force a1 b2"]
    assert capfd.readouterr().out.count("removed the stage containers of an interrupted run") == 1


def test_containers_of_a_part_of_the_clone_are_removed(docker, found):
    """What runs in a working copy of the clone goes as well; what another clone runs stays."""
    found(("running", 1, "", "train", ".1/a1"), ("running", 1, "", "train", "1/b2"))
    containers.remove_left()
    assert changes(docker) == ["container stop --time 0 a1", "container rm --force a1"]


def test_a_container_that_the_engine_holds_is_removed_again(docker, found, monkeypatch):
    """An engine that was killed may refuse at first; one that is gone by itself is no reason to try again."""
    monkeypatch.setattr(containers_of_stages, "PAUSE", 0)
    found(("dead", 1, "", "train", "a1"))
    docker.does(
        "container rm", f"[ -e '{docker.log}.once' ] || {{ touch '{docker.log}.once'; echo busy >&2; exit 1; }}"
    )
    containers.remove_left()
    assert changes(docker)[1:] == ["container rm --force a1"] * 2
    docker.does("container rm", "echo Error: No such container: a1 >&2; exit 1")
    containers.remove_left()
    assert changes(docker)[4:] == ["container rm --force a1"]


def test_a_runner_that_never_started_is_removed(docker, found):
    """One that was created long ago goes; one that may be starting just now, or runs, stays."""
    found(("created", 6, "runner", "", "a1"), ("created", 4, "runner", "", "b2"), ("running", 60, "runner", "", "c3"))
    containers.remove_left()
    assert changes(docker) == ["container rm --force a1"]


@pytest.mark.parametrize("rows", [[], [("running", 60, "", "", "a1")], [("created", 60, "test", "", "a1")]])
def test_all_else_is_left_alone(docker, found, rows):
    """The local MLflow server and the containers of tests are nobody's leftovers."""
    found(*rows)
    containers.remove_left()
    assert changes(docker) == []
