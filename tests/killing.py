"""Kills at named points of a run, and what must be true after the run that follows."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
import yaml

from scripts.recovery.dvc_files import is_idle
from tests.conftest import Clone, Make, below, wait_until

FIRST_START = "MLflow starts for the first time"
MEASURED = "a champion is measured again"

POINTS = {
    "the lock is taken": "recover.py:clear",
    "images are looked for": "execution.py:_Preparation.__init__",
    FIRST_START: "execution.py:reproduce",
    "ingest is about to run": "ingest/run.py:cmd_run",
    "preprocess has written one of two": "preprocess@_local.py:Path.replace:2",
    "train fits": "train@train.py:fit",
    "train has written one of three": "train@_local.py:Path.replace:2",
    "train's outputs are taken over in part": "train/takeover.py:_move:2",
    "train's outputs go into the cache": "train/output.py:Output.commit",
    "the run-cache's entry is half written": "train/_yaml.py:_dump:1",
    "dvc.lock is about to be replaced": "train/project.py:atomic_write:1",
    "DVC's rwlock is half written": "train/__init__.py:dump:3",
    "evaluate scores": "evaluate@evaluate.py:scores",
    "the run is made, and empty": "publish/versions.py:log_live",
    "half of the model is uploaded": "publish/client.py:MlflowClient.log_artifact",
    "the version is there, undecided": "publish/reconcile.py:Judge.__call__",
    "the decision is half written": "publish/client.py:MlflowClient.set_model_version_tag:2",
    "the decision is half applied": "publish/client.py:MlflowClient.set_registered_model_alias",
    MEASURED: "score/evaluate@evaluate.py:scores",
    "files are added to the run": "publish/versions.py:_log_files",
    "the receipt is about to be written": "publish/client.py:MlflowClient.set_model_version_tag:5",
    "MLflow's database is half copied": "mlflow_database.py:_copy.<locals>.progress",
}
"""A moment of a run from nothing, and the function that begins then (see tests/stop)."""

UNDISTURBED, UNDISTURBED_AGAIN = "kill-none0", "kill-none1"
OUTPUTS = ("data", "models", "metrics")
WORK_FOLDERS = ("early", "work", "score", "publish")
"""Below .local: what a run works in."""

DESCRIBE = r"""
import json, os, re, sys
import requests
API = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow"
AUTH = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
def body(answer):  # a fault of the server is not the same as nothing being there
    if answer.status_code == 404 and answer.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return {}
    answer.raise_for_status()
    return answer.json()
def get(what, **query):
    return body(requests.get(f"{API}/{what}", params=query, auth=AUTH))
def files(run, path=""):
    for file in get("artifacts/list", run_id=run, path=path).get("files", []):
        yield from files(run, file["path"]) if file["is_dir"] else [[file["path"], file["file_size"]]]
def curve(run, metric):
    points = get("metrics/get-history", run_id=run, metric_key=metric)["metrics"]
    return sorted([point.get("step", 0), point["value"]] for point in points)
def pairs(listed):
    return sorted([item["key"], timeless(item["value"])] for item in listed if item["key"] not in LIVE)
def timeless(value):  # a record but for its time; a description but for its digest, which the model's name is part of
    if not isinstance(value, str):
        return value
    value = re.sub(r'"at": "[^"]*"', '"at": ""', value).replace(chr(92), "")
    return re.sub("by the pipeline [(][0-9a-f]{8}[)]", "by the pipeline", value)
def described(run):
    name, data = run["info"]["run_id"], run["data"]
    metrics = sorted([metric["key"], curve(name, metric["key"])] for metric in data.get("metrics", []))
    return [run["info"]["status"], pairs(data["tags"]), pairs(data.get("params", [])), metrics,
            len(run["inputs"].get("dataset_inputs", [])), sorted(files(name))]
LIVE = ("live_stage", "pipeline_clone")  # whether a run's metrics came live, or when its model was published
experiment = get("experiments/get-by-name", experiment_name=NAME).get("experiment")
runs = body(requests.post(f"{API}/runs/search", auth=AUTH,
    json={"experiment_ids": [experiment["experiment_id"]]})).get("runs", []) if experiment else []
