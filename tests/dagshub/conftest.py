"""The stand-in for DagsHub: nginx with DagsHub's addresses and manners in front of a real MLflow and a real S3 server.

It is reached as http://dagshub.test on the network of a test's clone, and nowhere else.
"""

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.conftest import Clone

USER = "ann"
# Computed, so that they stand in no file of a clone.
TOKEN, READ_ONLY = (hashlib.sha1(f"a token to {allowed}".encode()).hexdigest() for allowed in ("write", "read"))
ADDRESS = "http://dagshub.test/team/iris.mlflow"
OLD, CURRENT = "2.7.1", "current"
FOLDER = Path(__file__).parent


def docker(*arguments: str, stdin: str | None = None) -> str:
    """What `docker ARGUMENTS` prints; an AssertionError with its own words where it fails."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"docker {arguments[0]} failed: {done.stderr}"
    return done.stdout.strip()


def configure(clone: Clone, user: str = USER, token: str = TOKEN, uri: str = ADDRESS) -> None:
    """Puts the three lines into the clone's .env."""
    env = clone.path / ".env"
    env.write_text(f"DAGSHUB_USER_NAME={user}\nDAGSHUB_TOKEN={token}\nMLFLOW_TRACKING_URI={uri}\n")
    env.chmod(0o600)


@dataclass(frozen=True)
class StandIn:
    """A running stand-in: `name` is the proxy's container, `given` the folder that tells it who may do what."""

    name: str
    given: Path

    def join(self, clone: Clone) -> None:
        """Lets a further clone reach it."""
        docker("network", "connect", "--alias", "dagshub.test", network_of(clone), self.name)

    def python(self, code: str) -> str:
        """What a program prints that runs where the servers are: MLflow at 127.0.0.1:5000, S3 at 127.0.0.1:5001."""
        helpers = (
            "import json, urllib.request\n"
            "def call(method, url, data=None):\n"
            "    body = json.dumps(data).encode() if data is not None else None\n"
            "    request = urllib.request.Request(url, body, {'Content-Type': 'application/json'}, method=method)\n"
            "    return urllib.request.urlopen(request, timeout=60).read().decode()\n"
            "MLFLOW = 'http://127.0.0.1:5000/api/2.0/mlflow'\n"
        )
        return docker("exec", "--interactive", self.name, "/usr/bin/python3", "-", stdin=helpers + code)

    def versions(self) -> list[dict]:
        """The versions of iris-classifier that the server has, the oldest first, as it tells them."""
        query = "max_results=1000&filter=name%3D%27iris-classifier%27"
        told = self.python(f"print(call('GET', MLFLOW + '/model-versions/search?{query}'))")
        return sorted(json.loads(told).get("model_versions", []), key=lambda version: int(version["version"]))

    def stages(self) -> dict[str, str]:
        """The stage of each version."""
        return {version["version"]: version["current_stage"] for version in self.versions()}

    def forget(self, version: dict) -> None:
        """Deletes a version and its run."""
        named = {"name": version["name"], "version": version["version"]}
        self.python(
            f"call('DELETE', MLFLOW + '/model-versions/delete', {named})\n"
            f"call('POST', MLFLOW + '/runs/delete', {{'run_id': {version['run_id']!r}}})\n"
        )

    def bucket(self) -> list[str]:
        """The keys of all that the bucket holds."""
        told = self.python(
            "import re\n"
            "page = call('GET', 'http://127.0.0.1:5001/dvc?list-type=2&max-keys=1000')\n"
            "print(json.dumps(re.findall('<Key>(.*?)</Key>', page)))\n"
        )
        return json.loads(told)

    def empty_bucket(self) -> None:
        """Deletes all that the bucket holds."""
        self.python("call('POST', 'http://127.0.0.1:5001/moto-api/reset')\ncall('PUT', 'http://127.0.0.1:5001/dvc')")

    @contextmanager
    def fault(self, what: str, services: tuple[str, ...], kinds: tuple[str, ...] = ("read", "write")) -> Iterator[None]:
        """Breaks services (mlflow, s3) in a way that nginx.conf knows, until the block ends."""
        files = [self.given / "faults" / service / kind / what for service in services for kind in kinds]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()


