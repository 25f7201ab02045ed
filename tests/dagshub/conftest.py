"""Starts the stand-in for DagsHub; its images are built once."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.conftest import Clone
from tests.dagshub.stand_in import OLD, StandIn, configure, docker, network_of, who
from tests.dagshub.trouble import Troubled

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def image() -> Iterator[Callable[[str], str]]:
    """Return the name of an image by that of its Dockerfile; build all side by side, delete them after the tests."""
    repository = f"stages/clone-{Clone(ROOT).label.partition('=')[2]}"
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")  # each has a name of its own to delete
    names = {path.name: f"{repository}:test-{worker}-{path.name.lower()}" for path in FOLDER.glob("Dockerfile*")}
    build = ["docker", "buildx", "build", "--quiet", "--pull=false", "--label", Clone(ROOT).label]
    for argument in ("PYTHON_IMAGE", "PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        build += ["--build-arg", argument]
    running = {
        file: subprocess.Popen(
            [*build, "--file", str(FOLDER / file), "--tag", name, str(FOLDER)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for file, name in names.items()
    }  # fmt: skip

    def built(file: str) -> str:
        if running[file].wait():
            pytest.fail(f"{file} could not be built: {running[file].stderr.read()}")
        return names[file]

    yield built
    for file, name in names.items():
        running[file].wait()
        subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True)


WAIT = """
import time
end = time.monotonic() + 300
for url in (MLFLOW + '/experiments/search?max_results=1', 'http://127.0.0.1:5001/'):
    while True:
        try:
            call('GET', url)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
"""
"""Runs where the servers are, and ends when both answer."""


def parts(network: str, given: Path, proxy: str, mlflow: str, name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of a stand-in: how the container's name ends; options, image and command of `docker run`."""
    mount = f"type=bind,src={given},dst=/stand-in/given,readonly"
    yield "", ["--network", network, "--network-alias", "dagshub.test", "--mount", mount, proxy]
    beside = ["--network", f"container:{name}", "--env", "HOME=/tmp", "--workdir", "/tmp"]
    yield "-broken", [*beside, proxy, "/usr/bin/python3", "/stand-in/broken.py"]
    yield "-s3", [*beside, proxy, "moto_server", "--host", "127.0.0.1", "--port", "5001"]
    server = ["mlflow", "server", "--host", "127.0.0.1", "--port", "5000", "--workers", "1"]
    server += ["--backend-store-uri", "sqlite:////tmp/mlflow.db", "--artifacts-destination", "/tmp/artifacts"]
    yield "-mlflow", [*beside, "--env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", mlflow, *server]


@pytest.fixture(scope="module")
def stand_in_for(image: Callable[[str], str]) -> Iterator[Callable[[Clone, str], StandIn]]:
    """Start an empty stand-in with one of the two MLflow servers on a clone's network; delete it after the tests."""
    started: list[str] = []

    def start(clone: Clone, server: str) -> StandIn:
        network = network_of(clone)
        name = f"{network}-dagshub"
        given = clone.path.parent / f"given-to-{name}"
        given.mkdir()
        (given / "who.conf").write_text(who())
        mlflow = image("Dockerfile.mlflow-old") if server == OLD else os.environ["RUNNER_IMAGE"]
        for part, arguments in parts(network, given, image("Dockerfile"), mlflow, name):
            started.append(f"{name}{part}")
            docker("run", "--detach", "--init", "--label", clone.label, "--name", f"{name}{part}", *arguments)
        stand_in = StandIn(name, given)
        try:
            stand_in.python(WAIT)
        except AssertionError:
            for part in ("", "-s3", "-mlflow"):
                subprocess.run(["docker", "logs", "--tail", "20", f"{name}{part}"])
            raise
        stand_in.empty_bucket()
        return stand_in

    yield start
    for name in reversed(started):
        subprocess.run(["docker", "container", "rm", "--force", "--volumes", name], capture_output=True)


@pytest.fixture(scope="module")
def troubled(
    request: pytest.FixtureRequest, clone_at: Callable[[str], Clone], stand_in_for: Callable[[Clone, str], StandIn]
) -> Troubled:
    """Return three clones and a stand-in with the old MLflow, for the faults of one module."""
    clones = [clone_at(f"dagshub-{request.path.stem}-{does}") for does in ("runs", "pushes", "pulls")]
    running, pushing, pulling = clones
    stand_in = stand_in_for(running, OLD)
    for clone in clones:
        configure(clone)
    for clone in (pushing, pulling):
        stand_in.join(clone)
    running.edit("params.yaml", "max_depth: null", "max_depth: 1")
    running.make("run")
    running.restore()
    running.make("run", "push")
    assert stand_in.stages() == {"1": "Production", "2": "Staging"}
    for clone in (pushing, pulling):
        shutil.copy(running.path / "dvc.lock", clone.path)
    pushing.make("pull")
    return Troubled(*clones, stand_in)