has_model = [any(tag["key"] == "model_sha256" for tag in run["data"]["tags"]) for run in runs]
model = get("registered-models/get", name=NAME).get("registered_model", {})
versions = get("model-versions/search", filter=f"name='{NAME}'").get("model_versions", [])
print("JSON", json.dumps({
    "without a model": [run["info"]["status"] for run, has in zip(runs, has_model) if not has],
    "runs": sorted(described(run) for run, has in zip(runs, has_model) if has),
    "aliases": sorted([alias["alias"], alias["version"]] for alias in model.get("aliases", [])),
    "versions": [[v["version"], v["current_stage"], v["description"], pairs(v["tags"])] for v in versions],
}))
"""


@dataclass(frozen=True)
class Result:
    """What a run leaves that lasts: the stages' files, dvc.lock and what the registry knows, but ids and times.

    `without_model` are the states of the runs that hold live metrics and no model: killed runs left them.
    """

    files: dict[str, bytes]
    lock: str
    registry: dict[str, Any]
    without_model: Sequence[str] = field(compare=False, default=())


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
        """Return its runner, if that is there; of several the first: another run of the clone waits for this one."""
        return self.containers("pipeline.role=runner")[-1:]


# --- what can be killed: each tells whether it was there


def _make(run: Begun) -> bool:
    run.make.kill()
    run.make.wait()  # a process that nobody waits for counts as there
    return True


def _client(run: Begun) -> bool:
    clients = below(run.make, "docker")
    for client in clients:
        with suppress(psutil.NoSuchProcess):
            client.kill()
    return bool(clients)


def _containers(*label: str) -> Callable[[Begun], bool]:
    def kill(run: Begun) -> bool:
        found = run.containers(*label)
        # It may be gone by itself at a random moment.
        return bool(found) and not subprocess.run(["docker", "kill", *found], capture_output=True).returncode

    return kill


def _runner(run: Begun) -> bool:
    found = run.runner()
    return bool(found) and not subprocess.run(["docker", "kill", *found], capture_output=True).returncode


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


IS_PUBLISHER = "'scripts.registry.publisher' in p.info['cmdline']"
VICTIMS: dict[str, Callable[[Begun], bool]] = {
    "make": _make,
    "docker client of make": _client,
    "runner": _runner,
    "DVC worker": _inside(f"p.parent() and p.parent().name() == p.info['name'] == 'python' and not {IS_PUBLISHER}"),
    "publisher": _inside(IS_PUBLISHER),
    "docker client of a stage": _inside("p.info['name'] == 'docker' and 'run' in p.info['cmdline']"),
    "stage container": _containers("pipeline.stage"),
    "MLflow server": _containers("com.docker.compose.service=mlflow"),
}


# --- signals


def _ctrl_c(run: Begun) -> None:
    os.killpg(run.make.pid, signal.SIGINT)


def _terminate_make(run: Begun) -> None:
    run.make.terminate()


def _stop_runner(run: Begun) -> None:
    subprocess.run(["docker", "stop", *run.runner()], check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True)
class Signal:
    """A way to end a run: how it is sent, its name in what the run says, and how make may end."""

    send: Callable[[Begun], None]
    name: str
    codes: set[int]

    @property
    def number(self) -> int:
        return getattr(signal, self.name)


SIGNALS = {
    "Ctrl-C": Signal(_ctrl_c, "SIGINT", {130, -signal.SIGINT, 2}),
    "make is terminated": Signal(_terminate_make, "SIGTERM", {-signal.SIGTERM}),
    "the runner is stopped": Signal(_stop_runner, "SIGTERM", {2}),  # make's own, whatever the runner's is
}


def ends_in_order(run: Begun, how: str) -> None:
    """Sends a signal; checks that the run ends, says so in one line, and leaves nothing but what DVC had half written.

    `docker stop` gives it ten seconds; then there would be no line.
    """
    sent = SIGNALS[how]
    sent.send(run)
    code = run.make.wait()
    wait_until(lambda: not run.runner(), "the runner is gone")
    assert [left for left in left_behind(run.clone) if not left.startswith(".dvc/")] == []
    assert code in sent.codes
    assert f"Error {128 + sent.number}" in run.said() or code != 2
    assert "Traceback" not in run.said()
    assert [line for line in run.said().splitlines() if line.startswith("interrupted")] == [
        f"interrupted by {sent.name}; nothing is lost: 'make run' continues"
    ]


# --- before and after


def name_models(clone: Clone, name: str) -> None:
    """Publishes under another name from now on: a registry of its own for each kill."""
    clone.git("checkout", "--quiet", "params.yaml")
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
    registry = json.loads(re.search(r"JSON (.*)", printed)[1].replace(name, "NAME"))
    return Result(
        {str(path.relative_to(clone.path)): path.read_bytes() for path in sorted(files)},
        (clone.path / "dvc.lock").read_text(),
        registry,
        registry.pop("without a model"),
    )


def left_behind(clone: Clone) -> list[str]:
    """What a run must not leave: containers but MLflow's, networks but the clone's, its own files, DVC's locks."""
    service = '{{.Label "com.docker.compose.service"}} {{.Image}} {{.Status}}'
    left = [line for line in clone.docker("container", "ls", "--all", "--format", service) if "mlflow " not in line]
    left += clone.docker("network", "ls", "--format", "{{.Name}}")[1:]
    folders = [clone.path / name for name in (*OUTPUTS, ".dvc")]
    files = [path for folder in folders for end in ("*.part", "*.tmp") for path in folder.rglob(end)]
    local = clone.path / ".local"
    files += [path for folder in (clone.path, local, local / "mlflow") for path in folder.glob(".*.part")]
    files += [local / name for name in WORK_FOLDERS if (local / name).exists()]
    rwlock = clone.path / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists() and not is_idle(rwlock.read_text()):
        files.append(rwlock)
    return left + [str(path.relative_to(clone.path)) for path in files]