def who() -> str:
    """The part of nginx's configuration that knows the tokens."""

    def basic(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    lines = []
    for token, allowed in ((TOKEN, "write"), (READ_ONLY, "read")):
        for header in (basic(USER, token), basic(token, token), basic(token, ""), f"Bearer {token}"):
            lines.append(f'"{header}" {allowed};')
    s3 = f'"~Credential={TOKEN}/" write; "~Credential={READ_ONLY}/" read;'
    return (
        f'map $http_authorization $who {{ default ""; {" ".join(lines)} }}\n'
        f'map $http_authorization $s3_who {{ default ""; {s3} }}\n'
    )


def network_of(clone: Clone) -> str:
    """The clone's network, made as scripts/runner.sh makes it if it is not there yet."""
    name = f"pipeline-{clone.label.partition('=')[2]}"
    if not clone.docker("network", "ls", "--quiet", "--filter", f"name={name}"):
        docker("network", "create", "--label", clone.label, name)
    return name


@pytest.fixture(scope="session")
def image() -> Iterator[Callable[[str], str]]:
    """Gives the name of an image by that of its Dockerfile; all are built side by side, and gone after the tests."""
    repository = f"stages/clone-{Clone(ROOT).label.partition('=')[2]}"
    names = {path.name: f"{repository}:test-{path.name.lower()}" for path in FOLDER.glob("Dockerfile*")}
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


@pytest.fixture(scope="session")
def stand_in_for(image: Callable[[str], str]) -> Iterator[Callable[[Clone, str], StandIn]]:
    """Starts an empty stand-in with one of the two MLflow servers on a clone's network; gone after the tests."""
    started: list[str] = []

    def start(clone: Clone, server: str) -> StandIn:
        network = network_of(clone)
        name = f"{network}-dagshub"
        given = clone.path.parent / f"given-to-{name}"
        given.mkdir()
        (given / "who.conf").write_text(who())
        labelled = ["run", "--detach", "--init", "--label", clone.label]

        def run(part: str, *arguments: str) -> None:
            started.append(f"{name}{part}")
            docker(*labelled, "--name", f"{name}{part}", *arguments)

        mount = f"type=bind,src={given},dst=/stand-in/given,readonly"
        run("", "--network", network, "--network-alias", "dagshub.test", "--mount", mount, image("Dockerfile"))
        beside = ["--network", f"container:{name}", "--env", "HOME=/tmp", "--workdir", "/tmp"]
        run("-broken", *beside, image("Dockerfile"), "/usr/bin/python3", "/stand-in/broken.py")
        run("-s3", *beside, image("Dockerfile"), "moto_server", "--host", "127.0.0.1", "--port", "5001")
        mlflow = ["mlflow", "server", "--host", "127.0.0.1", "--port", "5000", "--workers", "1"]
        mlflow += ["--backend-store-uri", "sqlite:////tmp/mlflow.db", "--artifacts-destination", "/tmp/artifacts"]
        quiet = ["--env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
        run(
            "-mlflow",
            *beside,
            *quiet,
            image("Dockerfile.mlflow-old") if server == OLD else os.environ["RUNNER_IMAGE"],
            *mlflow,
        )
        stand_in = StandIn(name, given)
        wait = (
            "import time\n"
            "end = time.monotonic() + 60\n"
            "for url in (MLFLOW + '/experiments/search?max_results=1', 'http://127.0.0.1:5001/'):\n"
            "    while True:\n"
            "        try:\n"
            "            call('GET', url)\n"
            "            break\n"
            "        except OSError:\n"
            "            if time.monotonic() > end:\n"
            "                raise\n"
            "            time.sleep(0.2)\n"
        )
        try:
            stand_in.python(wait)
        except AssertionError:
            for part in ("", "-s3", "-mlflow"):
                subprocess.run(["docker", "logs", "--tail", "20", f"{name}{part}"])
            raise
        stand_in.empty_bucket()
        return stand_in

    yield start
    for name in reversed(started):
        subprocess.run(["docker", "container", "rm", "--force", "--volumes", name], capture_output=True)
