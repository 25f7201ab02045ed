"""Services that are not there on the real engine: nothing trained is lost, and nothing is published twice."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Clone, Make, last_line, stages_line, wait_until

pytestmark = pytest.mark.docker

NOTHING = "nothing to run, all stages are up to date"
MLFLOW = ("container", "ls", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.service=mlflow")
NOT_PUBLISHED = re.compile(
    r"error: the model is trained, but not published: the MLflow server http://mlflow:5000 did not (answer|do what was "
    r"asked) \(.+\); 'make run' publishes it once that works, without training"
)


@pytest.fixture(scope="module")
def begun(clone_at: Callable[[str], Clone]) -> Clone:
    """The one clone of this module, after a first run."""
    clone = clone_at("outages")
    clone.make("run")
    return clone


@pytest.fixture
def clone(begun: Clone) -> Iterator[Clone]:
    """That clone, its MLflow server up before the test, its files put back after it."""
    begun.make("ui")
    yield begun
    begun.restore()


def mlflow(clone: Clone) -> str:
    """The id of the container in which the clone's MLflow server runs."""
    (container,) = clone.docker(*MLFLOW)
    return container


def train(clone: Clone, trees: int) -> None:
    """Makes train stale; a number that no other test has gives a model that no registry knows."""
    clone.edit("params.yaml", "n_estimators: 100", f"n_estimators: {trees}")


def run_that_loses_its_server(clone: Clone, moment: Callable[[str], object], what: str) -> Make:
    """`make run` whose MLflow server is killed once `moment` of that server's container is true."""
    server, command = mlflow(clone), ["make", "run"]
    log = clone.path / ".local" / "lost.log"
    with log.open("w") as output, subprocess.Popen(command, cwd=clone.path, stdout=output, stderr=output) as run:

        def now() -> bool:
            assert run.poll() is None, f"the run ended before {what}:\n{log.read_text()}"
            return bool(moment(server))

        wait_until(now, what)
        subprocess.run(["docker", "kill", server], check=True, stdout=subprocess.DEVNULL)
    return Make(command, run.returncode, log.read_text())


def ended_cleanly(done: Make) -> bool:
    """Checks that a run ended well or with the one sentence, and no traceback; tells which."""
    assert "Traceback" not in done.stdout
    assert done.returncode == 0 or NOT_PUBLISHED.fullmatch(last_line(done)), done.stdout
    return done.returncode == 0


def published_once(clone: Clone) -> None:
    """Checks that every model has one version with a decision, and one finished run and no other."""
    printed = clone.python(
        "import json\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        "runs = client.search_runs([client.get_experiment_by_name('iris').experiment_id])\n"
        "versions = client.search_model_versions(\"name='iris-classifier'\")\n"
        "print('JSON', json.dumps([[(r.data.tags['model_sha256'], r.info.status) for r in runs],\n"
        "    [(v.tags['model_sha256'], v.tags['decision'], v.current_stage) for v in versions]]))\n"
    )
    runs, versions = json.loads(re.search(r"JSON (.*)", printed)[1])
    model = subprocess.check_output(["sha256sum", clone.path / "models/model.skops"], text=True).split()[0]
    digests = [digest for digest, *_ in versions]
    assert model in digests
    assert len(set(digests)) == len(digests)
    assert sorted(runs) == sorted([digest, "FINISHED"] for digest in digests)
    assert [stage for *_, stage in versions].count("Production") == 1


def test_a_stopped_server_is_started_again(clone: Clone) -> None:
    """A run that finds the local MLflow server stopped starts it, trains and publishes."""
    subprocess.run(["docker", "stop", mlflow(clone)], check=True, stdout=subprocess.DEVNULL)
    train(clone, 11)
    done = clone.make("run")
    assert "starting the local MLflow server ..." in done.stdout
    assert stages_line(done) == "ran train, evaluate"
    assert "published now" in done.stdout
    published_once(clone)