def change_model_and_scorer(clone: Clone) -> None:
    """Edits params.yaml so that another model is trained, and the one before is measured again to be compared."""
    clone.edit("params.yaml", "seed: 58", "seed: 59")
    clone.edit("params.yaml", "importance_repeats: 2", "importance_repeats: 3")


@contextmanager
def from_nothing(clone: Clone, point: str, name: str, **variables: str) -> Iterator[Begun]:
    """A `make run` from nothing that stands at `point`; whatever is left of it ends with the block."""
    name_models(clone, name)
    forget(clone)
    if point == FIRST_START:
        forget_mlflow(clone)
    if point == MEASURED:
        clone.make("run")
        change_model_and_scorer(clone)
    run = Begun(clone, POINTS[point], **variables)
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
    if point == MEASURED:
        expected = run_undisturbed_again(clone)
    with from_nothing(clone, point, name) as run:
        there = VICTIMS[victim](run)
        if not there:
            VICTIMS["runner"](run)  # its end is of no interest
    if not there:
        pytest.skip("no such process then")
    clone.make("run")
    assert left_behind(clone) == []
    same(result(clone, name), expected)


def signal_at(clone: Clone, how: str, point: str, expected: Result, record: Callable[[str, Any], None]) -> Make:
    """Ends a run from nothing in order at `point`; checks that the next run, which is returned, ends as undisturbed."""
    record("victim", how)
    record("point", point)
    name = f"sign-{list(SIGNALS).index(how):02}-{list(POINTS).index(point):02}"
    if point == MEASURED:
        expected = run_undisturbed_again(clone)
    with from_nothing(clone, point, name) as run:
        ends_in_order(run, how)
    again = clone.make("run")
    assert left_behind(clone) == []
    same(result(clone, name), expected)
    return again


def same(found: Result, expected: Result) -> None:
    """Checks that two results are the same, and that no run for live metrics is left as if it went on."""
    assert found.registry == expected.registry
    assert found.lock == expected.lock
    assert found.files == expected.files
    assert set(found.without_model) <= {"KILLED", "FAILED"}


def run_undisturbed(clone: Clone, **variables: str) -> Result:
    """What a run from nothing leaves in `clone` that nobody disturbs."""
    name_models(clone, UNDISTURBED)
    clone.make("run", **variables)
    return checked(clone, UNDISTURBED)


@functools.cache
def run_undisturbed_again(clone: Clone) -> Result:
    """What a second run leaves that trains another model and measures the first one again."""
    name_models(clone, UNDISTURBED_AGAIN)
    forget(clone)
    clone.make("run")
    change_model_and_scorer(clone)
    clone.make("run")
    found = checked(clone, UNDISTURBED_AGAIN)
    assert len(found.registry["versions"]) == 2
    return found


def checked(clone: Clone, name: str) -> Result:
    """The result of an undisturbed run, complete and with nothing beside it."""
    assert left_behind(clone) == []
    found = result(clone, name)
    outs = {out["path"] for stage in yaml.safe_load(found.lock)["stages"].values() for out in stage["outs"]}
    assert set(found.files) == outs
    assert found.registry["versions"]
    assert found.without_model == []
    return found


@pytest.fixture(scope="module")
def undisturbed(clone_at: Callable[[str], Clone], request: pytest.FixtureRequest) -> tuple[Clone, Result]:
    """A clone, and what a run that nobody disturbs leaves in it."""
    clone = clone_at(request.module.__name__.rpartition(".")[2])
    return clone, run_undisturbed(clone)
