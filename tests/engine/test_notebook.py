"""A notebook server: who gets in, what its cells can import, read and write, and how it ends."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import NOTHING, Clone, last_line, owner_of, stages_line, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.deep]

CELL = r"""
import csv, json, os, sys
import pydantic, stagekit, train
def outcome(path):
    try:
        with open(path, "a"):
            return "written"
    except OSError as error:
        return error.strerror
paths = ("here.txt", "../data/processed/train.csv", "../data/x", "../stages/x", "../x", "/app/train.py", "/opt/x")
print("FOUND", json.dumps({
    "python": sys.executable,
    "modules": {module.__name__: module.__file__ for module in (pydantic, stagekit, train)},
    "rows": len(list(csv.DictReader(open("../data/processed/train.csv")))),
    "written": {path: outcome(path) for path in paths},
    "seen": sorted(os.listdir("..")),
    "secrets": sorted(name for name in os.environ if "sekrit" in os.environ[name]),
}))
"""
SECRETS = {"AWS_SECRET_ACCESS_KEY": "sekrit1", "AWS_ACCESS_KEY_ID": "sekrit2"}
ASK = """
import json, sys, urllib.error, urllib.request
url, method, body, headers = json.loads(sys.argv[1])
request = urllib.request.Request(url, method=method, data=body and json.dumps(body).encode(), headers=headers)
try:
    with urllib.request.urlopen(request) as answer:
        print(json.dumps([answer.status, json.loads(answer.read())]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, None]))
"""


@dataclass(frozen=True)
class Notebook:
    """A server that `make notebook` has started, as one on the host sees it."""

    clone: Clone
    process: subprocess.Popen[str]
    printed: str
    address: str
    token: str

    def ask(
        self, path: str, *, method: str = "GET", body: Any = None, token: str | None = None, host: str = ""
    ) -> tuple[int, Any]:
        """Return status and JSON of an answer; the token is the right one, unless another or "" is given."""
        token = self.token if token is None else token
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"token {token}"} if token else {})
        headers |= {"Host": host} if host else {}
        asked = json.dumps([f"{self.address}/api/{path}", method, body, headers])
        python = [os.environ["RUNNER_IMAGE"], "python", "-c", ASK, asked]
        command = ["docker", "run", "--rm", "--network", "host", "--label", self.clone.label, *python]
        status, answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return status, answer

    def run(self, cell: str) -> dict[str, Any]:
        """Save a notebook of one cell by the server, run it there, and return what it has found."""
        content = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        content["metadata"] = {"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}}
        one = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": cell}
        body = {"type": "notebook", "format": "json", "content": {**content, "cells": [one]}}
        status, _ = self.ask("contents/notebooks/probe.ipynb", method="PUT", body=body)
        assert status in (200, 201)
        convert = ["/opt/jupyter/venv/bin/python", "-I", "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout"]
        done = subprocess.run(
            ["docker", "exec", "--workdir", "/work/notebooks", *servers(self.clone), *convert, "probe.ipynb"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs = json.loads(done.stdout)["cells"][0]["outputs"]
        text = "".join(line for each in outputs for line in each.get("text", []))
        return json.loads(re.search(r"FOUND (.*)", text)[1])


def servers(clone: Clone) -> list[str]:
    """Return the names of the clone's containers that serve notebooks, also of those that have ended."""
    listing = ("container", "ls", "--all", "--filter", "label=pipeline.notebook", "--format", "{{.Names}}")
    return clone.docker(*listing)


