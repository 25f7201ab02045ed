"""Starts Airflow's services, and waits for what is alive."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts import settings
from scripts.airflow import api, drawing, keys
from scripts.airflow.plan import files
from scripts.mlflow_server import PORT as PORT_IN_USE
from scripts.pipeline import build, images
from scripts.pipeline.console import tell
from scripts.pipeline.containers import docker, of_this_clone
from scripts.pipeline.images import Image
from scripts.project import PROJECT, Project, UserError, atomic_write

HERE = Path(__file__).parent
ENGINE = ("requirements.txt", "attempt.py", "drawing.py", "healthy.py", "inputs.py", "dags/pipeline.py")
STORES = ("postgres.sh", "redis.sh")
NAMES = {
    "airflow-database": "PostgreSQL",
    "airflow-broker": "Redis",
    "airflow-migrate": "the database's tables",
    "airflow-api": "the API server",
    "airflow-scheduler": "the scheduler",
    "airflow-dag-processor": "the DAG processor",
    "airflow-worker": "the worker",
}
"""The services of docker-compose.yml, in the order in which they come up."""
WORKER, STARTED = "airflow-worker", "started"
"""The service of a worker, and the file that names the services that this clone has started."""
PATIENCE, NOTES, LOOKS = 1200, 15, 1.0  # seconds: until it is given up, between two notes, between two looks
RESTARTS = 5  # of a service until it counts as one that cannot start
LOG_PORT = 8793  # Airflow's own, for the log of a worker on another machine
SETTINGS = ("AIRFLOW_BROKER_URL", "AIRFLOW_RESULT_BACKEND", "AIRFLOW_API_URL", "AIRFLOW_KEY")
"""The four lines of a worker on another machine."""


def engine() -> Image:
    """Return the image of Airflow's services."""
    return _image("airflow.engine", "Dockerfile", ENGINE)


def stores() -> Image:
    """Return the image of PostgreSQL and Redis."""
    return _image("airflow.stores", "stores.Dockerfile", STORES)


def _image(name: str, dockerfile: str, names: Sequence[str]) -> Image:
    sources = {images.DOCKERFILE: images.read(HERE / dockerfile), **{each: images.read(HERE / each) for each in names}}
    return Image(name, f"stages/{name}:{images.digest(sources)}", sources)


def ensure_images(wanted: Sequence[Image]) -> None:
    """Build what is not here. Raise UserError if that fails."""
    here = build.on_this_machine()
    build.claim_present({image.name: image for image in wanted}, here)
    for image in wanted:
        if image.tag not in here:
            build.build(image, None)


def is_joined(environ: Mapping[str, str]) -> bool:
    """Return whether .env makes this clone a worker of another machine's Airflow."""
    return any(environ.get(name) for name in SETTINGS)


def variables(queues: Sequence[str], project: Project = PROJECT) -> dict[str, str]:
    """Return what docker-compose.yml asks for, of an Airflow of this clone's own."""
    own = keys.load(project)
    broker = f"redis://:{own['broker']}@airflow-broker:6379"
    return _common(queues, project) | {
        "AIRFLOW_DATABASE_URL": f"postgresql+psycopg2://airflow:{own['database']}@airflow-database/airflow",
        "AIRFLOW_DATABASE_PASSWORD": own["database"],
        "AIRFLOW_REDIS_PASSWORD": own["broker"],
        "AIRFLOW_FERNET_KEY": own["fernet"],
        "AIRFLOW_JWT_SECRET": own["jwt"],
        "AIRFLOW_BROKER_URL": f"{broker}/0",
        "AIRFLOW_RESULT_BACKEND": f"{broker}/1",
        "AIRFLOW_API_URL": f"{api.URL}/execution/",
        "AIRFLOW_KEY": own["key"],
    }


def joined_variables(queues: Sequence[str], project: Project = PROJECT) -> dict[str, str]:
    """Return the same of a worker that joins another machine's Airflow. Raise UserError if .env does not say which."""
    if missing := [name for name in SETTINGS if not os.environ.get(name)]:
        raise UserError(
            f"{', '.join(missing)} missing in .env; expected the four lines that 'make airflow' writes to "
            ".local/airflow/worker.env on the machine with Airflow (AIRFLOW_ADDRESS in its .env): copy them"
        )
    others = ("DATABASE_URL", "DATABASE_PASSWORD", "REDIS_PASSWORD", "FERNET_KEY", "JWT_SECRET")
    return _common(queues, project) | {f"AIRFLOW_{name}": "of another machine" for name in others}


