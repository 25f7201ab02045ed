"""Airflow on two machines with an engine each: the bytes of one, whatever state they are in and whatever is killed.

`make airflow-test` starts the two engines; without them these tests are skipped.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from scripts.pipeline import images, template
from scripts.project import ROOT
from tests.airflow import machines
from tests.airflow.machines import Machine
from tests.conftest import IDENTITY, NOTHING, OUTPUTS, STAGES, Clone, Make, new_clone, stages_line, wait_until
from tests.killing import forget, name_models

pytestmark = [pytest.mark.docker, pytest.mark.deep]
if not (ROOT / "scripts" / "airflow").exists():
    pytest.skip("the room is taken out", allow_module_level=True)

FIRST, SECOND, THIRD, LAST = STAGES
QUEUES = {FIRST: "two", SECOND: "one", THIRD: "two", LAST: "one"}
"""Which machine's worker runs a stage; the last task is machine one's."""
STOP = 'if [ -n "${STOP_AT:-}" ]; then'
STOPS = """\
stop=$project/../../../../stop-at.$(basename "$(dirname "$project")")
if [ -e "$stop" ]; then STOP_AT=$(cat "$stop") && export STOP_AT; fi
"""
"""How a test names the point at which a task's attempt stops: its clone lies in .local/airflow/RUN/STAGE/TRY."""
ENSURE = """
from scripts.airflow import services
from scripts.pipeline import build, images
build.renew(images.load())
wanted = [services.engine(), services.stores()]
services.ensure_images(wanted)
print("IMAGES", *(image.tag for image in wanted))
"""


@dataclass(frozen=True)
class Expected:
    """What `make run` makes on one machine from nothing: dvc.lock, and each file."""

    lock: bytes
    files: dict[str, bytes]


@dataclass(frozen=True)
class World:
    """Two machines with a worker each, of which one has Airflow and what both share."""

    one: Machine
    two: Machine
    reader: Machine
    source: Path
    expected: Expected

    def of(self, stage: str) -> Machine:
        return {"one": self.one, "two": self.two}[QUEUES.get(stage, "one")]

    def read(self, run: str) -> Expected:
        """Return what a run made, as another clone gets it by its dvc.lock and the remote."""
        forget(self.reader)
        lock = self.one.path / ".local" / "airflow" / run / "dvc.lock"
        shutil.copy(lock, self.reader.path / "dvc.lock")
        self.reader.make("pull")
        return Expected(lock.read_bytes(), read(self.reader))


def read(clone: Clone) -> dict[str, bytes]:
    return {name: (clone.path / name).read_bytes() for name in OUTPUTS}


def run_of(said: str) -> str:
    return re.search(r"^run (\S+): ", said, re.M)[1]


def prepared_source() -> Path:
    """Return a repository of the fixture project whose stages alternate between the machines."""
    clone = new_clone("prepared")
    for stage, queue in QUEUES.items():
        clone.edit("dvc.yaml.template", f'stage("{stage}",', f'stage("{stage}", meta={{"queue": "{queue}"}},')
    clone.edit("scripts/host/runner.sh", STOP, STOPS + STOP)
    template.write(template.load(clone.path), clone.path)
    clone.git("commit", "--all", "--quiet", "--message", "two queues")
    return clone.path


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if not (ENGINES := machines.ENGINES / "two" / "docker.sock").exists():
        pytest.skip(f"there is no {ENGINES}; expected root and dockerd on the host: 'make airflow-test' starts it")
    source = prepared_source()
    shared = new_clone("shared", of=source)
    shared.make("run")
    expected = Expected((shared.path / "dvc.lock").read_bytes(), read(shared))
    airflow, stores = re.search(r"^IMAGES (\S+) (\S+)$", shared.python(ENSURE), re.M).groups()
    stages = [image.tag for image in images.load(source / "stages").values()]
    servers = machines.servers_image(shared)
    own = [os.environ["PYTHON_IMAGE"], os.environ["RUNNER_IMAGE"], airflow]
    machines.bring("one", [*own, stores, *stages, servers])
    machines.bring("two", own)
    machines.serve(servers)
    one = machines.machine("one", source, "one", AIRFLOW_ADDRESS="10.77.0.1", AIRFLOW_QUEUES="one")
    two = machines.machine("two", source, "two")
    reader = machines.machine("two", source, "reader")
    one.make("push-images", timeout=600)
    one.make("airflow", timeout=1500)
    lines = dict(line.split("=", 1) for line in (one.path / ".local/airflow/worker.env").read_text().splitlines())
    two.set(AIRFLOW_ADDRESS="10.77.0.2", AIRFLOW_QUEUES="two", **lines)
    two.make("airflow-worker", timeout=1500)
    yield World(one, two, reader, source, expected)
    for clone in (one, two, reader):
        clone.make("down", check=False)
    machines.stop_serving()


