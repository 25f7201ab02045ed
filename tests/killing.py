"""Kills at named points of a run, and what must be true after the run that follows."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from scripts.recovery.recover import is_idle
from tests.conftest import Clone, wait_until

POINTS = {
    "the lock is taken": "heal.py:heal",
    "images are looked for": "pipeline.py:_preparation",
    "MLflow starts for the first time": "pipeline.py:reproduce",
    "ingest is about to run": "ingest/run.py:cmd_run",
    "preprocess has written one of two": "preprocess@_local.py:Path.replace:2",
    "train fits": "train@train.py:fit",
    "train has written one of two": "train@_local.py:Path.replace:2",
    "the run is in MLflow, no version": "train@client.py:MlflowClient.create_model_version",
    "the version is there, undecided": "train@client.py:MlflowClient.transition_model_version_stage",
    "train's outputs go into the cache": "train/output.py:Output.commit",
    "the run-cache's entry is half written": "train/_yaml.py:_dump:1",
    "dvc.lock is half written": "train/_yaml.py:_dump:2",
    "DVC's rwlock is half written": "train/__init__.py:dump:3",
    "make adds files to the run": "publish/publish.py:_complete",
}
"""A moment of a run from nothing, and the function that begins then (see tests/stop)."""

UNDISTURBED = "kill-none0"
FIRST_START = "MLflow starts for the first time"
OUTPUTS = ("data", "models", "metrics")

DESCRIBE = r"""
import json, os, re, sys
import requests
def told(answer):  # a fault of the server is not the same as nothing being there
    if answer.status_code == 404 and answer.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return {}
    answer.raise_for_status()
    return answer.json()
