"""The server's own tests, in its image: what it reads, answers and refuses, without a network and without a clone."""

import os
import subprocess
from pathlib import Path

import pytest

from scripts.pipeline import build, images
from scripts.pipeline.images import BASE
from scripts.project import ROOT
from scripts.serving import containers
from tests.conftest import Clone

pytestmark = pytest.mark.docker
HERE = Path(__file__).parent
FILES = ("Dockerfile", "requirements.txt", *(str(path.relative_to(HERE)) for path in sorted(HERE.glob("inside/*.py"))))


@pytest.fixture(scope="module")
def image() -> str:
    """Build the server's image on the base alone, which any scorer's image starts from, and the tests' on that."""
    base = images.load(ROOT / "stages")[BASE]
    build.ensure({BASE: base})
    server = images.on_top(base, "serving", containers.HERE, containers.sources())
    tests = images.on_top(server, "tests", HERE, FILES)
    here = build.on_this_machine()
    for made, below in ((server, base), (tests, server)):
        if made.tag not in here:
            build.build(made, below)
    return tests.tag


def run(image: str, *options: str) -> None:
    command = ["docker", "run", "--rm", "--init", "--network", "none", "--label", Clone(ROOT).label, "--read-only"]
    command += ["--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", f"{os.getuid()}:{os.getgid()}", *options, image]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-1000:]}"


def test_the_servers_own_tests_pass(image: str) -> None:
    """Rows, routes, versions that take each other's place, and whole files: each as its test in inside/ says."""
    run(image)


@pytest.mark.deep
def test_they_pass_on_many_more_requests(image: str) -> None:
    """The same with 300 bad bodies, and with what schemathesis makes of the OpenAPI document."""
    run(image, "--env", "DEEP=1")