@pytest.mark.parametrize(
    ("trees", "request_seen"),
    [
        (22, "runs/create"),
        (23, "runs/log-inputs"),
        (25, "model-versions/create"),
        (26, "model-versions/transition-stage"),
    ],
)
def test_a_server_killed_while_a_model_is_published(clone: Clone, trees: int, request_seen: str) -> None:
    """A server that dies after any call of publishing costs no training and leaves nothing that is there twice."""
    train(clone, trees)
    since = subprocess.check_output(["date", "--utc", "+%Y-%m-%dT%H:%M:%S.%NZ"], text=True).strip()

    def seen(server: str) -> bool:
        log = subprocess.run(["docker", "logs", "--since", since, server], capture_output=True, text=True)
        return f"/mlflow/{request_seen}" in log.stdout + log.stderr

    lost = run_that_loses_its_server(clone, seen, request_seen)
    assert "evaluate | starts in" in lost.stdout
    assert not ended_cleanly(lost)
    again = clone.make("run")
    assert stages_line(again) == NOTHING
    assert "published now" in again.stdout
    published_once(clone)


def test_a_server_killed_while_train_runs(clone: Clone) -> None:
    """A server that dies before train has a model to publish costs no training; the next run publishes it."""
    train(clone, 300)
    training = ("container", "ls", "--quiet", "--filter", "label=pipeline.stage=train")
    lost = run_that_loses_its_server(clone, lambda _: clone.docker(*training), "train runs")
    assert "evaluate | starts in" in lost.stdout
    assert not ended_cleanly(lost)
    again = clone.make("run")
    assert stages_line(again) == NOTHING
    assert "published now" in again.stdout
    published_once(clone)


def test_a_server_killed_when_the_run_adds_its_files(clone: Clone) -> None:
    """A server that dies while make adds what exists only after the pipeline: the next run adds it, nothing twice."""
    train(clone, 31)
    log = clone.path / ".local" / "lost.log"
    lost = run_that_loses_its_server(clone, lambda _: "\npublishing ..." in log.read_text(), "make run publishes")
    ended_cleanly(lost)
    again = clone.make("run")
    assert stages_line(again) == NOTHING
    published_once(clone)


# --- ports


@pytest.fixture
def taken(clone: Clone) -> Iterator[int]:
    """A port of 127.0.0.1 that another container has; the clone's server is down."""
    clone.make("down")
    command = ["docker", "run", "--rm", "--detach", "--init", "--label", clone.label, "--publish", "127.0.0.1::5000"]
    other = subprocess.check_output([*command, os.environ["RUNNER_IMAGE"], "sleep", "infinity"], text=True).strip()
    try:
        published = subprocess.check_output(["docker", "port", other, "5000"], text=True)
        yield int(published.split(":")[-1])
    finally:
        subprocess.run(["docker", "kill", other], stdout=subprocess.DEVNULL)


def test_a_port_that_is_taken_ends_in_one_sentence(clone: Clone, taken: int) -> None:
    """With its one port taken the server cannot start: one sentence says so, and another port mends it."""
    done = clone.make("ui", check=False, MLFLOW_PORT=str(taken))
    assert done.returncode == 2
    assert "Traceback" not in done.stdout
    sentence = (
        rf"error: the local MLflow server could not be started: .*port is already allocated.*; expected a free port in "
        rf"{taken} on 127\.0\.0\.1: set MLFLOW_PORT in \.env"
    )
    assert re.fullmatch(sentence, last_line(done))
    assert re.fullmatch(r"MLflow: http://127\.0\.0\.1:\d+", last_line(clone.make("ui")))


def test_the_next_free_port_of_a_range_is_taken(clone: Clone, taken: int) -> None:
    """With the first port of the range taken the server gets a later one, and `make ui` says which."""
    done = clone.make("ui", MLFLOW_PORT=f"{taken}-{taken + 9}")
    found = re.fullmatch(r"MLflow: http://127\.0\.0\.1:(\d+)", last_line(done))
    assert taken < int(found[1]) <= taken + 9
