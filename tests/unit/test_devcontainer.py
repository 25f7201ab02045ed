"""What editors read to open the clone in the runner: .devcontainer/devcontainer.json."""

import importlib
import json
import re

import pytest

from scripts.project import ROOT, UserError
from scripts.verbs import devcontainer

FOLDER = ROOT / ".devcontainer"
HERE = "${localWorkspaceFolder}"


@pytest.fixture(scope="module")
def settings():
    """Return the settings, which are JSON with comments on lines of their own."""
    text = (FOLDER / "devcontainer.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def test_the_clone_is_at_its_own_path(settings):
    """Stages are containers beside the editor's: what it calls a path must be one of the host."""
    assert settings["workspaceMount"] == f"source={HERE},target={HERE},type=bind"
    assert settings["workspaceFolder"] == HERE


def test_the_image_is_the_one_that_is_made_before(settings):
    """The command that an editor calls on the host makes the image that it then starts."""
    shell, script, verb, _ = settings["initializeCommand"]
    assert (shell, (ROOT / script).is_file()) == ("sh", True)
    assert importlib.import_module(f"scripts.verbs.{verb}") is devcontainer
    assert settings["image"] == devcontainer.IMAGE.tag
    assert (FOLDER / "Dockerfile").read_text().count("\nFROM ") == 1


def test_the_socket_that_is_checked_is_the_one_that_is_mounted(settings):
    """What is checked on the host is what the container gets, at the place where the runner looks for it."""
    socket = settings["initializeCommand"][-1]
    assert settings["mounts"] == [f"source={socket},target=/var/run/docker.sock,type=bind"]


def test_the_user_is_the_images(settings):
    """The image is made with the owner's numbers, so no editor has to change them in an image of its own."""
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert f"USER {settings['remoteUser']}" in lines and settings["updateRemoteUserUID"] is False


def test_extensions_and_programs(settings):
    """Extensions have ids of a publisher and a name, DVC's and Python's among them; programs are the runner's."""
    code = settings["customizations"]["vscode"]
    assert all(re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", name) for name in code["extensions"])
    assert {"iterative.dvc", "ms-python.python"} <= {*code["extensions"]}
    assert code["settings"]["python.defaultInterpreterPath"] == "/opt/venv/bin/python"
    programs = re.findall(r"/opt/venv/bin/([\w-]+)", json.dumps(code))
    assert "/opt/venv" in (ROOT / "Dockerfile.runner").read_text()
    pinned = (ROOT / "scripts" / "requirements.txt").read_text()
    assert [name for name in programs if name != "python" and f"\n{name}==" not in pinned] == []
    assert [path for path in code["settings"]["python.testing.pytestArgs"] if not (ROOT / path).is_dir()] == []


def test_what_cannot_work_in_it_is_told(tmp_path):
    """A worktree, and a socket that is not the engine's, are refused before a container starts."""
    devcontainer.check(tmp_path, "/run/a.sock", "/run/a.sock")
    with pytest.raises(
        UserError, match=r"expected the same: set DOCKER_SOCKET=/run/a.sock where the editor is started"
    ):
        devcontainer.check(tmp_path, "/var/run/docker.sock", "/run/a.sock")
    (tmp_path / ".git").write_text("gitdir: /elsewhere/.git/worktrees/x\n")
    with pytest.raises(UserError, match=r"is a worktree.*expected a clone"):
        devcontainer.check(tmp_path, "/run/a.sock", "/run/a.sock")
