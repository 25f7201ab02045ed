"""The tasks of a run, called one by one on the real engine, as a scheduler calls them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.project import ROOT
from tests.conftest import NOTHING, OUTPUTS, STAGES, Clone, Make, below, new_clone, stages_line, wait_until

ROOM = ROOT / "scripts" / "airflow"
pytestmark = [pytest.mark.docker, pytest.mark.skipif(not ROOM.exists(), reason="the room is taken out")]
RUN = "manual__2026-11-27T12:00:00+00:00"
FOLDER = "manual__2026-11-27T12_00_00_00_00"
FIRST, SECOND, THIRD, LAST = STAGES


def command(stage: str, commit: str, *, run: str = RUN, number: int = 1, patch: str = "") -> list[str]:
    words = [run, stage, str(number), commit, *([patch] if patch else [])]
    return ["sh", "scripts/airflow/task.sh", *words]


def task(
    clone: Clone, stage: str, commit: str = "", *, run: str = RUN, number: int = 1, patch: str = "", **variables: str
) -> Make:
    """Call a task in a clone, of its own commit if no other is named; `variables` are the shell's."""
    words = command(stage, commit or head(clone), run=run, number=number, patch=patch)
    environ = os.environ | variables
    return subprocess.run(
        words, cwd=clone.path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def head(clone: Clone) -> str:
    return clone.git("rev-parse", "HEAD").strip()


def done(clone: Clone, *stages: str, **how: Any) -> str:
    """Call tasks that must end well; return what the last one printed."""
    for stage in stages:
        made = task(clone, stage, **how)
        assert made.returncode == 0, f"{stage}: {made.stdout}"
    return made.stdout


def read(clone: Clone, *names: str) -> dict[str, bytes]:
    return {name: (clone.path / name).read_bytes() for name in names}


def of_attempts(clone: Clone) -> list[str]:
    """Return the containers and the claims on images of clones that are not there, or that lie below this one."""
    names = subprocess.run(
        ["docker", "image", "ls", "--format", "{{.Repository}}"], capture_output=True, text=True, check=True
    ).stdout
    ids = [Clone(path).label.partition("=")[2] for path in attempts(clone)]
    containers = [
        line
        for each in ids
        for line in subprocess.run(
            ["docker", "container", "ls", "--all", "--quiet", "--filter", f"label=pipeline.clone={each}"],
            capture_output=True, text=True, check=True,
        ).stdout.split()
    ]  # fmt: skip
    return [*containers, *(name for name in names.split() if name.removeprefix("stages/clone-") in ids)]


def attempts(clone: Clone) -> list[Path]:
    """Return where the attempts of all stages may have been."""
    return [clone.path / ".local" / "airflow" / FOLDER / stage / "1" for stage in (*STAGES, "publish")]


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Iterator[Clone]:
    yield clone_at("tasks")


def test_the_tasks_of_a_run_make_what_a_run_makes(clone: Clone, started: tuple[Clone, Make]) -> None:
    """Each stage as a task, then the last one: dvc.lock and all outputs are those of `make run`, byte for byte, one
    version is in production, nothing runs twice, and nothing is left of any attempt."""
    before = read(clone, "dvc.yaml")
    for stage in STAGES:
        assert f"{stage}: ran, and pushed" in done(clone, stage)
    assert not (clone.path / "dvc.lock").exists() and not (clone.path / "data").exists()
    said = done(clone, "publish")
    assert "ran nothing" in said and "iris-classifier version 1, published now" in said
    kept = clone.path / ".local" / "airflow" / FOLDER
    assert [path.name for path in kept.iterdir()] == ["dvc.lock"]
    assert of_attempts(clone) == []
    networks = clone.docker("network", "ls", "--quiet")
    assert len(networks) == 1
    shutil.copy(kept / "dvc.lock", clone.path / "dvc.lock")
    clone.make("pull")
    by_a_run, _ = started
    assert read(clone, "dvc.lock", *OUTPUTS) == read(by_a_run, "dvc.lock", *OUTPUTS)
    assert read(clone, "dvc.yaml") == before
    assert [(each["version"], each["stage"]) for each in clone.registry()] == [("1", "Production")]


@pytest.mark.deep
def test_a_run_after_the_tasks_has_nothing_to_do(clone: Clone) -> None:
    """In a third clone `make pull run` runs no stage, with the lock of the run and, by the remote, without it; a task
    that is called again restores its result; and the lock is on the remote as well."""
    remote = clone.path / ".local" / "dvc-remote"
    assert (remote / "airflow" / FOLDER / "dvc.lock").read_bytes() == (clone.path / "dvc.lock").read_bytes()
    third = new_clone("third")
    assert "ran" not in stages_line(third.make("pull", "run", DVC_REMOTE_URL=str(remote))).split()
    shutil.copy(clone.path / "dvc.lock", third.path)
    assert stages_line(third.make("run", DVC_REMOTE_URL=str(remote))) == NOTHING
    assert f"{LAST}: restored, and pushed" in done(clone, LAST, number=2)


@pytest.mark.deep
def test_a_task_before_its_time_says_what_is_missing(clone_at: Callable[[str], Clone]) -> None:
    """A stage whose inputs are not on the remote ends with 66, and so does the last task; after a data file was lost
    there, too. Each names the stage that would have to run."""
    clone = clone_at("early")
    for stage in (SECOND, LAST, "publish"):
        early = task(clone, stage)
        assert early.returncode == 66 and f"would have to run: {FIRST};" in early.stdout, early.stdout
    done(clone, FIRST)
    shutil.rmtree(clone.path / ".local" / "dvc-remote" / "files")
    lost = task(clone, SECOND)
    assert lost.returncode == 66 and f"would have to run: {FIRST};" in lost.stdout
    assert task(clone, "nonsense").returncode == 1


@pytest.mark.deep
def test_a_stage_that_is_not_deterministic_is_named(clone_at: Callable[[str], Clone]) -> None:
    """A second result of the same inputs is not pushed: the stage, its output and both hashes are named, with 65; the
    first one stays, also for the tasks after it."""
    clone = clone_at("dice")
    program = clone.path / "stages" / FIRST / "Dockerfile"
    name = next(iter(clone.stages()[FIRST]["outs"][0]))
    program.write_text(
        f'ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nENTRYPOINT ["sh", "-c", "cat /proc/sys/kernel/random/uuid > {name}"]\n'
    )
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "dice")
    done(clone, FIRST)
    remote = clone.path / ".local" / "dvc-remote"
    entries = sorted((remote / "runs").rglob("*"))
    shutil.rmtree(remote / "files")
    again = task(clone, FIRST, run="again")
    assert again.returncode == 65, again.stdout
    assert f"stage {FIRST} is not deterministic" in again.stdout and f"differ in {name} (" in again.stdout
    assert sorted((remote / "runs").rglob("*")) == entries


