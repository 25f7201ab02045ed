"""The containers of a server: the door, which has the port and nothing else, and the server, which has no network."""

import csv
import io
import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from scripts import bounded
from scripts.pipeline import build, images
from scripts.pipeline.containers import GRACE, docker, of_this_clone, stop
from scripts.pipeline.images import Image
from scripts.project import Project, UserError
from scripts.serving.choice import Choice, ensure_scorer
from scripts.serving.kept import LOG, SAMPLE, Kept

HERE = Path(__file__).parent
PACKAGE = "model_server"
LABEL, SERVICE = "pipeline.serving", "com.docker.compose.service"
"""The model's name; and what `make down` stops a service by."""
PORT, PIDS = 8080, 128
SAMPLE_TIME = 120  # seconds that predict.py may take to choose rows
PASSED_ON = ("SERVE_BODY_BYTES", "SERVE_SECONDS", "SERVE_LOG", "LOG_INPUTS")
LISTENS = 0.05  # seconds between two tries to reach the door
UP = {"running", "paused", "restarting"}


def mount(source: Path, target: str, *more: str) -> list[str]:
    line = io.StringIO()  # Docker reads it as CSV: a folder may have a comma in its name
    csv.writer(line, lineterminator="").writerow(["type=bind", f"src={source}", f"dst={target}", *more])
    return ["--mount", line.getvalue()]


def sealed(kind: str, memory: str) -> list[str]:
    """Return the options of a container that can do no more than a stage without a network."""
    options = ["--label", f"pipeline.clone={os.environ['CLONE']}", "--label", f"{SERVICE}={kind}"]
    options += ["--init", "--pull", "never", "--user", f"{os.getuid()}:{os.getgid()}", "--read-only", "--tmpfs", "/tmp"]
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", memory]
    return [*options, "--pids-limit", str(PIDS)]


def program(image: Image, name: str) -> list[str]:
    """Return the options by which a program of PACKAGE runs in the scorer's own image, and the image."""
    options = mount(HERE / PACKAGE, f"/opt/serving/{PACKAGE}", "readonly")
    options += ["--env", "PYTHONPATH=/opt/serving:/app:/opt/kit", "--env", "PYTHONDONTWRITEBYTECODE=1"]
    return [*options, "--entrypoint", "python3", image.tag, "-P", "-m", f"{PACKAGE}.{name}"]


def sources() -> list[str]:
    """Return the files that go into the server's image."""
    return [
        images.DOCKERFILE,
        "requirements.txt",
        *sorted(str(path.relative_to(HERE)) for path in (HERE / PACKAGE).glob("*.py")),
    ]


def image_of(choice: Choice) -> Image:
    """Return the server's image on the scorer's, built if it is not here."""
    return _on_the_scorers(choice, "serving", HERE, sources())


def image_for(suffix: str, choice: Choice) -> Image:
    """Return the image in which such a table is read: the scorer's, with a library for Parquet if it has none."""
    lock = choice.wanted[choice.scorer.block].sources.get("requirements.txt")
    if suffix != ".parquet" or (lock and re.search(rb"(?m)^pyarrow==", lock.data)):
        return ensure_scorer(choice)
    return _on_the_scorers(choice, "parquet", HERE / "parquet", [images.DOCKERFILE, "requirements.txt"])


def _on_the_scorers(choice: Choice, kind: str, folder: Path, names: list[str]) -> Image:
    scorer = ensure_scorer(choice)
    image = images.on_top(scorer, kind, folder, names)
    here = build.on_this_machine()
    build.claim_present({image.name: image}, here)
    if image.tag not in here:
        build.build(image, scorer)
    return image


def keep_sample(choice: Choice, image: Image, kept: Kept, project: Project) -> None:
    """Let the scorer's predict.py choose rows of the test data, if that is here; else those of before stay.

    A sample that cannot be made keeps nobody from serving: what a model is tried on is then made up from its signature.
    """
    inputs = {name: path for name, path in choice.scorer.inputs.items() if path != choice.model.file}
    paths = {name: project.root / path for name, path in inputs.items()}
    if not all(path.exists() for path in paths.values()):
        return
    newest = max((path.stat().st_mtime for path in paths.values()), default=0.0)
    there = kept.folder / SAMPLE
    if there.exists() and there.stat().st_mtime > newest:
        return
    out = kept.folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    name = f"pipeline-{os.environ['CLONE']}-sample-{os.getpid()}"
    command = ["docker", "run", "--rm", "--name", name, *sealed("sample", os.environ["SERVE_MEMORY"])]
    command += ["--network", "none"]
    for path in paths.values():
        command += mount(path.resolve(), f"/work/{path.relative_to(project.root)}", "readonly")
    command += [*mount(out, "/out"), *program(image, "sample"), "/out/sample.json"]
    command += [f"{argument}=/work/{path}" for argument, path in inputs.items()]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SAMPLE_TIME)
    except BaseException as error:  # the client is gone, its container is not
        stop([name], 1)
        if isinstance(error, subprocess.TimeoutExpired):
            return
        raise
    made = out / "sample.json"
    if done.returncode == 0 and made.is_file() and not made.is_symlink():
        made.replace(there)


