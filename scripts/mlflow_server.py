"""The services beside a run: the local MLflow server of docker-compose.yml."""

import os
import re
import sqlite3
import subprocess
import threading
import time
from typing import Any

import requests

from scripts import bounded, mlflow_database, settings
from scripts.pipeline.console import harmless, tell
from scripts.pipeline.containers import docker, of_this_clone
from scripts.pipeline.failures import TRANSIENT
from scripts.project import PROJECT, Project, Unavailable, UserError

SERVICE = "mlflow"
PATIENCE = 900  # seconds; ten times the slowest start ever seen, on two cores with twenty other busy processes
FIRST_NOTE, NOTES = 5.0, 30.0  # seconds until it is said what is waited for, and between the notes after that
LOOKS = 1.0  # seconds between questions to Docker, each of which takes processor time from what is waited for
ALIVE = {"created", "running", "paused"}
"""Docker's words for a container that serves or may come to serve."""
TRIES, PAUSE = 3, 2  # to start it, and seconds in between, if Docker is busy or another command starts it as well
BUSY = re.compile(rf"{TRANSIENT.pattern}|is already in use by container|is already in progress|No such container")
OTHER_SCHEMA = re.compile("out-of-date database schema|Can't locate revision")
"""What MLflow says of a database that another version of it has made."""
PORT = re.compile("port is already allocated|address already in use|ports are not available|hostPort|Invalid ip", re.I)
BOUND = re.compile(r":(\d+): bind: address already in use")
"""What older engines say if a program outside of Docker has the port that they chose out of a range."""


def answers(timeout: float = 2) -> bool:
    """Return True if the MLflow server in use answers an API call. (/health says 200 even if every call is refused.)"""
    uri = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    try:
        search = f"{uri}/api/2.0/mlflow/experiments/search?max_results=1"
        return bounded.get(search, auth=settings.mlflow_login(os.environ), timeout=timeout).ok
    except requests.RequestException:
        return False


def start(project: Project = PROJECT, *, even_if_it_answers: bool = False) -> bool:
    """Start the local server, unless it answers or is paused; return True if it must be waited for.

    Raise UserError if its database is damaged or Docker cannot start it.
    """
    if answers() and not even_if_it_answers:
        return False
    project.mlflow.mkdir(parents=True, exist_ok=True)
    states = _containers("{{.State}}")
    if "paused" in states:  # by somebody who goes on with it; Docker refuses to start it until then
        print("the local MLflow server is paused: 'docker unpause' lets it answer", flush=True)
        return True
    if not states:  # a running one may be writing
        check_database(project)
    if not answers():
        print("starting the local MLflow server ...", flush=True)
    _up()
    return True


def _up() -> None:
    ports, tries = os.environ["MLFLOW_PORT"], TRIES
    while True:
        settled = os.environ | {"MLFLOW_PORT": ports}
        done = _compose("up", "--detach", "--quiet-pull", capture_output=True, env=settled)
        if not done.returncode:
            return
        words = " ".join(done.stderr.split())[-400:]
        if left := _above(ports, words):
            ports = left
            continue
        tries -= 1
        if not tries or not BUSY.search(words):
            break
        time.sleep(PAUSE)
    if PORT.search(words):
        expected = f"a free port in {os.environ['MLFLOW_PORT']} on 127.0.0.1: set MLFLOW_PORT in .env"
    else:
        expected = "Docker to start it: run again, and if that fails too, 'make doctor'"
    raise UserError(f"the local MLflow server could not be started: {words}; expected {expected}")


def _above(ports: str, words: str) -> str | None:
    """Return the ports of a range above the one that Docker says is taken; None if it does not, or if none is left."""
    taken, last = BOUND.search(words), ports.partition("-")[2]
    if not taken or not last.isdecimal() or int(taken[1]) >= int(last):
        return None
    return f"{int(taken[1]) + 1}-{last}"


def wait(project: Project = PROJECT) -> None:
    """Return when the local server answers; say now and then that it is waited for.

    One that an older MLflow's database keeps from starting is started again once that is upgraded. Raise Unavailable
    with its last words as soon as its container has ended, or if it does not answer within PATIENCE.
    """
    began, upgraded = time.monotonic(), False
    look, note, question = LOOKS, FIRST_NOTE, _Question()
    while True:
        question.join(LOOKS)
        if question.answered:
            return
        waited = time.monotonic() - began
        if waited > look:
            look = waited + LOOKS
            if not ALIVE & {*_containers("{{.State}}", "--all")}:
                if upgraded or not OTHER_SCHEMA.search(_last_words()):
                    raise _given_up("ended before it answered")
                mlflow_database.upgrade(project)
                upgraded = True
                _up()
        if waited > PATIENCE:
            raise _given_up(f"did not answer within {PATIENCE} s")
        if waited > note:
            print(f"waiting for the local MLflow server, which is still starting ({waited:.0f} s) ...", flush=True)
            note = waited + NOTES
        if not question.is_alive():
            time.sleep(0.2)
            question = _Question()


class _Question(threading.Thread):
    """Asks the server, aside: where its container is gone, the network may look for its name for ten seconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.answered = False
        self.start()

    def run(self) -> None:
        self.answered = answers(timeout=10)


def _given_up(why: str) -> Unavailable:
    said = _last_words()[-500:] or "it printed nothing"
    return Unavailable(
        f"the local MLflow server {why}: {said}; expected it on this clone's network: 'make down ui' starts it again"
    )


def _last_words() -> str:
    log = _compose("logs", "--tail", "20", "--no-log-prefix", SERVICE, capture_output=True)
    return " ".join(" ".join(map(harmless, log.stdout.split("\n"))).split())


def check_database(project: Project = PROJECT) -> None:
    """Raise UserError if the server's database is damaged. To be called while no server runs."""
    mlflow_database.check(project)


def back_up(project: Project = PROJECT) -> None:
    """Copy the local server's database if it has changed; say so if that is not possible.

    To be called after a run that ended well; the server may be running. Raise UserError if the database is damaged.
    """
    if not settings.is_local(os.environ):
        return
    try:
        mlflow_database.back_up(project)
    except (sqlite3.Error, OSError) as error:
        tell(f"note: MLflow's database was not backed up ({error}); the run is complete")


def address() -> str:
    """Return where a browser on the host finds MLflow."""
    if not settings.is_local(os.environ):
        return os.environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow")
    return f"http://{''.join(_containers('{{.Ports}}')).split('->')[0]}"


def route(page: str) -> str:
    """Return what follows a server's address in that of a page, in the mode that shows runs and models.

    Without it MLflow opens in a mode for chat applications, which has neither.
    """
    return f"#/{page}?workflowType=machine_learning"


def link(page: str) -> str:
    """Return the address of a page, which logs in on its own if the server is local: not to be kept in a file."""
    login = f"/?password={os.environ['MLFLOW_TRACKING_PASSWORD']}" if settings.is_local(os.environ) else "/"
    return f"{address()}{login}{route(page)}"


def _containers(column: str, *options: str) -> list[str]:
    """Return a line for each container of the local server that runs (with `--all`, that exists); `column` is a Go
    template."""
    service = f"label=com.docker.compose.service={SERVICE}"
    listing = ("container", "ls", *options, "--filter", of_this_clone(), "--filter", service, "--format", column)
    return docker(*listing).splitlines()


def _compose(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    # Compose would read .env beside its file, and print a value that it cannot parse.
    return subprocess.run(["docker", "compose", "--env-file", os.devnull, *arguments], text=True, **options)