@pytest.fixture(scope="module")
def ran(world: World) -> Make:
    """A run on both machines, to its end."""
    return world.one.make("airflow-run", WAIT="1", timeout=1500)


def test_two_engines_make_what_one_makes(world: World, ran: Make) -> None:
    """Stages that alternate between two engines give outputs, metrics and dvc.lock of `make run`, byte for byte; one
    version is in production."""
    ran_on = dict(re.findall(r"^\S+ +(\S+) +running on (\S+)$", ran.stdout, re.M))
    assert ran_on == {stage: world.of(stage).address for stage in (*STAGES, "publish")}
    assert world.read(run_of(ran.stdout)) == world.expected
    assert [(each["version"], each["stage"]) for each in world.one.registry()] == [("1", "Production")]


def test_a_machine_pulls_the_images_of_its_stages(world: World, ran: Make) -> None:
    """Machine two, which can build nothing, has the images of its stages from the registry, under their plain tags."""
    names = machines.call("two", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    wanted = images.load(world.source / "stages")
    mine = {wanted[stage].tag for stage, queue in QUEUES.items() if queue == "two"}
    assert mine <= set(names)
    assert [name for name in names if name.startswith(machines.REGISTRY)] == []


def test_a_third_clone_runs_nothing(world: World, ran: Make) -> None:
    """`make pull run` in a clone that has seen nothing restores all of it from the remote, and with the run's dvc.lock
    has nothing to do."""
    third = machines.machine("two", world.source, "third")
    said = stages_line(third.make("pull", "run"))
    assert not re.search(r"\bran\b", said), said
    assert Expected((third.path / "dvc.lock").read_bytes(), read(third)) == world.expected
    shutil.copy(world.one.path / ".local/airflow" / run_of(ran.stdout) / "dvc.lock", third.path)
    assert stages_line(third.make("run")) == NOTHING
    third.make("down")


# --- what goes wrong


class Following:
    """A `make airflow-run WAIT=1` from an empty remote, which publishes under a name of its own."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        machines.empty_s3()
        name_models(world.one, name)
        self._log = world.source.parent / f"{name}.log"
        environ = {key: value for key, value in os.environ.items() if key != "PWD"} | world.one.engine | {"WAIT": "1"}
        with self._log.open("w") as output:
            self.make = psutil.Popen(
                ["make", "airflow-run"], cwd=world.one.path, env=environ, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            wait_until(self._begun, "the run to begin", 300)
        except BaseException:
            self.end()
            raise
        self.run = run_of(self.said)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def _begun(self) -> bool:
        assert self.make.poll() is None, self.said
        return re.search(r"^run \S+: ", self.said, re.M) is not None

    def end(self) -> None:
        if self.make.poll() is None:
            os.killpg(self.make.pid, signal.SIGTERM)
            self.make.wait(60)

    def ends_well(self) -> None:
        """Wait for its end; all that it made is as expected, in one version, which is in production."""
        assert self.make.wait(1500) == 0, self.said
        assert self.world.read(self.run) == self.world.expected
        found = [(each["version"], each["stage"]) for each in self.world.one.registry(self.name)]
        assert found == [("1", "Production")], self.said


class Standing:
    """An attempt of a task that stands at a point."""

    def __init__(self, world: World, run: Following, point: str) -> None:
        stage, at = POINTS[point]
        self.machine = world.of(stage)
        self._folder = self.machine.path / ".local" / "airflow" / run.run / stage
        self._marker = re.split("[@/]", at)[-1]
        wait_until(lambda: run.make.poll() is not None or self._markers(), f"{stage} to stop when {point}", 900)
        assert self._markers(), run.said
        (marker,) = self._markers()
        self.clone = Machine(marker.parent.parent.parent, self.machine.name)

    def _markers(self) -> list[Path]:
        return [*self._folder.glob(f"*/.local/stopped/{self._marker}")]

    def let_go(self) -> None:
        for marker in self._markers():
            marker.unlink()

    def containers(self, *label: str) -> list[str]:
        filters = [word for each in label for word in ("--filter", f"label={each}")]
        return self.clone.docker("container", "ls", "--all", "--quiet", *filters)


def kill_service(service: str) -> Callable[[World, Standing], None]:
    """Kill all processes of a service, by their number 9; Docker starts it again."""

    def kill(world: World, standing: Standing) -> None:
        machine = standing.machine if service == "airflow-worker" else world.one
        name = machine.container(service)
        inspect = ["container", "inspect", "--format", "{{.RestartCount}}", name]
        before = machines.call(machine.name, *inspect)
        environ = os.environ | machine.engine
        subprocess.run(["docker", "exec", name, "sh", "-c", "kill -9 -1"], env=environ, capture_output=True)
        wait_until(lambda: machines.call(machine.name, *inspect) != before, f"{service} is killed")

    return kill


def kill_containers(label: str) -> Callable[[World, Standing], None]:
    def kill(world: World, standing: Standing) -> None:
        found = standing.containers(label)
        assert found
        machines.call(standing.machine.name, "kill", *found)

    return kill


def kill_engine(world: World, standing: Standing) -> None:
    asked = machines.ENGINES / standing.machine.name / "kill"
    asked.touch()
    wait_until(lambda: not asked.exists(), "the engine is killed")
    environ = os.environ | standing.machine.engine
    answers = ["docker", "version"]
    wait_until(lambda: not subprocess.run(answers, env=environ, capture_output=True).returncode, "it answers again")


OF_THE_ATTEMPT = {
    "worker": kill_service("airflow-worker"),
    "runner": kill_containers("pipeline.role=runner"),
    "stage": kill_containers("pipeline.stage"),
    "engine": kill_engine,
}
"""What an attempt does not outlive."""
OF_AIRFLOW = {
    "Redis": kill_service("airflow-broker"),
    "scheduler": kill_service("airflow-scheduler"),
    "PostgreSQL": kill_service("airflow-database"),
}
VICTIMS = OF_THE_ATTEMPT | OF_AIRFLOW
READS, WRITES, FITS = "the first stage reads", "the second has written one of two", "the model is fitted"
SENT, UNDECIDED = "the data is sent, its entry is not", "the version is there, undecided"
POINTS = {
    READS: (FIRST, f"{FIRST}@{FIRST}.py:table:1"),
    WRITES: (SECOND, f"{SECOND}@_local.py:Path.replace:2"),
    FITS: (THIRD, f"{THIRD}@{THIRD}.py:fit:1"),
    SENT: (THIRD, "dvc_adapter.py:size_of:1"),
    UNDECIDED: ("publish", "publish/reconcile.py:Judge.__call__:1"),
}
"""A moment of a run: the task, and the function that begins then (see tests/stop)."""
USUAL = (WRITES, SENT, UNDECIDED)
OTHERS = {"stage": (READS, WRITES, FITS), "engine": (READS, FITS, SENT)}
"""Only stages have a stage's container; and machine one's engine has all that the two machines share."""


def aim(world: World, point: str | None) -> None:
    """Let the next attempt of a task stop at a point, and no other one."""
    for clone in (world.one, world.two):
        for file in (clone.path / ".local").glob("stop-at.*"):
            file.unlink()
        if point:
            stage, at = POINTS[point]
            (clone.path / ".local" / f"stop-at.{stage}").write_text(at)


@pytest.mark.parametrize("victim", VICTIMS)
def test_kills_change_nothing(world: World, victim: str) -> None:
    """Killed by its number 9 at three points of a run, that ends by itself with the same bytes, one version and one
    production, and within 60 s no container of an attempt that died is there."""
    points = OTHERS.get(victim, USUAL)
    aim(world, points[0])
    run = Following(world, f"kill-{list(VICTIMS).index(victim)}")
    try:
        for point, then in pairwise((*points, None)):
            standing = Standing(world, run, point)
            aim(world, then)
            VICTIMS[victim](world, standing)
            if victim in OF_THE_ATTEMPT:
                wait_until(lambda here=standing: not here.containers(), "the end of the attempt's containers", 60)
            else:
                standing.let_go()
        run.ends_well()
    finally:
        aim(world, None)
        run.end()


def test_a_worker_in_a_wrong_state_makes_the_same(world: World) -> None:
    """Worker two has another commit checked out, edits, the images of that commit and not those of this one, and half a
    cache with a file that is cut off; and while the run goes on, machine one checks out that commit too."""
    two = world.two
    program = two.path / "stages" / FIRST / f"{FIRST}.py"
    program.write_text(program.read_text() + "# another commit\n")
    git = ["git", *IDENTITY, "commit", "--all", "--quiet", "--message", "another one"]
    subprocess.run(git, cwd=two.path, check=True)
    two.make("build")
    two.edit("params.yaml", "test_size: 0.2", "test_size: 0.5")
    shutil.copytree(world.reader.path / ".dvc" / "cache", two.path / ".dvc" / "cache", dirs_exist_ok=True)
    cached = sorted(path for path in (two.path / ".dvc" / "cache" / "files").rglob("*") if path.is_file())
    for path in cached[::2]:
        path.unlink()
    cached[1].chmod(0o644)
    cached[1].write_bytes(cached[1].read_bytes()[:10])
    wanted = images.load(world.source / "stages")
    gone = [wanted[stage].tag for stage, queue in QUEUES.items() if queue == "two"]
    here = machines.call("two", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    claims = [name for name in here if name.startswith("stages/clone-") and ":airflow-" in name]
    machines.call("two", "image", "rm", "--force", *{name for name in [*gone, *claims] if name in here})
    run = Following(world, "wrong-state")
    try:
        world.one.git("stash", "--quiet")
        world.one.git("fetch", "--quiet", str(two.path), "HEAD")
        world.one.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
        run.ends_well()
    finally:
        run.end()
