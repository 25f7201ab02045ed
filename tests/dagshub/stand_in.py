"""The stand-in for DagsHub: nginx with DagsHub's addresses and behaviour before a real MLflow and a real S3 server.

It is reached as http://dagshub.test on the network of a test's clone, and nowhere else.
"""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.conftest import Clone

USER = "ann"
# Computed, so that they stand in no file of a clone.
TOKEN, READ_ONLY = (hashlib.sha1(f"a token to {allowed}".encode()).hexdigest() for allowed in ("write", "read"))
ADDRESS = "http://dagshub.test/team/iris.mlflow"
OLD, CURRENT = "2.7.1", "current"


def docker(*arguments: str, stdin: str | None = None) -> str:
    """Return what `docker ARGUMENTS` prints. Raise AssertionError with its own words if it fails."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"docker {arguments[0]} failed: {done.stderr}"
    return done.stdout.strip()


def configure(clone: Clone, user: str = USER, token: str = TOKEN, uri: str = ADDRESS) -> None:
    """Write the three lines into the clone's .env."""
    env = clone.path / ".env"
    env.write_text(f"DAGSHUB_USER_NAME={user}\nDAGSHUB_TOKEN={token}\nMLFLOW_TRACKING_URI={uri}\n")
    env.chmod(0o600)


def contents(clone: Clone) -> list[str]:
    """Return the digests of what the stages of dvc.lock made."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    return sorted({out["md5"] for stage in lock["stages"].values() for out in stage["outs"]})


@dataclass(frozen=True)
class StandIn:
    """A running stand-in: `name` is the proxy's container, `given` the folder that tells it who may do what."""

    name: str
    given: Path

    def join(self, clone: Clone) -> None:
        """Let another clone reach it."""
        docker("network", "connect", "--alias", "dagshub.test", network_of(clone), self.name)

    def python(self, code: str) -> str:
        """Return what a program prints where the servers are: MLflow at 127.0.0.1:5000, S3 at 127.0.0.1:5001."""
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
        """Return the versions of iris-classifier as the server has them, the oldest first."""
        query = "max_results=1000&filter=name%3D%27iris-classifier%27"
        told = self.python(f"print(call('GET', MLFLOW + '/model-versions/search?{query}'))")
        return sorted(json.loads(told).get("model_versions", []), key=lambda version: int(version["version"]))

    def stages(self) -> dict[str, str]:
        """Return the stage of each version."""
        return {version["version"]: version["current_stage"] for version in self.versions()}

    def forget(self, version: dict) -> None:
        """Delete a version and its run."""
        named = {"name": version["name"], "version": version["version"]}
        self.python(
            f"call('DELETE', MLFLOW + '/model-versions/delete', {named})\n"
            f"call('POST', MLFLOW + '/runs/delete', {{'run_id': {version['run_id']!r}}})\n"
        )

    def bucket(self) -> list[str]:
        """Return the keys of all that the bucket holds."""
        told = self.python(
            "import re\n"
            "page = call('GET', 'http://127.0.0.1:5001/dvc?list-type=2&max-keys=1000')\n"
            "print(json.dumps(re.findall('<Key>(.*?)</Key>', page)))\n"
        )
        return json.loads(told)

    def pushed(self) -> tuple[list[str], int]:
        """Return the digests of the data in the bucket, and the number of entries of the run-cache."""
        keys = self.bucket()
        data = [match[1] + match[2] for key in keys if (match := re.fullmatch(r"files/md5/(..)/(.{30})", key))]
        return sorted(data), sum(key.startswith("runs/") for key in keys)

    def empty_bucket(self) -> None:
        """Delete all that the bucket holds."""
        self.python("call('POST', 'http://127.0.0.1:5001/moto-api/reset')\ncall('PUT', 'http://127.0.0.1:5001/dvc')")

    @contextmanager
    def fault(self, what: str, services: tuple[str, ...], kinds: tuple[str, ...]) -> Iterator[None]:
        """Break services (site, mlflow, s3) in a way that nginx.conf knows, until the block ends."""
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
    """Return the part of nginx's configuration that knows the tokens."""

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
    """Return the clone's network; make it as scripts/host/runner.sh does if it is not there yet."""
    name = f"pipeline-{clone.label.partition('=')[2]}"
    if not clone.docker("network", "ls", "--quiet", "--filter", f"name={name}"):
        docker("network", "create", "--label", clone.label, name)
    return name
