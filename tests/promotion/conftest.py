"""Real MLflow servers, old and current, and models on one of them that the tests publish to step by step."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from scripts.project import ROOT
from scripts.registry import reconcile
from tests.conftest import Clone
from tests.dagshub.conftest import docker, image  # noqa: F401
from tests.promotion.model import Model

OLD, CURRENT = "2.7.1", "current"
SERVED = ["--artifacts-destination", "/tmp/artifacts"]
ON_DISK = ["--default-artifact-root", "/tmp/on-disk", "--no-serve-artifacts"]


@dataclass(frozen=True)
class Server:
    """A running MLflow server: its address, and the container it is in."""

    address: str
    container: str

    def run(self, command: str) -> str:
        """Run a shell command where the server is."""
        return docker("exec", self.container, "sh", "-c", command)


@pytest.fixture(scope="session")
def server_for(image: Callable[[str], str]) -> Iterator[Callable[..., Server]]:  # noqa: F811
    """Start one of the two servers, once, on the network of the runner that the tests are in; gone after the tests."""
    started: dict[tuple[str, ...], Server] = {}

    def start(version: str, artifacts: list[str] = SERVED) -> Server:
        key = (version, *artifacts)
        if key not in started:
            worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
            name = f"{ROOT.parent.name}-{worker}-mlflow-{version}-{len(started)}".replace("_", "-")
            command = ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2"]
            command += ["--backend-store-uri", "sqlite:////tmp/mlflow.db", *artifacts]
            if version == CURRENT:
                command += ["--allowed-hosts", f"{name},{name}:5000"]
                # By itself it closes a connection that was idle for 5 s, even as the next call comes. A pipeline's
                # client calls again then; the tests' does not, so that no fault of the server goes unseen.
                command += ["--uvicorn-opts", "--timeout-keep-alive 3600"]
            options = ["--network", f"pipeline-{os.environ['CLONE']}", "--env", "HOME=/tmp", "--workdir", "/tmp"]
            options += ["--env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "--tmpfs", "/tmp"]  # a disk makes it wait
            files = image("Dockerfile.mlflow-old") if version == OLD else os.environ["RUNNER_IMAGE"]
            label = Clone(ROOT).label
            docker("run", "--detach", "--init", "--label", label, "--name", name, *options, files, *command)
            started[key] = Server(f"http://{name}:5000", name)
            _wait_for(started[key])
        return started[key]

    yield start
    for running in started.values():
        docker("container", "rm", "--force", "--volumes", running.container)


def _wait_for(running: Server) -> None:
    end = time.monotonic() + 300
    while True:
        try:
            url = f"{running.address}/api/2.0/mlflow/experiments/search?max_results=1"
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            assert time.monotonic() < end, docker("logs", "--tail", "20", running.container)
            time.sleep(0.2)


@pytest.fixture(params=[CURRENT, OLD], ids=["current-mlflow", "mlflow-2.7.1"])
def server(
    request: pytest.FixtureRequest, server_for: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Server:
    """Each of the servers, as the one in use, with no patience for another machine's calls."""
    running = server_for(request.param)
    use(running, monkeypatch)
    return running


def use(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.address)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(reconcile, "SIGHTINGS", 1)
    monkeypatch.setattr(reconcile, "PAUSE", 0)


@pytest.fixture
def model(server: Server, tmp_path: Path) -> Model:
    """A model that is not registered yet."""
    return Model(f"model-{tmp_path.name}", tmp_path, in_container=server.run)


@pytest.fixture
def neighbour(model: Model) -> Model:
    """A second model, in the same experiment of the same server."""
    return Model(f"{model.name}-neighbour", model.folder, experiment=model.name, in_container=model.in_container)
