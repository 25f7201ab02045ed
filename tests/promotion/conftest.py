"""Real MLflow servers, old and current, and a model on one of them that the tests publish to step by step."""

import contextlib
import io
import itertools
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import md5
from pathlib import Path

import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import skops_model
from scripts.project import ROOT
from stagekit import sha256
from stages.train import production, promotion, registry, server, train
from stages.train.promotion import HIGHER_IS_BETTER, Gate
from tests.conftest import Clone
from tests.dagshub.conftest import docker, image  # noqa: F401

OLD, CURRENT = "2.7.1", "current"
ROWS = 20
"""Of a test set: ten with x = 0, which are an a, and ten with x = 1, which are a b."""


@dataclass(frozen=True)
class Server:
    """A running MLflow server: its address, and the container it is in."""

    address: str
    container: str


@pytest.fixture(scope="session")
def server_for(image: Callable[[str], str]) -> Iterator[Callable[[str], Server]]:  # noqa: F811
    """Starts one of the two servers, once, on the network of the runner that the tests are in; gone after the tests."""
    started: dict[str, Server] = {}

    def start(version: str) -> Server:
        if version not in started:
            worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
            name = f"{ROOT.parent.name}-{worker}-mlflow-{version}".replace("_", "-")
            command = ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2"]
            command += ["--backend-store-uri", "sqlite:////tmp/mlflow.db", "--artifacts-destination", "/tmp/artifacts"]
            if version == CURRENT:
                command += ["--allowed-hosts", f"{name},{name}:5000"]
                # By itself it closes a connection idle for 5 s, even as the next call comes. A stage's client calls
                # again then; the tests' own does not, so that no fault of the server goes by unseen.
                command += ["--uvicorn-opts", "--timeout-keep-alive 3600"]
            options = ["--network", f"pipeline-{os.environ['CLONE']}", "--env", "HOME=/tmp", "--workdir", "/tmp"]
            options += ["--env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
            files = image("Dockerfile.mlflow-old") if version == OLD else os.environ["RUNNER_IMAGE"]
            label = Clone(ROOT).label
            docker("run", "--detach", "--init", "--label", label, "--name", name, *options, files, *command)
            started[version] = Server(f"http://{name}:5000", name)
            _wait_for(started[version])
        return started[version]

    yield start
    for running in started.values():
        docker("container", "rm", "--force", "--volumes", running.container)


def _wait_for(running: Server) -> None:
    end = time.monotonic() + 90
    while True:
        try:
            url = f"{running.address}/api/2.0/mlflow/experiments/search?max_results=1"
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            assert time.monotonic() < end, docker("logs", "--tail", "20", running.container)
            time.sleep(0.2)


@pytest.fixture(scope="session")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes x = 0 for an a, and x = 1 for a b."""
    path = tmp_path_factory.mktemp("forest") / "model.skops"
    frame = pd.DataFrame({"x": [0.0, 1.0] * 20, "species": ["a", "b"] * 20})
    skops_model.save(train.fit(frame, n_estimators=1, seed=0), path)
    return path


@dataclass
class Model:
    """A registered model of its own on a server, and the steps that a test takes with it.

    The models all predict alike; what differs is the score that was logged, and the bytes (a comment in the archive).
    """

    name: str
    server: Server
    folder: Path
    forest: Path
    gate: Gate = field(default_factory=Gate)
    client: MlflowClient = field(default_factory=MlflowClient)
    made: Iterator[int] = field(default_factory=itertools.count)

    @property
    def settings(self) -> server.Settings:
        return server.Settings(self.name, self.name, self.gate, "abc123", "ann")

    def candidate(self, score: float, *, right: int | None = None, column: str = "x") -> tuple[Path, Path]:
        """The files of a new model with this logged score, beside a test set that every model tells `right` rows of.

        Without `right` the test set is always the same one.
        """
        folder = self.folder / str(next(self.made))
        folder.mkdir()
        truth = ["a", "b"] * (ROWS // 2) if right is None else ["a", "b"] * (right // 2) + ["b", "a"] * (ROWS // 2)
        test = pd.DataFrame({column: [0.0, 1.0] * (ROWS // 2), "species": truth[:ROWS]})
        test.to_csv(folder / "test.csv", index=False)
        archive = io.BytesIO(self.forest.read_bytes())
        with zipfile.ZipFile(archive, "a") as opened:
            opened.comment = f"{self.name} {folder.name}".encode()
        (folder / "model.skops").write_bytes(archive.getvalue())
        path = folder / "test.csv"
        data = {"path": str(path), "rows": ROWS, "sha256": sha256(path), "md5": md5(path.read_bytes()).hexdigest()}
        metadata = {
            "params": {"seed": 0},
            "metrics": dict.fromkeys(HIGHER_IS_BETTER, score),
            "features": ["x"],
            "data": {"train": data, "test": data},
        }
        (folder / "model_metadata.json").write_text(json.dumps(metadata))
        return folder / "model.skops", folder / "model_metadata.json"

    def publish(self, score: float, **options: object) -> registry.Outcome:
        """Publishes a new model."""
        return registry.publish(*self.candidate(score, **options), self.settings)

    def state(self) -> promotion.State:
        return production.read(self.client, self.name)

    def stages(self) -> dict[int, str]:
        return {version.number: version.stage for version in self.state().versions}

    def check_at_rest(self) -> None:
        """Exactly one version is in production, by stage and by alias, every one is decided on, none is there twice."""
        state = self.state()
        assert promotion.next_step(state) is None, state
        best = promotion.champion(state)
        assert [version.number for version in state.versions if version.stage == "Production"] == [best], state
        assert state.aliases["production"] == best, state
        digests = [version.tags["model_sha256"] for version in state.versions if version.ours]
        assert len(digests) == len(set(digests)), state
        assert all(version.decided for version in state.versions if version.ours), state

    # What people and accidents do.

    def put(self, version: int, stage: str) -> None:
        """In the registry's pages: moves a version to a stage."""
        self.client.transition_model_version_stage(self.name, str(version), stage)

    def alias(self, version: int | None) -> None:
        """In the registry's pages: moves, or deletes, the alias production."""
        if version is None:
            self.client.delete_registered_model_alias(self.name, "production")
        else:
            self.client.set_registered_model_alias(self.name, "production", str(version))

    def delete(self, version: int) -> None:
        self.client.delete_model_version(self.name, str(version))

    def untag(self, version: int, tag: str) -> None:
        self.client.delete_model_version_tag(self.name, str(version), tag)

    def tag(self, version: int, tag: str, value: str) -> None:
        self.client.set_model_version_tag(self.name, str(version), tag, value)

    def stranger(self, stage: str = "None") -> None:
        """A version that somebody registered by other means."""
        with contextlib.suppress(MlflowException):  # it is there
            self.client.create_registered_model(self.name)
        made = self.client.create_model_version(self.name, "s3://elsewhere/model")
        if stage != "None":
            self.put(int(made.version), stage)

    def lose_file(self, version: int) -> None:
        """The model's file is deleted where the server keeps it."""
        run = self.state().version(version).run_id
        docker("exec", self.server.container, "sh", "-c", f"rm /tmp/artifacts/*/{run}/artifacts/model/model.skops")

    def change_file(self, version: int) -> None:
        """The model's file is another one than was registered."""
        run = self.state().version(version).run_id
        self.client.log_artifact(run, str(self.forest), "model")

    def decide(self, version: int, action: str) -> None:
        """`make promote` or `make rollback`."""
        production.decide_by_person(self.client, self.settings, self.state(), version, action, "for a test")
        production.settle(self.client, self.settings)

    def set_gate(self, **changes: object) -> None:
        self.gate = replace(self.gate, **changes)


@pytest.fixture(params=[CURRENT, OLD], ids=["current-mlflow", "mlflow-2.7.1"])
def model(
    request: pytest.FixtureRequest,
    server_for: Callable[[str], Server],
    forest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Model:
    """A model that is not registered yet, on each of the servers."""
    running = server_for(request.param)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.address)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(production, "SIGHTINGS", 1)
    monkeypatch.setattr(production, "PAUSE", 0)
    return Model(f"model-{tmp_path.name}", running, tmp_path, forest)
