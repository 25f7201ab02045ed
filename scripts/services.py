"""The services beside a run: the local MLflow server of docker-compose.yml."""

import os
import sqlite3
import subprocess
import time
from contextlib import closing

import requests

from scripts import environment
from scripts.docker import docker, of_this_clone
from scripts.project import LOCAL, ROOT, UserError

PATIENCE = 90  # seconds for a server to come up on a slow machine


def answers(timeout: float = 2) -> bool:
    """Whether the MLflow server in use answers an API call (its /health says 200 even when it refuses every call)."""
    uri = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    try:
        return requests.get(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1", timeout=timeout).ok
    except requests.RequestException:
        return False


def start(*, even_if_it_answers: bool = False) -> None:
    """Starts the local server, unless it answers; returns before it does."""
    if answers() and not even_if_it_answers:
        return
    (LOCAL / "mlflow").mkdir(parents=True, exist_ok=True)
    check_database()
    print("starting the local MLflow server ...", flush=True)
    done = subprocess.run(["docker", "compose", "up", "--detach", "--quiet-pull"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"the local MLflow server could not be started: {' '.join(done.stderr.split())[-400:]}; "
            f"expected a free port in {os.environ['MLFLOW_PORT']} on 127.0.0.1: set MLFLOW_PORT in .env"
        )


def check_database() -> None:
    """Raises UserError where the local server's database is damaged: a server on half of it would know half the models.

    SQLite plays back the journal of a server that was killed, if there is one.
    """
    path = LOCAL / "mlflow" / "mlflow.db"
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            empty = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):  # by a server that is about to answer
            return
        found, empty = str(error), False
    if empty and any((LOCAL / "mlflow").glob("artifacts/*")):  # without artifacts it was never used
        found = "it is empty"
    if found != "ok":
        raise UserError(
            f"MLflow's database {path.relative_to(ROOT)} is damaged ({found}); expected what the server wrote: put a "
            "copy in its place, or move .local/mlflow away and run again, which publishes the model at hand anew"
        )


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
    if not environment.is_local(os.environ):
        return os.environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow")
    service = "label=com.docker.compose.service=mlflow"
    ports = docker("container", "ls", "--filter", of_this_clone(), "--filter", service, "--format", "{{.Ports}}")
    return f"http://{ports.split('->')[0]}"


def main(arguments: list[str]) -> None:
    if arguments == ["down"]:
        subprocess.run(["docker", "compose", "down", "--remove-orphans"], check=True)
        return
    if environment.is_local(os.environ):
        # Also where it answers: with another port, or another runner image, it is made anew.
        start(even_if_it_answers=True)
        wait()
    print(f"MLflow: {address()}")