@pytest.mark.deep
def test_two_runs_of_different_commits_at_once(clone_at: Callable[[str], Clone]) -> None:
    """Two runs at the same time, of different commits, one of them with what is not committed, each end with their own
    lock and version, as one after the other."""
    clone = clone_at("both")
    first = head(clone)
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 30")
    clone.git("commit", "--all", "--quiet", "--message", "fewer")
    second = head(clone)
    clone.edit("params.yaml", "n_estimators: 30", "n_estimators: 20")
    changes = clone.git("diff", "--binary").encode()
    clone.restore()
    digest = hashlib.sha256(changes).hexdigest()
    patches = clone.path / ".local" / "airflow" / "patches"
    patches.mkdir(parents=True)
    (patches / f"{digest}.patch").write_bytes(changes)
    said: dict[str, list[str]] = {}

    def run(name: str, commit: str, patch: str) -> None:
        said[name] = []
        for stage in (*STAGES, "publish"):
            made = task(clone, stage, commit, run=name, patch=patch)
            said[name].append(f"{stage} {made.returncode}: {made.stdout}" if made.returncode else stage)

    threads = [threading.Thread(target=run, args=each) for each in (("one", first, ""), ("two", second, digest))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert said == {"one": [*STAGES, "publish"], "two": [*STAGES, "publish"]}
    locks = [(clone.path / ".local" / "airflow" / name / "dvc.lock").read_text() for name in ("one", "two")]
    assert "n_estimators: 100" in locks[0] and "n_estimators: 20" in locks[1]
    assert len(clone.registry()) == 2
    assert len([each for each in clone.registry() if each["stage"] == "Production"]) == 1


@pytest.mark.deep
def test_a_stage_on_mlflows_network_reaches_the_clones_server(clone_at: Callable[[str], Clone]) -> None:
    """A stage whose block asks for MLflow's network finds there the server of the clone in which the task was called,
    which is started for it."""
    clone = clone_at("network")
    name = next(iter(clone.stages()[FIRST]["outs"][0]))
    code = (
        "from http.client import HTTPConnection; server = HTTPConnection('mlflow', 5000); server.request('GET', '/'); "
        f"open('{name}', 'w').write(str(server.getresponse().status))"
    )
    (clone.path / "stages" / FIRST / "Dockerfile").write_text(
        f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nENTRYPOINT {json.dumps(['python', '-c', code])}\n"
    )
    clone.edit("dvc.yaml.template", 'network="internet" if "://" in source else "none"', 'network="mlflow"')
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "asks MLflow")
    assert f"{FIRST}: ran, and pushed" in done(clone, FIRST)
    assert len(clone.docker("container", "ls", "--quiet")) == 1


