"""A real MLflow server of the tests' own, in a process beside them."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from scripts.registry import reconcile
from tests.promotion.model import Model


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[str]:
    """The address of a server that is empty when the tests begin."""
    memory = Path("/dev/shm")  # a disk makes each change wait
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    command += ["--uvicorn-opts", "--timeout-keep-alive 3600"]
    environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "HOME": str(folder)}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, server, folder / "log")
        yield address
    finally:
        os.killpg(server.pid, 9)
        server.wait()
        shutil.rmtree(folder)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 300
    while True:
        try:
            url = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
            requests.get(url, timeout=5, proxies={"http": ""}).raise_for_status()
            return
        except requests.RequestException:
            assert time.monotonic() < end and server.poll() is None, log.read_text()[-2000:]
            time.sleep(0.2)


@pytest.fixture
def model(mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that is not registered yet, in an experiment of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("CLONE", "0123456789ab")
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(reconcile, "PAUSE", 0)
    monkeypatch.setattr(reconcile, "SIGHTINGS", 1)
    return Model(f"model-{tmp_path.parent.name}-{tmp_path.name}", tmp_path)
