"""Servers that are away on the real engine: no stage waits for them, nothing trained is lost, nothing is doubled."""

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests.conftest import NOTHING, Clone, Make, last_line, stages_line, wait_until
from tests.engine.servers import logs, mlflow_server, silent_server

pytestmark = pytest.mark.docker

MLFLOW = ("container", "ls", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.service=mlflow")
FOLDER = "/srv/somewhere"


def fault_of(server: str) -> str:
    """Return the pattern of what a run says of a server's fault."""
    return rf"the MLflow server {re.escape(server)} did not (answer|do what was asked) \(.+\)"


ENDED = (
    r"the local MLflow server ended before it answered: .*; expected it on this clone's network: 'make down ui' starts "
    r"it again"
)
LOCAL_FAULT = f"({fault_of('http://mlflow:5000')}|{ENDED})"


@pytest.fixture(scope="module")
def begun(clone_at: Callable[[str], Clone]) -> Clone:
    """Return the one clone of this module, after a first run."""
    clone = clone_at("outages")
    clone.make("run")
    return clone


@pytest.fixture
def clone(begun: Clone) -> Iterator[Clone]:
    """Return that clone, its MLflow server up before the test, its files put back after it."""
    begun.make("ui")
    yield begun
    begun.restore()


def mlflow(clone: Clone) -> str:
    """Return the id of the container in which the clone's MLflow server runs."""
    (container,) = clone.docker(*MLFLOW)
    return container


def train(clone: Clone, voters: int) -> None:
    """Make train stale; a number that no other test has gives a model that no registry knows."""
    clone.edit("params.yaml", "n_estimators: 100", f"n_estimators: {voters}")


class Running:
    """`make run` in the background."""

    def __init__(self, clone: Clone, process: subprocess.Popen[str]) -> None:
        self._log, self._process = clone.path / ".local" / "outage.log", process

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def wait_for(self, moment: Callable[[], object], what: str) -> None:
        """Return when `moment()` is true; fail if the run ends before."""

        def now() -> bool:
            assert self._process.poll() is None, f"the run ended before {what}:\n{self.printed}"
            return bool(moment())

        wait_until(now, what, seconds=300)

    def has_run(self, stage: str) -> bool:
        """Return True once the stage has run to its end."""
        return bool(re.search(rf"^{stage} +ran \(", self.printed, re.M))

    def end(self) -> Make:
        return Make(["make", "run"], self._process.wait(), self.printed)


@contextmanager
def running(clone: Clone) -> Iterator[Running]:
    log = clone.path / ".local" / "outage.log"
    with (
        log.open("w") as output,
        subprocess.Popen(["make", "run"], cwd=clone.path, stdout=output, stderr=output) as run,
    ):
        yield Running(clone, run)


def send(server: str, signal: str) -> None:
    """Send a signal to all processes in the server's container but its first one."""
    subprocess.run(["docker", "exec", server, "sh", "-c", f"kill -{signal} -1"], check=True)


def is_published(done: Make, *, why: str = LOCAL_FAULT) -> bool:
    """Check that a run ended well, or with the one sentence that its model is not published; return which."""
    assert "Traceback" not in done.stdout
    if done.returncode == 0:
        return True
    sentence = f"error: iris-classifier is trained, but not published: {why}; "
    sentence += "'make run' publishes it once that works, without training"
    assert re.fullmatch(sentence, last_line(done)), done.stdout
    assert done.stdout.count("error:") == 1, done.stdout
    return False


def next_run_publishes(clone: Clone, *, published_before: bool = False) -> None:
    """Check that the next run runs no stage, publishes the model if that is missing, and that nothing is doubled."""
    done = clone.make("run")
    assert stages_line(done) == NOTHING
    assert ("published before" if published_before else "published now") in done.stdout
    published_once(clone)


def published_once(clone: Clone) -> None:
    """Check that every model has one version with a decision and one finished run, and that no run is left open."""
    printed = subprocess.check_output(["docker", "exec", mlflow(clone), "python", "-c", RUNS_AND_VERSIONS], text=True)
    runs, versions = json.loads(printed)
    model = subprocess.check_output(["sha256sum", clone.path / "models/model.json"], text=True).split()[0]
    digests = [digest for digest, *_ in versions]
    assert model in digests
    assert len(set(digests)) == len(digests)
    assert sorted(run for run in runs if run[0]) == sorted([digest, "FINISHED"] for digest in digests)
    assert {status for digest, status in runs if not digest} <= {"KILLED"}  # begun for live metrics alone
    assert [stage for *_, stage in versions].count("Production") == 1


RUNS_AND_VERSIONS = """
import json
from mlflow import MlflowClient
client = MlflowClient("http://127.0.0.1:5000")
runs = client.search_runs([client.get_experiment_by_name("iris").experiment_id])
versions = client.search_model_versions("name='iris-classifier'")
print(json.dumps([[(run.data.tags.get("model_sha256"), run.info.status) for run in runs],
    [(version.tags["model_sha256"], version.tags["decision"], version.current_stage) for version in versions]]))
"""


# --- the local server


def test_a_stopped_server_is_started_again(clone: Clone) -> None:
    """A run that finds the local MLflow server stopped starts it, trains and publishes."""
    subprocess.run(["docker", "stop", mlflow(clone)], check=True, stdout=subprocess.DEVNULL)
    train(clone, 11)
    done = clone.make("run")
    assert "starting the local MLflow server ..." in done.stdout
    assert stages_line(done) == "ran train, evaluate"
    assert "published now" in done.stdout
    published_once(clone)


def test_no_stage_waits_for_a_server_that_is_held_back(clone: Clone) -> None:
    """While the MLflow server answers nothing all stages run to their end; when it answers, the same run publishes."""
    train(clone, 12)
    server = mlflow(clone)
    send(server, "STOP")  # it still takes connections
    with running(clone) as run:
        try:
            run.wait_for(lambda: run.has_run("evaluate"), "evaluate has run")
            run.wait_for(lambda: "waiting for the local MLflow server" in run.printed, "it says what it waits for")
        finally:
            send(server, "CONT")
        done = run.end()
    assert done.returncode == 0, done.stdout
    assert stages_line(done) == "ran train, evaluate"
    assert "published now" in done.stdout
    published_once(clone)


DEEP = pytest.mark.deep
MOMENTS = [
    pytest.param(21, "/mlflow/runs/create", marks=DEEP),
    pytest.param(22, "/mlflow/runs/log-inputs", marks=DEEP),
    pytest.param(23, "/artifacts/model/MLmodel", marks=DEEP),
    pytest.param(24, "/mlflow/model-versions/create", marks=DEEP),
    pytest.param(25, "/mlflow/model-versions/transition-stage"),
    pytest.param(26, "/artifacts/pipeline/dvc.lock", marks=DEEP),
]


@pytest.mark.parametrize(("voters", "request_seen"), MOMENTS)
def test_a_server_killed_while_a_model_is_published(clone: Clone, voters: int, request_seen: str) -> None:
    """A server that dies after any call of publishing costs no training and leaves nothing that is there twice."""
    train(clone, voters)
    server = mlflow(clone)
    since = subprocess.check_output(["date", "--utc", "+%Y-%m-%dT%H:%M:%S.%NZ"], text=True).strip()
    with running(clone) as run:
        run.wait_for(lambda: request_seen in logs(server, "--since", since), request_seen)
        subprocess.run(["docker", "kill", server], check=True, stdout=subprocess.DEVNULL)
        lost = run.end()
    assert run.has_run("evaluate"), lost.stdout
    next_run_publishes(clone, published_before=is_published(lost))


@pytest.mark.deep
def test_a_server_killed_while_train_runs(clone: Clone) -> None:
    """A server that dies before train has made a model costs no training; the next run publishes it."""
    train(clone, 27)
    training = ("container", "ls", "--quiet", "--filter", "label=pipeline.stage=train")
    with running(clone) as run:
        run.wait_for(lambda: clone.docker(*training), "train runs")
        subprocess.run(["docker", "kill", mlflow(clone)], check=True, stdout=subprocess.DEVNULL)
        lost = run.end()
    assert run.has_run("evaluate"), lost.stdout
    assert not is_published(lost)
    next_run_publishes(clone)


# --- another server


@pytest.mark.deep
def test_a_server_that_is_away_keeps_no_stage_from_running(clone: Clone) -> None:
    """With no MLflow server at its address a run trains and says that it cannot publish; the next one publishes."""
    train(clone, 31)
    away = "http://mlflow:9"
    done = clone.make("run", check=False, MLFLOW_TRACKING_URI=away)
    assert re.search(r"^evaluate +ran \(", done.stdout, re.M), done.stdout
    assert not is_published(done, why=fault_of(away))
    next_run_publishes(clone)


@pytest.mark.deep
def test_a_silent_server_keeps_no_stage_from_running(clone: Clone) -> None:
    """With a server that takes connections and never answers it is the same; the run gives it up by itself."""
    train(clone, 32)
    with silent_server(clone) as name:
        silent = f"http://{name}:5000"
        done = clone.make("run", check=False, timeout=300, MLFLOW_TRACKING_URI=silent)
    assert re.search(r"^evaluate +ran \(", done.stdout, re.M), done.stdout
    assert not is_published(done, why=fault_of(silent))
    next_run_publishes(clone)


@pytest.mark.deep
def test_a_server_that_takes_no_artifacts_gets_no_model(clone: Clone) -> None:
    """A server that lets each client write artifacts to a folder of its own is refused, and nothing is registered."""
    train(clone, 33)
    with mlflow_server(clone, "--default-artifact-root", FOLDER, "--no-serve-artifacts", "--allowed-hosts", "*") as own:
        variables = {"MLFLOW_TRACKING_URI": f"http://{own}:5000"}
        doctor = clone.make("doctor", check=False, **variables)
        done = clone.make("run", check=False, **variables)
        registered = subprocess.check_output(["docker", "exec", own, "python", "-c", WHAT_IS_REGISTERED], text=True)
    assert doctor.returncode == 2
    assert re.search(rf"^BAD +artifacts .* {FOLDER}/0, which is not on the server; expected ", doctor.stdout, re.M)
    assert re.search(r"^evaluate +ran \(", done.stdout, re.M), done.stdout
    assert done.returncode == 2
    assert "Traceback" not in done.stdout and done.stdout.count("error:") == 1
    assert re.fullmatch(
        rf"error: iris-classifier is trained, but not published: the MLflow server http://{own}:5000 keeps artifacts "
        rf"at {FOLDER}/\d+, which is a folder of this container; expected a server that takes them: start it with "
        r"--serve-artifacts .*; 'make run' publishes it once that works, without training",
        last_line(done),
    )
    assert registered.split() == ["0", "0"]
    next_run_publishes(clone)


WHAT_IS_REGISTERED = """
from mlflow import MlflowClient
client = MlflowClient("http://127.0.0.1:5000")
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
print(len(client.search_registered_models()), len(client.search_runs(experiments)))
"""


# --- ports


@pytest.fixture
def taken(clone: Clone) -> Iterator[int]:
    """Return a port of 127.0.0.1 that another container has; the clone's server is down."""
    clone.make("down")
    command = ["docker", "run", "--rm", "--detach", "--init", "--label", clone.label, "--publish", "127.0.0.1::5000"]
    other = subprocess.check_output([*command, os.environ["RUNNER_IMAGE"], "sleep", "infinity"], text=True).strip()
    try:
        published = subprocess.check_output(["docker", "port", other, "5000"], text=True)
        yield int(published.split(":")[-1])
    finally:
        subprocess.run(["docker", "kill", other], stdout=subprocess.DEVNULL)


def port_is_taken(port: int) -> str:
    return (
        rf"the local MLflow server could not be started: .*port is already allocated.*; expected a free port in {port} "
        r"on 127\.0\.0\.1: set MLFLOW_PORT in \.env"
    )


def test_a_port_that_is_taken_ends_in_one_sentence(clone: Clone, taken: int) -> None:
    """If its one port is taken, the server cannot start: one sentence says so, and another port helps."""
    done = clone.make("ui", check=False, MLFLOW_PORT=str(taken))
    assert done.returncode == 2
    assert "Traceback" not in done.stdout
    assert re.fullmatch(f"error: {port_is_taken(taken)}", last_line(done))
    assert re.search(r"^MLflow: http://127\.0\.0\.1:\d+/\?password=", clone.make("ui").stdout, re.M)


@pytest.mark.deep
def test_a_port_that_is_taken_keeps_no_stage_from_running(clone: Clone, taken: int) -> None:
    """If the server cannot start, a run says so and trains; the next one, with a free port, publishes."""
    train(clone, 41)
    done = clone.make("run", check=False, timeout=300, MLFLOW_PORT=str(taken))
    assert re.search(f"^note: {port_is_taken(taken)}$", done.stdout, re.M), done.stdout
    assert re.search(r"^evaluate +ran \(", done.stdout, re.M), done.stdout
    assert done.returncode == 2
    assert not is_published(done, why=port_is_taken(taken))
    next_run_publishes(clone)


def test_the_next_free_port_of_a_range_is_taken(clone: Clone, taken: int) -> None:
    """If the first port of the range is taken, the server gets a later one, and `make ui` says which."""
    done = clone.make("ui", MLFLOW_PORT=f"{taken}-{taken + 9}")
    found = re.search(r"^MLflow: http://127\.0\.0\.1:(\d+)/", done.stdout, re.M)
    assert taken < int(found[1]) <= taken + 9


def test_a_port_that_another_program_has_is_passed_over(clone: Clone) -> None:
    """If a program on the machine has the first port of the range, the server gets a later one."""
    clone.make("down")
    listening = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    command = ["docker", "run", "--rm", "--detach", "--init", "--label", clone.label, "--network", "host"]
    command += [os.environ["RUNNER_IMAGE"], "python", "-c", f"{listening}; time.sleep(600)"]
    other = subprocess.check_output(command, text=True).strip()
    try:
        with subprocess.Popen(["docker", "logs", "--follow", other], stdout=subprocess.PIPE, text=True) as logs:
            taken = int(logs.stdout.readline())
            logs.terminate()
        done = clone.make("ui", MLFLOW_PORT=f"{taken}-{taken + 9}")
    finally:
        subprocess.run(["docker", "kill", other], stdout=subprocess.DEVNULL)
    found = re.search(r"^MLflow: http://127\.0\.0\.1:(\d+)/", done.stdout, re.M)
    assert taken < int(found[1]) <= taken + 9


# --- a server that dies at its start


def of_a_newer_mlflow(clone: Clone) -> None:
    with closing(sqlite3.connect(clone.path / ".local/mlflow/mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def that_crashes(clone: Clone) -> None:
    app = clone.path / "scripts/mlflow_app/password.py"
    app.write_text(f"raise SystemExit('out of luck')\n{app.read_text()}")


DEATHS = {
    of_a_newer_mlflow: "MLflow's database was made by another version of MLflow, and cannot be upgraded: "
    "alembic.*ffffffffffff.*; expected one of this version or an older one: use the commit that made it, or move .* "
    "away",
    that_crashes: "the local MLflow server ended before it answered: .*out of luck.*: 'make down ui' starts it again",
}


SAYS = {
    "ui": "{}",
    "run": "iris-classifier is trained, but not published: {}; 'make run' publishes it once that works, without "
    "training",
}


@pytest.mark.parametrize(
    "cause", [pytest.param(of_a_newer_mlflow, marks=DEEP), that_crashes], ids=lambda cause: cause.__name__
)
@pytest.mark.parametrize("target", ["ui", pytest.param("run", marks=DEEP)])
def test_a_server_that_dies_at_its_start_is_told(clone: Clone, cause: Callable[[Clone], None], target: str) -> None:
    """What kept the local server from starting is told as soon as it has ended, with its last words; then it starts."""
    clone.make("down")
    database = clone.path / ".local/mlflow/mlflow.db"
    before = database.read_bytes()
    train(clone, 43 + [*DEATHS].index(cause))  # so that a run has something to publish
    cause(clone)
    try:
        done = clone.make(target, check=False)
    finally:
        clone.restore()
        database.write_bytes(before)
    assert done.returncode == 2
    assert re.fullmatch(f"error: {SAYS[target].format(DEATHS[cause])}", last_line(done)), done.stdout
    assert "http://" in clone.make("ui").stdout