@contextmanager
def started(clone: Clone, *target: str, **variables: str) -> Iterator[Notebook]:
    """Call `make notebook` in the foreground, as a shell does: in a process group of its own."""
    environ = {key: value for key, value in os.environ.items() if key != "PWD"} | variables
    process = subprocess.Popen(
        ["make", *(target or ["notebook"])], cwd=clone.path, env=environ, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    printed = ""
    try:
        while "Ctrl-C stops it" not in printed:
            line = process.stdout.readline()
            assert line, f"it ended before it served:\n{printed}"
            printed += line
        address, token = re.search(r"(http://127\.0\.0\.1:\d+)/lab\?token=(\S+)", printed).groups()
        yield Notebook(clone, process, printed, address, token)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    """Return a clone with outputs of a run."""
    clone = clone_at("notebook")
    clone.make("run")
    clone.git("add", "dvc.lock")
    return clone


@pytest.fixture(scope="module")
def notebook(clone: Clone) -> Iterator[Notebook]:
    """Return the clone's server, called with secrets in the shell."""
    with started(clone, **SECRETS) as found:
        yield found


def test_its_token_opens_it(notebook: Notebook) -> None:
    """The link's token is asked for; a page of another site that leads here is refused; there is no second server."""
    assert notebook.ask("status", token="")[0] == 403
    assert notebook.ask("status", token="x" * len(notebook.token))[0] == 403
    assert notebook.ask("status")[0] == 200
    assert notebook.ask("status", host="evil.example")[0] == 403
    done = notebook.clone.make("notebook", check=False)
    assert done.returncode == 2
    assert last_line(done).startswith(
        f"error: a notebook server of this clone runs already, at {notebook.address}/lab?"
    )
    assert len(servers(notebook.clone)) == 1


def test_a_cell_has_what_the_stage_has_and_writes_to_notebooks_alone(notebook: Notebook) -> None:
    """It imports the stage's packages and code, reads the data, writes below notebooks/ and nowhere else, and sees
    neither git's files, .env and .local nor a secret of the shell."""
    clone = notebook.clone
    found = notebook.run(CELL)
    assert found["python"] == "/opt/venv/bin/python3"
    assert found["modules"]["train"] == "/app/train.py" and found["modules"]["stagekit"].startswith("/opt/kit/")
    assert found["modules"]["pydantic"].startswith("/opt/venv/")
    assert found["rows"] == len((clone.path / "data/processed/train.csv").read_text().splitlines()) - 1
    assert [path for path, outcome in found["written"].items() if outcome == "written"] == ["here.txt"]
    assert {"data", "models", "metrics", "notebooks", "stages"} <= {*found["seen"]}
    assert [name for name in found["seen"] if name.startswith(".") or not (clone.path / name).is_dir()] == []
    assert found["secrets"] == []
    assert owner_of(clone.path / "notebooks" / "here.txt") == owner_of(clone.path)
    assert notebook.ask("contents/.env")[0] == notebook.ask("contents/params.yaml")[0] == 404


def test_an_edit_of_the_stage_is_seen(notebook: Notebook) -> None:
    """The stage's folder is there as it is on the host now."""
    notebook.clone.edit("stages/train/train.py", "STEPS = 10", "STEPS = 11")
    try:
        assert notebook.run("import train\nprint('FOUND', train.STEPS)") == 11
    finally:
        notebook.clone.restore()


def test_what_it_writes_is_in_no_run(notebook: Notebook) -> None:
    """Files that DVC or a run would read elsewhere are, below notebooks/, of no effect."""
    evil = "stages:\n  evil:\n    cmd: touch evil\n    outs: [evil]\n"
    (notebook.clone.path / "notebooks" / "dvc.yaml").write_text(evil)
    assert stages_line(notebook.clone.make("run")) == NOTHING
    assert "evil" not in notebook.clone.make("status").stdout
    assert not (notebook.clone.path / "notebooks" / "evil").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_with_its_command(clone: Clone, notebook: Notebook, number: signal.Signals) -> None:
    """Ctrl-C, and the end of the terminal, stop the server and leave no container."""
    stop(clone, notebook)
    with started(clone) as own:
        os.killpg(own.process.pid, number)
        rest, _ = own.process.communicate(timeout=60)
    said = re.search(r"stopped by (\w+); what was saved is in notebooks/", rest)[1]
    assert said in (number.name, "SIGTERM")  # as the end of make counts, which dies of the same signal
    assert servers(clone) == []


def test_it_stops_when_make_is_killed(clone: Clone, notebook: Notebook) -> None:
    """Where make is killed without a word, the server ends all the same."""
    stop(clone, notebook)
    with started(clone) as own:
        own.process.kill()
        own.process.wait()
        wait_until(lambda: not servers(clone), "the server of a make that was killed ends")


def test_down_stops_it(clone: Clone, notebook: Notebook) -> None:
    """`make down` in another terminal ends it in order, and gives the network back."""
    stop(clone, notebook)
    with started(clone, "notebook-preprocess") as own:
        assert "with the packages of preprocess" in own.printed
        clone.make("down")
        rest, _ = own.process.communicate(timeout=60)
    assert own.process.returncode == 0 and "the notebook server has ended" in rest
    assert servers(clone) == clone.docker("network", "ls", "--quiet") == []


def test_a_memory_or_port_that_cannot_be_is_told(clone: Clone, notebook: Notebook) -> None:
    """One sentence says which settings are meant."""
    stop(clone, notebook)
    for variable in ({"NOTEBOOK_MEMORY": "much"}, {"NOTEBOOK_PORT": "high"}, {"NOTEBOOK_MEMORY": "1b"}):
        done = clone.make("notebook", check=False, **variable)
        assert done.returncode == 2
        assert last_line(done).startswith("error: the notebook server could not be started: "), done.stdout
        assert "--help" not in done.stdout
        assert last_line(done).endswith("set NOTEBOOK_PORT and NOTEBOOK_MEMORY in .env")
        assert servers(clone) == []


def test_too_little_memory_is_told(clone: Clone, notebook: Notebook) -> None:
    """A server that does not fit into its memory says so."""
    stop(clone, notebook)
    done = clone.make("notebook", check=False, NOTEBOOK_MEMORY="20m")
    assert done.returncode == 2
    assert last_line(done) == (
        "error: the notebook server did not come up: it needs more than 20m of memory; expected it to fit: raise "
        "NOTEBOOK_MEMORY in .env"
    )
    assert servers(clone) == []


def test_a_server_that_is_killed_is_told(clone: Clone, notebook: Notebook) -> None:
    """Its command ends with an error, and says what is next."""
    stop(clone, notebook)
    with started(clone) as own:
        subprocess.run(["docker", "kill", *servers(clone)], check=True, capture_output=True)
        rest, _ = own.process.communicate(timeout=60)
    assert own.process.returncode == 2
    assert "error: the notebook server ended: " in rest and "; expected it to serve: call again" in rest
    assert servers(clone) == []


def stop(clone: Clone, notebook: Notebook) -> None:
    """Stop the server that the first tests share."""
    if notebook.process.poll() is None:
        os.killpg(notebook.process.pid, signal.SIGINT)
        notebook.process.wait(60)
    end = time.monotonic() + 10
    while servers(clone) and time.monotonic() < end:
        time.sleep(0.2)
    assert servers(clone) == []