def _common(queues: Sequence[str], project: Project) -> dict[str, str]:
    return {
        "AIRFLOW_IMAGE": engine().tag,
        "AIRFLOW_STORES_IMAGE": stores().tag,
        "AIRFLOW_FILES": str(files(project)),
        "AIRFLOW_QUEUES": os.environ.get("AIRFLOW_QUEUES") or ",".join(queues),
        "AIRFLOW_SLOTS": os.environ.get("JOBS") or str(os.cpu_count()),
        "CLONE_PATH": str(project.root),
        "SOCKET_GROUP": str(Path("/var/run/docker.sock").stat().st_gid),
        "COMPOSE_PROJECT_NAME": f"{os.environ['MLFLOW_NETWORK']}-airflow",
    }


def extra(environ: Mapping[str, str], *, joined: bool) -> dict[str, Any]:
    """Return what this machine adds to docker-compose.yml: folders that DVC uses outside of the clone, and ports.

    Docker mounts for a runner what the host has there; in the worker, which asks for it, it must be there as well.
    """
    places = filter(None, environ.get("RUNNER_MOUNTS", "").split(":"))
    mounts = [{"type": "bind", "source": place, "target": place} for place in places]
    proxies = {name: environ[name] for name in (*build.PROXIES, *build_settings()) if environ.get(name)}
    services: dict[str, Any] = {WORKER: {"volumes": mounts, "environment": sorted(proxies)}}
    if address := environ.get("AIRFLOW_ADDRESS"):
        if joined:
            services[WORKER]["ports"] = [f"{address}:{LOG_PORT}:{LOG_PORT}"]
        else:
            services["airflow-api"] = {"ports": [f"{address}:8080:8080"]}
            services["airflow-broker"] = {"ports": [f"{address}:6379:6379"]}
    return {"services": services}


def build_settings() -> tuple[str, ...]:
    """Return the variables of the shell by which a worker's own builds find packages."""
    return ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "HOST_USER")


