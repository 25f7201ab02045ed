"""Tests of the optional room scripts/report/; nothing here runs if the room is gone."""

import pytest

from scripts.project import ROOT
from tests.unit.conftest import docker, empty_repository, git, project, runner  # noqa: F401

collect_ignore_glob = [] if (ROOT / "scripts" / "report").is_dir() else ["*.py"]
BEGAN = 1_800_000_000.0
NAME = "2027-01-15_08-00-00"


@pytest.fixture
def events():
    """What a run noted of three stages: one was up to date, one ran, one failed."""
    fit, score = {"stage": "fit"}, {"stage": "score"}
    limits = {"fit": {"memory": "2g", "cpus": "1"}}
    found = [
        ("begin", 0, {"command": "make run", "images": {"fit": "stages/fit:1"}, "limits": limits}),
        ("plan", 0, {"needs": {"get": [], "fit": ["get"], "score": ["fit"]}, "up_to_date": ["get"], "jobs": 2}),
        ("begins", 1, fit),
        ("step", 1.5, fit | {"step": "image"}),
        ("step", 3.5, fit | {"step": "start"}),
        ("container starts", 4, fit | {"container": "f1"}),
        ("uses", 5, fit | {"container": "f1", "memory": 300, "cpu": 0.5}),
        ("uses", 8, fit | {"container": "f1", "memory": 200, "cpu": 4.25}),
        ("container ends", 9, fit | {"container": "f1"}),
        ("step", 9.25, fit | {"step": "border"}),
        ("step", 9.5, fit | {"step": "cache"}),
        ("ends", 10, fit | {"result": "ran"}),
        ("begins", 10, score),
        ("step", 10.5, score | {"step": "image"}),
        ("step", 10.5, score | {"step": "start"}),
        ("ends", 12, score | {"result": "failed", "sentence": "it is wrong", "printed": ["one", "two\x1b[2J"]}),
        ("end", 12, {}),
    ]  # fmt: skip
    return [{"kind": kind, "at": BEGAN + at} | values for kind, at, values in found]