# --- what goes wrong


class Begun:
    """The first task of a run, called by a process of its own, whose stage stands at a point."""

    def __init__(self, clone: Clone, run: str) -> None:
        words = command(FIRST, head(clone), run=run)
        call = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
        environ = os.environ | {"STOP_AT": f"{FIRST}@{FIRST}.py:table"}
        self.log = clone.path.parent / f"{run}.log"
        with self.log.open("w") as output:
            self.caller = psutil.Popen(
                [sys.executable, "-c", call, *words], cwd=clone.path, env=environ, stdout=output, stderr=output
            )
        self.attempt = Clone(clone.path / ".local" / "airflow" / run / FIRST / "1")
        stopped = self.attempt.path / ".local" / "stopped"
        wait_until(lambda: stopped.exists() and any(stopped.iterdir()), "the stage to begin", 300)

    def containers(self, *label: str) -> list[str]:
        filters = [word for each in label for word in ("--filter", f"label={each}")]
        return self.attempt.docker("container", "ls", "--all", "--quiet", *filters)


def kill_containers(*label: str) -> Callable[[Begun], None]:
    return lambda begun: subprocess.run(["docker", "kill", *begun.containers(*label)], check=True, capture_output=True)


KILLS: dict[str, tuple[Callable[[Begun], object], int | None]] = {
    "whoever called": (lambda begun: begun.caller.kill(), None),
    "the task": (lambda begun: begun.caller.children()[0].kill(), None),
    "the docker client": (lambda begun: below(begun.caller, "docker")[0].kill(), 75),
    "the runner": (kill_containers("pipeline.role=runner"), 75),
    "the stage": (kill_containers("pipeline.stage"), 75),
}
"""What is killed, and the code that the task ends with, if it is there to end."""


@pytest.mark.deep
@pytest.mark.parametrize("killed", KILLS)
def test_a_killed_attempt_is_gone_and_can_be_tried_again(clone_at: Callable[[str], Clone], killed: str) -> None:
    """Within 60 s no container of an attempt is there, whatever of it was killed; it ends with 75 if it can; and the
    next try ends well."""
    clone = clone_at(f"killed-{list(KILLS).index(killed)}")
    run = "killed"
    begun = Begun(clone, run)
    kill, code = KILLS[killed]
    kill(begun)
    wait_until(lambda: not begun.containers(), "the end of all containers of the attempt", 60)
    ended = begun.caller.wait(120)
    assert code in (None, ended), begun.log.read_text()
    assert f"{FIRST}: ran, and pushed" in done(clone, FIRST, run=run, number=2)
    assert not (clone.path / ".local" / "airflow" / run).exists()


@pytest.mark.deep
def test_what_fails_says_whether_it_may_pass(clone_at: Callable[[str], Clone]) -> None:
    """Bad input and too little memory end with 1 and the stage's sentence; a remote and a registry that are away with
    75, also in the last task, which then publishes without a stage."""
    clone = clone_at("fails")
    bad = clone.path / "params.yaml"
    text = bad.read_text()
    bad.write_text(text.replace("test_size: 0.2", "test_size: 7"))
    clone.git("commit", "--all", "--quiet", "--message", "bad")
    done(clone, FIRST)
    failed = task(clone, SECOND)
    assert failed.returncode == 1 and "test_size" in failed.stdout.splitlines()[-2], failed.stdout
    bad.write_text(text)
    clone.git("commit", "--all", "--quiet", "--message", "good")
    away = "http://127.0.0.1:9"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": away}
    remote = task(clone, SECOND, **keys, DVC_REMOTE_URL="s3://bucket/data")
    assert remote.returncode == 75 and "connection refused" in remote.stdout, remote.stdout
    done(clone, *STAGES)
    registry = task(clone, "publish", MLFLOW_TRACKING_URI="http://registry.invalid:5000")
    assert registry.returncode == 75 and "'make run' publishes it once that works" in registry.stdout, registry.stdout
    assert "published now" in done(clone, "publish", number=2)