class Services:
    """The containers of this clone's Airflow, or of its worker alone."""

    def __init__(self, environ: Mapping[str, str], names: Sequence[str], project: Project = PROJECT) -> None:
        self._environ = dict(os.environ) | dict(environ)
        self._names = list(names)
        self._project = project

    def start(self) -> None:
        """Start them, one after the other as they need each other. Raise UserError if Docker, or one of them, fails."""
        folder = files(self._project)
        for name in ("logs", "drawing", "users", "patches"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / STARTED).write_text("\n".join(self._names))
        own = extra(os.environ, joined=self._names == [WORKER])
        atomic_write(folder / "compose.json", json.dumps(own), mode=0o600)
        alone = ["--no-deps"] if self._names == [WORKER] else []
        began = noted = time.monotonic()
        with subprocess.Popen(
            [*self._compose(), "up", "--detach", "--quiet-pull", *alone, *self._names],
            env=self._environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            while True:
                try:
                    words, _ = process.communicate(timeout=LOOKS)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() - noted > NOTES:
                        noted = time.monotonic()
                        tell(f"waiting for {', '.join(self._not_up()) or 'Docker'} ({noted - began:.0f} s) ...")
        if process.returncode:
            raise self._fault(" ".join(words.split())[-500:])

    def _not_up(self) -> list[str]:
        """Return the services that come up at this moment: those whose container is the first that is not well."""
        for name in self._names:
            found = self._inspect(name)
            if not found or found["State"].get("Health", {}).get("Status", "healthy") != "healthy":
                return [NAMES[name]]
            if name == "airflow-migrate" and found["State"]["Status"] == "running":
                return [NAMES[name]]
        return []

    def _fault(self, words: str) -> UserError:
        if PORT_IN_USE.search(words):
            return UserError(
                f"Airflow could not be started: {words}; expected a free port in {os.environ['AIRFLOW_PORT']} on "
                "127.0.0.1: set AIRFLOW_PORT in .env"
            )
        for name in self._names:
            if self._has_failed(name):
                return self._ended(name)
        return UserError(
            f"Airflow could not be started: {words}; expected Docker to start it: call again, and if that fails too, "
            "'make doctor'"
        )

    def wait(self) -> None:
        """Return when all of it answers; say now and then what is waited for. Raise UserError if one cannot start."""
        began = noted = time.monotonic()
        asking = api.Api(self._project)
        while missing := self.missing(asking):
            waited = time.monotonic() - began
            for name in self._names:
                if self._has_failed(name):
                    raise self._ended(name)
            if waited > PATIENCE:
                raise UserError(
                    f"{', '.join(missing)} did not answer within {PATIENCE} s; expected all of Airflow: 'make down "
                    "airflow' starts it again"
                )
            if time.monotonic() - noted > NOTES:
                noted = time.monotonic()
                tell(f"waiting for {', '.join(missing)} ({waited:.0f} s) ...")
            time.sleep(LOOKS)

    def missing(self, asking: api.Api) -> list[str]:
        """Return the parts that do not answer yet."""
        found = []
        if self._names != [WORKER]:
            try:
                health = asking.health()
            except api.Away:
                return [NAMES["airflow-api"]]
            parts = {
                "metadatabase": "airflow-database",
                "scheduler": "airflow-scheduler",
                "dag_processor": "airflow-dag-processor",
            }
            found = [NAMES[name] for part, name in parts.items() if health[part]["status"] != "healthy"]
        # Last of all: each question to the worker is a process in its container.
        return found or ([] if self.worker_answers() else [NAMES[WORKER]])

    def worker_answers(self) -> bool:
        name = self._container(WORKER)
        command = ["docker", "exec", name, "python", "-m", "scripts.airflow.healthy", "worker"]
        return bool(name) and subprocess.run(command, capture_output=True).returncode == 0

    def _has_failed(self, name: str) -> bool:
        """Return whether a service has ended, or does nothing but start again."""
        found = self._inspect(name)
        if not found:
            return False
        state = found["State"]
        if name == "airflow-migrate":
            return state["Status"] == "exited" and state["ExitCode"] != 0
        return state["Status"] in ("exited", "dead") or found["RestartCount"] > RESTARTS

    def _ended(self, name: str) -> UserError:
        found = self._inspect(name)
        if found and found["State"].get("OOMKilled"):
            why = "it needs more memory than its limit"
        else:
            done = subprocess.run(
                ["docker", "logs", "--tail", "8", self._container(name)], capture_output=True, text=True
            )
            why = " ".join((done.stdout + done.stderr).split())[-500:] or "it printed nothing"
        return UserError(
            f"{NAMES[name]} of Airflow ended: {why}; expected it to serve: 'make down airflow' starts anew"
        )

    def _container(self, service: str) -> str:
        return container(service)

    def _inspect(self, service: str) -> dict[str, Any] | None:
        name = self._container(service)
        if not name:
            return None
        done = subprocess.run(["docker", "container", "inspect", name], capture_output=True, text=True)
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def _compose(self) -> list[str]:
        # Compose would read .env beside its file, and print a value that it cannot parse.
        command = ["docker", "compose", "--env-file", os.devnull, "--file", str(HERE / "docker-compose.yml")]
        return [*command, "--file", str(files(self._project) / "compose.json")]


def container(service: str, *, all: bool = True) -> str:
    """Return the name of the container of a service of this clone; empty if there is none."""
    label = f"label=com.docker.compose.service={service}"
    options = ["--all"] if all else []
    listing = ("container", "ls", *options, "--filter", of_this_clone(), "--filter", label, "--format", "{{.Names}}")
    return docker(*listing).partition("\n")[0]


def started(project: Project = PROJECT) -> list[str]:
    """Return the services that this clone has started at some time."""
    file = files(project) / STARTED
    return file.read_text().split() if file.exists() else []


def address() -> str:
    """Return where a browser on this machine finds Airflow."""
    return f"http://{docker('port', container('airflow-api'), '8080/tcp').splitlines()[0]}"


def memory() -> int:
    """Return the bytes that all of Airflow's services use here, as Docker counts them against their limits."""
    names = [name for service in NAMES if (name := container(service, all=False))]
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *names).splitlines() if names else []
    return sum(settings.size(line.partition(" /")[0].strip()) or 0 for line in used)


def worker_lines(environ: Mapping[str, str], address: str) -> str:
    """Return the four lines by which another machine's worker finds this Airflow at `address`."""
    there = {
        name: environ[name].replace("@airflow-broker:", f"@{address}:").replace("//airflow-api:", f"//{address}:")
        for name in SETTINGS
    }
    return "".join(f"{name}={value}\n" for name, value in there.items())


def check_address(url: str) -> None:
    """Raise UserError if an address for workers is one that only this machine has."""
    if (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "airflow-api"):
        raise UserError(
            f"AIRFLOW_API_URL is {url}, which in the worker is the worker itself; expected an address of the machine "
            "with Airflow: correct it in .env"
        )


def queues(drawn: Mapping[str, Any]) -> list[str]:
    """Return the queues that the worker beside Airflow serves, if .env names none."""
    return drawing.queues(drawn)
