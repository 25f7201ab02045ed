"""The services beside a run: the local MLflow server of docker-compose.yml."""

import os
import subprocess
import time

import requests

from scripts import mlflow_database, settings
from scripts.pipeline.containers import docker, of_this_clone
from scripts.project import LOCAL, UserError

PATIENCE = 90  # seconds for a server to come up on a slow machine


def answers(timeout: float = 2) -> bool:
    """Whether the MLflow server in use answers an API call (its /health says 200 even when it refuses every call)."""
    uri = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    try:
        return requests.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1", timeout=timeout).ok
    except requests.RequestException:
        return False


def is_up() -> bool:
    """Whether the local server's container runs, be it to answer or still to come up."""
    return bool(_listed("{{.ID}}"))


def start(*, even_if_it_answers: bool = False) -> bool:
    """Starts the local server, unless it answers; tells whether it is to be waited for: this returns before."""
    if answers() and not even_if_it_answers:
        return False
    (LOCAL / "mlflow").mkdir(parents=True, exist_ok=True)
    if not is_up():  # else it may be writing: a journal that is being written looks like one that was cut off
        mlflow_database.check()
    print("starting the local MLflow server ...", flush=True)
    done = subprocess.run(["docker", "compose", "up", "--detach", "--quiet-pull"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"the local MLflow server could not be started: {' '.join(done.stderr.split())[-400:]}; "
            f"expected a free port in {os.environ['MLFLOW_PORT']} on 127.0.0.1: set MLFLOW_PORT in .env"
        )
    return True


def wait() -> None:
    """Returns when the local server answers. Raises UserError with its last words where it does not in time."""
    end = time.monotonic() + PATIENCE
    while not answers():
        if time.monotonic() > end:
            log = subprocess.run(["docker", "compose", "logs", "--tail", "5", "mlflow"], capture_output=True, text=True)
            raise UserError(
                f"the local MLflow server did not answer within {PATIENCE} s: {' '.join(log.stdout.split())[-500:]}; "
                "expected it on this clone's network: 'make down ui' starts it again"
            )
        time.sleep(0.2)


def address() -> str:
    """Where a browser on the host finds MLflow."""
    if not settings.is_local(os.environ):
        return os.environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow")
    return f"http://{_listed('{{.Ports}}').split('->')[0]}"


def _listed(columns: str) -> str:
    """What Docker tells of the local server's container, empty if none runs; `columns` is a Go template."""
    service = "label=com.docker.compose.service=mlflow"
    return docker("container", "ls", "--filter", of_this_clone(), "--filter", service, "--format", columns)


def stop() -> None:
    """Stops and removes this clone's services. Raises CalledProcessError where Docker does not."""
    subprocess.run(["docker", "compose", "down", "--remove-orphans"], check=True)
