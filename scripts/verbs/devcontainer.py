"""`sh scripts/host/runner.sh devcontainer SOCKET`: makes the image that .devcontainer/devcontainer.json names.

Editors call it on the host, before they start a container that is given the engine's SOCKET.
"""

import os
import subprocess
from pathlib import Path

from scripts.pipeline import build
from scripts.pipeline.images import Image
from scripts.project import PROJECT, UserError

IMAGE = Image("dev.container", "stages/dev.container", {})
"""Not the image of a stage, whose name can have no dot."""
INHERITED = ("RUNNER_IMAGE", "RUNNER_SOCKET", "PYTHON_IMAGE", "CLONE")


def check(root: Path, given: str, socket: str) -> None:
    """Raise UserError if the container would lack the repository, or be given another socket than the engine's."""
    if (root / ".git").is_file():
        raise UserError(
            f"{root} is a worktree, whose repository is elsewhere and would not be in the container; expected a clone: "
            "open the clone that it belongs to, or make one by 'git clone'"
        )
    if given != socket:
        raise UserError(
            f"the container would be given the socket {given}, and the engine is at {socket}; expected the same: set "
            f"DOCKER_SOCKET={socket} where the editor is started"
        )


def main(arguments: list[str]) -> int:
    check(PROJECT.root, arguments[0], os.environ["RUNNER_SOCKET"])
    values = {name: os.environ[name] for name in INHERITED}
    values |= {"OWNER": str(os.getuid()), "OWNERS_GROUP": str(os.getgid())}
    values["SOCKETS_GROUP"] = str(Path("/var/run/docker.sock").stat().st_gid)
    command = ["docker", "buildx", "build", "--builder", "default", "--quiet", "--pull=false", "--network", "none"]
    command += ["--tag", IMAGE.tag, "--tag", build.claim(IMAGE)]
    for name, value in values.items():
        command += ["--build-arg", f"{name}={value}"]
    return subprocess.run([*command, str(PROJECT.root / ".devcontainer")]).returncode
