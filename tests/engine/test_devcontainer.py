"""The clone in an editor's container, brought up by the command line of the people who define devcontainer.json."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.pipeline import build
from scripts.project import ROOT
from tests.conftest import ALL, Clone, Make, owner_of, stages_line

pytestmark = [pytest.mark.docker, pytest.mark.deep]

ANA = 4321
"""The clone's owner, of the group that may use Docker."""
HOST = f"""
echo "ana:x:{ANA}:{ANA}::/home/ana:/bin/sh" >> /etc/passwd
echo "ana:x:{ANA}:" >> /etc/group
echo "host:x:$(stat -c %g /var/run/docker.sock):ana" >> /etc/group
install -d -m 700 -o {ANA} -g {ANA} /home/ana
exec setpriv --reuid {ANA} --regid {ANA} --init-groups env HOME=/home/ana USER=ana sh -c
"""


@dataclass(frozen=True)
class Editor:
    """A clone on a host with an editor: `image` has the devcontainer's command line."""

    clone: Clone
    image: str

    def devcontainer(self, verb: str, *arguments: str, check: bool = True, **variables: str) -> Make:
        """`devcontainer VERB ARGUMENTS`, as ana calls it with umask 077 on a host with nothing of ours but images."""
        command = shlex.join(["devcontainer", verb, "--workspace-folder", str(self.clone.path), *arguments])
        socket = os.environ["RUNNER_SOCKET"]
        host = {"RUNNER_SOCKET": socket, "DOCKER_SOCKET": socket, "PYTHON_IMAGE": os.environ["PYTHON_IMAGE"]}
        done = subprocess.run(
            [
                *("docker", "run", "--rm", "--init", "--pull", "never", "--network", "none"),
                *("--label", self.clone.label, "--mount", f"type=bind,src={socket},dst=/var/run/docker.sock"),
                *("--mount", f"type=bind,src={self.clone.path},dst={self.clone.path}"),
                *(word for pair in (host | variables).items() for word in ("--env", "=".join(pair))),
                *(self.image, "sh", "-c", f"{HOST.strip()} {shlex.quote(f'umask 077; exec {command}')}"),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"devcontainer {verb} ended {done.returncode}:\n{done.stdout}"
        return done

    def sh(self, command: str) -> str:
        """Return what a command prints in the terminal of the editor."""
        return self.devcontainer("exec", "sh", "-c", command).stdout

    def containers(self) -> list[str]:
        """Return the editor's containers, by the label that all editors look for."""
        label = f"label=devcontainer.local_folder={self.clone.path}"
        listing = ["docker", "container", "ls", "--all", "--quiet", "--filter", label]
        return subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()


def give(path: Path, uid: int, gid: int) -> None:
    """Give a folder to another user, for which one must be root."""
    command = ["docker", "run", "--rm", "--pull", "never", "--mount", f"type=bind,src={path},dst={path}"]
    command += ["--label", Clone(ROOT).label, os.environ["RUNNER_IMAGE"], "chown", "-R", f"{uid}:{gid}", str(path)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def editor(clone_at: Callable[[str], Clone]) -> Iterator[Editor]:
    """Return a clone of ana's that no editor has opened yet; take it back after the tests."""
    clone = clone_at("devcontainer")
    image = f"stages/clone-{clone.label.partition('=')[2]}:test-devcontainer"
    command = ["docker", "buildx", "build", "--quiet", "--pull=false", "--tag", image]
    command += ["--build-arg", f"RUNNER_IMAGE={os.environ['RUNNER_IMAGE']}"]
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        command += ["--build-arg", variable]
    folder = Path(__file__).parent.parent / "devcontainer"
    with build.package_index() as options:
        subprocess.run([*command, *options, str(folder)], check=True, capture_output=True)
    owner = owner_of(clone.path)
    give(clone.path, ANA, ANA)
    yield Editor(clone, image)
    give(clone.path, *owner)


@pytest.fixture(scope="module")
def opened(editor: Editor) -> Editor:
    """Return the clone, opened in a container by an editor."""
    editor.devcontainer("up")
    return editor


def test_another_socket_is_told(editor: Editor) -> None:
    """Where the container would be given a socket that is not the engine's, a sentence says so, and none starts."""
    before = editor.containers()
    done = editor.devcontainer("up", check=False, DOCKER_SOCKET="/run/other.sock")
    assert done.returncode
    assert "error: the container would be given the socket /run/other.sock, and the engine is at" in done.stdout
    assert editor.containers() == before


def test_the_editors_terminal(opened: Editor) -> None:
    """It is the clone's owner's, at the clone's own path, with the runner's Python first."""
    assert opened.sh("id -u; id -g; pwd; command -v python").split() == [
        *(str(ANA), str(ANA), str(opened.clone.path), "/opt/venv/bin/python")
    ]


def test_the_pipeline_runs_in_an_editors_container(opened: Editor) -> None:
    """DVC and make work there, with the images that the host has; all that they write belongs to the clone's owner."""
    done = opened.devcontainer("exec", "make", "run-ingest")
    assert stages_line(done) == "ran ingest"
    assert "building the runner image" not in done.stdout
    assert (opened.clone.path / "data" / "raw" / "iris.csv").stat().st_size
    status = opened.sh("dvc status")
    assert "preprocess:" in status and "ingest:" not in status
    assert stages_line(opened.devcontainer("exec", "make", "run")) == ALL.replace("ingest, ", "")
    assert opened.sh("dvc status") == "Data and pipelines are up to date.\n"
    assert "nothing would run" in opened.sh("make status")
    assert " passed" in opened.sh("make test T=tests/unit/verbs/test_lock.py")
    assert opened.sh(f"find {shlex.quote(str(opened.clone.path))} ! -uid {ANA} -o ! -gid {ANA}") == ""


def test_it_goes_with_the_clone(opened: Editor) -> None:
    """`make clean-all` on the host removes the editor's container and its image."""
    assert len(opened.containers()) == 1
    (image,) = opened.sh("docker image ls --quiet stages/dev.container").split()
    opened.clone.make("clean-all", YES="1")
    assert opened.containers() == []
    left = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True)
    assert left.returncode, "the image of the editor's container is still here"
