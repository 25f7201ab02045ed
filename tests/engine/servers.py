"""Servers of a test's own, on the network of its clone."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import Clone, wait_until

SILENT = """
import socket
with socket.create_server(("", 5000)) as server:
    print("startup complete", flush=True)
    kept = []
    while True:
        kept.append(server.accept())
"""


@contextmanager
def mlflow_server(clone: Clone, *options: str) -> Iterator[str]:
    """Start a real MLflow server with these options; yield its container's name, which is its host name too."""
    serve = ["mlflow", "server", "--host", "0.0.0.0", "--workers", "1", "--backend-store-uri", "sqlite:////tmp/m.db"]
    with _server(clone, *serve, *options) as name:
        yield name


@contextmanager
def silent_server(clone: Clone) -> Iterator[str]:
    """Start a server that takes connections and never answers; yield its host name."""
    with _server(clone, "python", "-c", SILENT) as name:
        yield name


@contextmanager
def _server(clone: Clone, *command: str) -> Iterator[str]:
    network = f"pipeline-{clone.label.partition('=')[2]}"
    name = f"{network}-own"
    run = ["docker", "run", "--detach", "--init", "--label", clone.label, "--name", name, "--network", network]
    environ = ["--env", "HOME=/tmp", "--env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
    subprocess.check_output([*run, *environ, os.environ["RUNNER_IMAGE"], *command])
    try:
        wait_until(lambda: "startup complete" in logs(name), f"{command[0]} is up", seconds=300)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], stdout=subprocess.DEVNULL)


def logs(container: str, *options: str) -> str:
    """Return what a container has printed."""
    done = subprocess.run(["docker", "logs", *options, container], capture_output=True, text=True)
    return done.stdout + done.stderr