class Server:
    """The two containers of a model's server."""

    def __init__(self, kept: Kept, image: Image) -> None:
        self._kept, self._image = kept, image
        name = f"pipeline-{os.environ['CLONE']}-serving-{secrets.token_hex(4)}"
        self.door, self._prefix, self._count = f"{name}-door", f"{name}-server", 0
        self.name = ""

    def open(self) -> None:
        """Start both containers at once: what comes to the port waits until the server has imported all that it needs.

        Raise UserError if that cannot be.
        """
        command = ["docker", "create", "--rm", "--name", self.door, *sealed("serving-door", "128m")]
        command += ["--label", f"{LABEL}={self._kept.model}", "--network", os.environ["MLFLOW_NETWORK"]]
        command += ["--publish", f"127.0.0.1:{os.environ['SERVE_PORT']}:{PORT}", "--mount", "type=volume,dst=/door"]
        command += ["--entrypoint", "python3", self._image.tag, "-P", "-m", f"{PACKAGE}.door"]
        expected = f"a free port in {os.environ['SERVE_PORT']} on 127.0.0.1: set SERVE_PORT in .env"
        self._run(command, expected)
        with ThreadPoolExecutor(1) as beside:
            opened = beside.submit(self._run, ["docker", "start", self.door], expected)
            try:
                self.start()
            finally:
                opened.result()  # the first cause, if both failed
        while not self._listens() and self.is_open():
            time.sleep(LISTENS)

    def _listens(self) -> bool:
        """Return whether the door takes connections: Docker's own port does before, and then breaks them off."""
        try:
            socket.create_connection((self.door, PORT), timeout=1).close()
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Start a server behind the door, which takes what has waited there. Raise UserError if that cannot be."""
        if self.name:
            stop([self.name], GRACE)
        self._count += 1
        self.name = f"{self._prefix}-{self._count}"
        command = ["docker", "run", "--detach", "--name", self.name, *sealed("serving", os.environ["SERVE_MEMORY"])]
        command += ["--label", f"{LABEL}={self._kept.model}", "--log-driver", "local", "--log-opt", "max-size=10m"]
        command += ["--network", "none", "--volumes-from", self.door, "--env", "SERVE_DOOR=1"]
        command += mount(self._kept.folder, "/state", "readonly")
        if float(os.environ.get("SERVE_LOG") or 0) > 0:
            (self._kept.folder / LOG).mkdir(parents=True, exist_ok=True)
            command += mount(self._kept.folder / LOG, "/log")
        for variable in PASSED_ON:
            command += ["--env", variable]
        self._run([*command, self._image.tag], "memory like 1g: set SERVE_MEMORY in .env")

    def _run(self, command: Sequence[str], expected: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            words = done.stderr.removeprefix("docker: ").partition("See 'docker")[0].split()
            raise UserError(
                f"the server could not be started: {' '.join(words)[-400:].rstrip('.')}; expected {expected}"
            )

    def link(self) -> str:
        """Return where the server is on this machine."""
        return f"http://{docker('port', self.door, f'{PORT}/tcp').splitlines()[0]}"

    def state(self, name: str) -> str:
        """Return Docker's word for what a container does; empty if it is gone."""
        return docker("container", "ls", "--all", "--filter", f"name=^{name}$", "--format", "{{.State}}")

    def is_up(self) -> bool:
        return self.state(self.name) in UP

    def is_open(self) -> bool:
        return self.state(self.door) in UP

    def told(self) -> dict[str, Any] | None:
        """Return what the server says of itself (see `version` of its server.py); None if it does not answer."""
        try:
            # By its name of the network, at which no proxy finds it.
            url, direct = f"http://{self.door}:{PORT}/version", {"no_proxy": self.door}
            found = bounded.json(bounded.get(url, proxies=direct, timeout=3))
        except (requests.RequestException, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def last_words(self) -> str:
        """Return why the server has ended."""
        inspect = ["docker", "container", "inspect", "--format", "{{.State.OOMKilled}}", self.name]
        if subprocess.run(inspect, capture_output=True, text=True).stdout.strip() == "true":
            return f"it needs more than {os.environ['SERVE_MEMORY']} of memory: raise SERVE_MEMORY in .env"
        done = subprocess.run(["docker", "logs", "--tail", "5", self.name], capture_output=True, text=True)
        return " ".join((done.stdout + done.stderr).split())[-400:] or "it printed nothing"

    def remove(self) -> None:
        """Stop both, the server first: it answers what it has begun."""
        stop([name for name in (self.name,) if name], GRACE)
        stop([self.door], 1)


def check_alone(model: str) -> None:
    """Raise UserError if a server of this model runs in this clone already; remove what a killed one left."""
    listing = ("container", "ls", "--all", "--filter", of_this_clone(), "--filter", f"label={LABEL}={model}")
    found = [json.loads(line) for line in docker(*listing, "--format", "{{json .}}").splitlines()]
    runners = docker("container", "ls", "--filter", of_this_clone(), "--filter", "label=pipeline.verb=serve", "--quiet")
    if found and len(runners.split()) > 1:  # this one, and another
        raise UserError(
            f"a server of {model} runs in this clone; expected none: stop it by Ctrl-C where it was started, or "
            "by 'make down'"
        )
    stop([each["Names"] for each in found], GRACE)
