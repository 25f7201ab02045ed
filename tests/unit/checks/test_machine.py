"""What `make doctor` says of the machine."""

import pytest

from scripts import settings
from scripts.checks import machine
from scripts.pipeline import images

USUAL = {"MEMORY": "2g", "CPUS": "1", "PIDS": "256", "TIMEOUT": "12h", "OUTPUT_SIZE": "100g", "OUTPUT_FILES": "1000"}


@pytest.fixture
def lines(monkeypatch):
    """The lines about the limits on a machine of 4 GiB and 2 processors, if one limit of the first stage is `value`."""
    first, *_ = stages = images.stage_names()

    def call(limit, value):
        for stage in stages:
            for name, usual in USUAL.items():
                monkeypatch.setenv(f"{settings.prefix(stage)}_{name}", usual)
        monkeypatch.setenv(f"{settings.prefix(first)}_{limit}", value)
        return [(check.good, str(check)) for check in machine.limits(4 << 30, 2)]

    return call


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("MEMORY", "2g"),
        ("MEMORY", "512MiB"),
        ("MEMORY", "4294967296"),
        ("CPUS", "0.5"),
        ("PIDS", "1"),
        ("TIMEOUT", "0"),
    ],
)
def test_a_limit_that_docker_takes_has_no_line(lines, limit, value):
    """A limit that the machine can keep is not mentioned."""
    assert lines(limit, value) == []


@pytest.mark.parametrize(
    ("limit", "value", "good", "words"),
    [
        ("MEMORY", "2x", False, "MEMORY is 2x; expected one like 2g"),
        ("CPUS", "two", False, "CPUS is two; expected one like 1.5"),
        ("CPUS", "3", False, "CPUS is 3; expected at most 2"),
        ("PIDS", "1.5", False, "PIDS is 1.5; expected one like 256"),
        ("TIMEOUT", "soon", False, "TIMEOUT is soon; expected one like 12h"),
        ("MEMORY", "8g", None, "MEMORY is 8g, more than the machine's 4 GiB"),
    ],
)
def test_a_wrong_limit_is_reported(lines, limit, value, good, words):
    """A limit that Docker would refuse is bad; one that the machine cannot keep is a note."""
    ((found, line),) = lines(limit, value)
    assert found is good and words in line


def test_too_little_room_is_bad(monkeypatch):
    """If less is free than images need, the lines say how much is free for the clone and for Docker's images."""
    assert all(check.good for check in machine.disk())
    monkeypatch.setattr(machine, "FREE_DISK", 1 << 40)
    assert [check.good for check in machine.disk()] == [False, False]
    assert "Docker's images" in str(list(machine.disk())[1])
