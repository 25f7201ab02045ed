"""Two machines, each with an engine of its own (with_engines.sh), and what they share: S3 and a registry of images."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.project import ROOT
from tests.conftest import Clone, Make, new_clone, wait_until

ENGINES = ROOT.parent.parent / "engines"
ADDRESSES = {"one": "10.77.0.1", "two": "10.77.0.2"}
S3, REGISTRY = f"{ADDRESSES['one']}:9000", f"{ADDRESSES['one']}:9001"
BUCKET = "bucket"
SETTINGS = {
    "DVC_REMOTE_URL": f"s3://{BUCKET}/dvc",
    "AWS_ENDPOINT_URL": f"http://{S3}",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "IMAGE_REGISTRY": REGISTRY,
}
ASK_S3 = "from urllib.request import Request, urlopen; urlopen(Request('http://127.0.0.1:9000/{}', method='{}'))"


@dataclass(frozen=True)
class Machine(Clone):
    """A clone on the machine of this name: all that it starts runs there."""

    name: str

    @property
    def address(self) -> str:
        return ADDRESSES[self.name]

    @property
    def engine(self) -> dict[str, str]:
        return engine(self.name)

    def make(self, *arguments: str, **how: Any) -> Make:
        return super().make(*arguments, **(self.engine | how))

    def docker(self, *arguments: str) -> list[str]:
        return call(self.name, *arguments, "--filter", f"label={self.label}").splitlines()

    def container(self, service: str) -> str:
        """Return the name of the running container of a service of this clone."""
        label = f"label=com.docker.compose.service={service}"
        (name,) = self.docker("container", "ls", "--filter", label, "--format", "{{.Names}}")
        return name

    def set(self, **settings: str) -> None:
        """Write .env: what both machines share, and these settings."""
        env = self.path / ".env"
        env.write_text("".join(f"{name}={value}\n" for name, value in (SETTINGS | settings).items()))
        env.chmod(0o600)


def engine(name: str) -> dict[str, str]:
    """Return the variables by which Docker's client, and a runner, use a machine's engine."""
    socket = str(ENGINES / name / "docker.sock")
    return {"DOCKER_HOST": f"unix://{socket}", "RUNNER_SOCKET": socket}


def call(name: str, *arguments: str, stdin: Any = None) -> str:
    """Return what `docker ARGUMENTS` prints on a machine. Raise AssertionError with its words if it fails."""
    environ = os.environ | engine(name)
    done = subprocess.run(["docker", *arguments], env=environ, stdin=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"docker {' '.join(arguments)} on {name}: {done.stderr[-500:]}"
    return done.stdout.strip()


def machine(name: str, source: Path, folder: str, **settings: str) -> Machine:
    """Return a clone of `source` on a machine."""
    made = Machine(new_clone(folder, of=source).path, name)
    made.set(**settings)
    return made


def bring(name: str, images: list[str]) -> None:
    """Copy images of the shared engine to a machine that lacks them."""
    here = call(name, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    lacking = [image for image in images if image not in here]
    if lacking:
        with subprocess.Popen(["docker", "save", *lacking], stdout=subprocess.PIPE) as saved:
            call(name, "load", "--quiet", stdin=saved.stdout)


def servers_image(clone: Clone) -> str:
    """Return the image with both servers, which is built on the shared engine if it is not there."""
    name = f"stages/clone-{clone.label.partition('=')[2]}:test-servers"
    build = ["docker", "buildx", "build", "--quiet", "--pull=false", "--tag", name]
    build += ["--build-arg", f"PYTHON_IMAGE={os.environ['PYTHON_IMAGE']}"]
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        build += ["--build-arg", variable]
    subprocess.run([*build, str(ROOT / "tests" / "airflow" / "servers")], check=True, capture_output=True)
    return name


def serve(image: str) -> None:
    """Start an empty S3 server and an empty registry on machine one."""
    stop_serving()
    commands = {
        "s3": ["moto_server", "--host", "0.0.0.0", "--port", S3.partition(":")[2]],
        "registry": ["docker-registry", "serve", "/etc/registry.yml"],
    }
    # Not behind ports of a bridge: from another bridge of its machine, Docker's firewall lets nobody through to those.
    for name, command in commands.items():
        call("one", "run", "--detach", "--init", "--name", name, "--network", "host", image, *command)
    wait_until(lambda: asked_s3(BUCKET, "PUT"), "the S3 server", 120)


def stop_serving() -> None:
    subprocess.run(["docker", "rm", "--force", "s3", "registry"], env=os.environ | engine("one"), capture_output=True)


def asked_s3(path: str, method: str) -> bool:
    command = ["docker", "exec", "s3", "python3", "-c", ASK_S3.format(path, method)]
    return subprocess.run(command, env=os.environ | engine("one"), capture_output=True).returncode == 0


def empty_s3() -> None:
    """Let the S3 server forget everything but an empty bucket."""
    assert asked_s3("moto-api/reset", "POST") and asked_s3(BUCKET, "PUT")
