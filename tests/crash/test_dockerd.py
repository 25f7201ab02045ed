"""The engine itself, killed at every named point of a run: a second one, which tests/crash/with_engine.sh starts."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from scripts.pipeline import images
from scripts.project import ROOT
from tests.conftest import Clone, wait_until
from tests.killing import POINTS, VICTIMS, Begun, Result, kill_at, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker

ENGINE = ROOT.parent.parent / "engine"
SOCKET = ENGINE / "docker.sock"


def answers() -> bool:
    return not subprocess.run(["docker", "version"], capture_output=True).returncode


def kill_dockerd(run: Begun) -> bool:
    (ENGINE / "kill").touch()
    wait_until(lambda: not (ENGINE / "kill").exists(), "the engine is killed")
    wait_until(answers, "it answers again")
    return True


@pytest.fixture(scope="module", autouse=True)
def on_the_second_engine(clone_at: Callable[[str], Clone]) -> Iterator[None]:
    """All of this module works on the second engine, to which the images are copied first."""
    if not SOCKET.exists():
        pytest.skip("there is no second engine; expected root and dockerd on the host: 'make test-crash' starts it")
    clone = clone_at("images")
    clone.make("build")
    wanted = [image.tag for image in images.load(clone.path / "stages").values()]
    wanted += [os.environ["RUNNER_IMAGE"], os.environ["PYTHON_IMAGE"]]
    with pytest.MonkeyPatch.context() as patch:
        with subprocess.Popen(["docker", "save", *wanted], stdout=subprocess.PIPE) as saved:
            patch.setenv("DOCKER_HOST", f"unix://{SOCKET}")
            patch.setenv("RUNNER_SOCKET", str(SOCKET))
            subprocess.run(["docker", "load", "--quiet"], stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL)
        patch.setitem(VICTIMS, "dockerd", kill_dockerd)
        yield


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_changes_nothing(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    point: str,
    record_property,
) -> None:
    """After the kill of the engine, the next run gives the same outputs, dvc.lock and registry, and leaves nothing."""
    clone, expected = undisturbed
    kill_at(clone, "dockerd", point, expected, record_property)