def get(what, **query):
    return told(requests.get(f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{what}", params=query))
def files(run, path=""):
    for file in get("artifacts/list", run_id=run, path=path).get("files", []):
        yield from files(run, file["path"]) if file["is_dir"] else [[file["path"], size(file)]]
def size(file):  # this one names the pip of the image that published: train's or the runner's
    return 0 if file["path"] == "model/python_env.yaml" else file["file_size"]
def pairs(listed):
    return sorted([item["key"], timeless(item["value"])] for item in listed)
def timeless(value):  # a record but for its time
    return re.sub(r'"at": "[^"]*"', '"at": ""', value) if isinstance(value, str) else value
experiment = get("experiments/get-by-name", experiment_name=NAME).get("experiment")
runs = told(requests.post(f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/search",
    json={"experiment_ids": [experiment["experiment_id"]]})).get("runs", []) if experiment else []
model = get("registered-models/get", name=NAME).get("registered_model", {})
versions = get("model-versions/search", filter=f"name='{NAME}'").get("model_versions", [])
print("JSON", json.dumps({
    "runs": [[run["info"]["status"], pairs(run["data"]["tags"]), pairs(run["data"]["params"]),
              pairs(run["data"]["metrics"]), len(run["inputs"]["dataset_inputs"]), sorted(files(run["info"]["run_id"]))]
             for run in runs],
    "aliases": sorted([alias["alias"], alias["version"]] for alias in model.get("aliases", [])),
    "versions": [[v["version"], v["current_stage"], v["description"], pairs(v["tags"])] for v in versions],
}))
"""


@dataclass(frozen=True)
class Result:
    """What a run leaves that lasts: the stages' files, dvc.lock and what the registry knows, but ids and times."""

    files: dict[str, bytes]
    lock: str
    registry: dict[str, Any]


class Begun:
    """A `make run` that stands at a point, or goes on."""

    def __init__(self, clone: Clone, stop_at: str = "", **variables: str) -> None:
        self.clone = clone
        self.folder = clone.path / ".local" / "stopped"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.log = clone.path.parent / f"{clone.path.name}.log"
        environ = {key: value for key, value in os.environ.items() if key != "PWD"}
        environ |= {"STOP_AT": stop_at, **variables}
        with self.log.open("w") as output:
            self.make = psutil.Popen(
                ["make", "run"], cwd=clone.path, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def stands(self) -> bool:
        assert self.make.poll() is None, f"the run ended without reaching the point:\n{self.said()}"
        return self.folder.exists() and any(self.folder.iterdir())

    def said(self) -> str:
        return self.log.read_text()

    def let_go(self) -> None:
        """Lets what stands go on, if it is still there."""
        for marker in self.folder.iterdir():
            marker.unlink()

    def containers(self, *label: str) -> list[str]:
        filters = [word for each in label for word in ("--filter", f"label={each}")]
        return self.clone.docker("container", "ls", "--quiet", *filters)

    def runner(self) -> list[str]:
        return self.containers("pipeline.role=runner")


# --- what can be killed: each tells whether it was there


def _make(run: Begun) -> bool:
    run.make.kill()
    run.make.wait()  # a process that nobody waits for counts as there
    return True


def _client(run: Begun) -> bool:
    clients = [child for child in run.make.children(recursive=True) if child.name() == "docker"]
    for client in clients:
        client.kill()
    return bool(clients)


def _containers(*label: str) -> Callable[[Begun], bool]:
    def kill(run: Begun) -> bool:
        found = run.containers(*label)
        # It may be gone by itself at a random moment.
        return bool(found) and not subprocess.run(["docker", "kill", *found], capture_output=True).returncode

    return kill


def _inside(condition: str) -> Callable[[Begun], bool]:
    """Kills the processes in the runner for which a Python expression of `p`, one of psutil's, is true."""
    code = (
        "import psutil\n"
        f"found = [p for p in psutil.process_iter(['name', 'cmdline', 'ppid']) if {condition}]\n"
        "[p.kill() for p in found]\n"
        "raise SystemExit(not found)"
    )

    def kill(run: Begun) -> bool:
        for runner in run.runner():
            killed = subprocess.run(["docker", "exec", runner, "python", "-I", "-c", code], capture_output=True)
            return not killed.returncode
        return False

    return kill


VICTIMS: dict[str, Callable[[Begun], bool]] = {
    "make": _make,
    "docker client of make": _client,
    "runner": _containers("pipeline.role=runner"),
    "DVC worker": _inside("p.parent() and p.parent().name() == p.info['name'] == 'python'"),
    "publisher": _inside("p.info['name'] == 'publish'"),
    "docker client of a stage": _inside("p.info['name'] == 'docker' and 'run' in p.info['cmdline']"),
    "stage container": _containers("pipeline.stage"),
    "MLflow server": _containers("com.docker.compose.service=mlflow"),
}


# --- before and after


def name_models(clone: Clone, name: str) -> None:
    """Publishes under another name from now on: a registry of its own for each kill."""
    path = clone.path / "params.yaml"
    text = re.sub(r"(?m)^  experiment: \S+", f"  experiment: {name}", path.read_text())
    path.write_text(re.sub(r"(?m)^  model: \S+", f"  model: {name}", text))


def forget(clone: Clone) -> None:
    """Deletes all that the stages and DVC know: the next run is one from nothing."""
    for name in (*OUTPUTS, ".dvc/cache", ".dvc/tmp", ".local/dvc.lock"):
        path = clone.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (clone.path / "dvc.lock").unlink(missing_ok=True)


def forget_mlflow(clone: Clone) -> None:
    clone.make("down")
    shutil.rmtree(clone.path / ".local" / "mlflow", ignore_errors=True)


def result(clone: Clone, name: str) -> Result:
    """What there is now, with `name` for the model's and the experiment's."""
    files = [path for folder in OUTPUTS for path in (clone.path / folder).rglob("*") if path.is_file()]
    printed = clone.python(f"NAME = {name!r}\n{DESCRIBE}")
    return Result(
        {str(path.relative_to(clone.path)): path.read_bytes() for path in sorted(files)},
        (clone.path / "dvc.lock").read_text(),
        json.loads(re.search(r"JSON (.*)", printed)[1].replace(name, "NAME")),
    )


def left_behind(clone: Clone) -> list[str]:
    """What a run must not leave: containers but MLflow's, networks but the clone's, temporary files, DVC's locks."""
    service = '{{.Label "com.docker.compose.service"}} {{.Image}} {{.Status}}'
    left = [line for line in clone.docker("container", "ls", "--all", "--format", service) if "mlflow " not in line]
    left += clone.docker("network", "ls", "--format", "{{.Name}}")[1:]
    folders = [clone.path / name for name in (*OUTPUTS, ".dvc")]
    files = [path for folder in folders for end in ("*.part", "*.tmp") for path in folder.rglob(end)]
    files += [path for folder in (clone.path, clone.path / ".local") for path in folder.glob(".*.part")]
    files += (clone.path / ".local").glob("early")
    rwlock = clone.path / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists() and not is_idle(rwlock.read_text()):
        files.append(rwlock)
    return left + [str(path.relative_to(clone.path)) for path in files]


@contextmanager
def from_nothing(clone: Clone, point: str, name: str) -> Iterator[Begun]:
    """A `make run` from nothing that stands at `point`; whatever is left of it ends with the block."""
    name_models(clone, name)
    forget(clone)
    if point == FIRST_START:
        forget_mlflow(clone)
    run = Begun(clone, POINTS[point])
    try:
        wait_until(run.stands, point)
        yield run
    finally:
        run.let_go()
        run.make.wait()


def kill_at(clone: Clone, victim: str, point: str, expected: Result, record: Callable[[str, Any], None]) -> None:
    """Kills `victim` at `point` of a run from nothing; checks that the next run ends as an undisturbed one."""
    record("victim", victim)
    record("point", point)
    name = f"kill-{list(VICTIMS).index(victim):02}-{list(POINTS).index(point):02}"  # as long as UNDISTURBED
    with from_nothing(clone, point, name) as run:
        there = VICTIMS[victim](run)
        if not there:
            VICTIMS["runner"](run)  # its end is of no interest
    if not there:
        pytest.skip("no such process then")
    clone.make("run")
    assert left_behind(clone) == []
    found = result(clone, name)
    assert found.registry == expected.registry
    assert found.lock == expected.lock
    assert found.files == expected.files


def run_undisturbed(clone: Clone, **variables: str) -> Result:
    """What a run from nothing leaves in `clone` that nobody disturbs."""
    name_models(clone, UNDISTURBED)
    clone.make("run", **variables)
    assert left_behind(clone) == []
    return result(clone, UNDISTURBED)


@pytest.fixture(scope="module")
def undisturbed(clone_at: Callable[[str], Clone], request: pytest.FixtureRequest) -> tuple[Clone, Result]:
    """A clone, and what a run that nobody disturbs leaves in it."""
    clone = clone_at(request.module.__name__.rpartition(".")[2])
    found = run_undisturbed(clone)
    assert found.registry["versions"] and len(found.files) == 9
    return clone, found
