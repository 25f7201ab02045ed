"""`make doctor`: what it says of a healthy clone, and of broken ones."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import Clone, Make, last_line
from tests.engine.servers import mlflow_server

pytestmark = pytest.mark.docker

THE_LOCAL_ONE = "<the local server's>"
LOGIN = {"MLFLOW_TRACKING_USERNAME": "root", "MLFLOW_TRACKING_PASSWORD": THE_LOCAL_ONE}


@pytest.fixture
def clone(started: tuple[Clone, Make]) -> Iterator[Clone]:
    """Return the started clone, its files put back after the test."""
    clone = started[0]
    env = (clone.path / ".env").read_text()
    yield clone
    clone.restore()
    (clone.path / ".env").write_text(env)
    (clone.path / ".env").chmod(0o600)


def line_of(done: Make, name: str) -> str:
    """Return the first line about `name` that is not good, or else the first one."""
    lines = re.findall(rf"^(?:ok|BAD|note) +{re.escape(name)} .*$", done.stdout, re.M)
    return next((line for line in lines if not line.startswith("ok")), lines[0])


def test_a_healthy_clone_is_all_good(clone: Clone) -> None:
    """In a clone that has been run every line is good but what could be safer; the exit code is 0; nothing changes."""
    before = clone.git("status", "--porcelain")
    done = clone.make("doctor")
    signs = re.findall(r"^(ok|BAD|note) +(?!border )\w", done.stdout, re.M)
    assert len(signs) >= 14 and set(signs) == {"ok"}
    assert line_of(done, "registry").endswith("supports stages, aliases, logged models")
    assert done.stdout.strip().endswith("a run would work")
    assert clone.git("status", "--porcelain") == before


@pytest.mark.parametrize(
    ("variables", "name", "told"),
    [
        ({"MLFLOW_TRACKING_URI": "http://mlflow:9"}, "MLflow", "connection refused"),
        ({"MLFLOW_TRACKING_URI": "http://nowhere.invalid"}, "MLflow", "host name"),
        ({"MLFLOW_TRACKING_URI": "http://mlflow:5000/nowhere"} | LOGIN, "MLflow", "404: there is no such address"),
        ({"MLFLOW_TRACKING_URI": "http://mlflow:5000/nowhere"}, "MLflow", "401: it does not accept"),
        ({"MLFLOW_TRACKING_URI": "https://mlflow:5000"}, "MLflow", "does not speak TLS"),
        ({"TRAIN_CPUS": "1000"}, "limits", "TRAIN_CPUS is 1000; expected at most"),
        ({"STAGE_MEMORY": "much"}, "limits", "MEMORY is much; expected one like 2g"),
        (
            {"DVC_REMOTE_URL": "s3://bucket", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "key",
             "AWS_SECRET_ACCESS_KEY": "secret"},
            "remote", "connection refused: is it running?; expected the server at that address: correct DVC_REMOTE_URL",
        ),
    ],
)  # fmt: skip
def test_a_wrong_setting_has_a_bad_line(clone: Clone, variables: dict[str, str], name: str, told: str) -> None:
    """A setting with which a run would fail has a BAD line that says what was found, and doctor fails."""
    password = (clone.path / ".local" / "mlflow-password").read_text()
    variables = {key: value.replace(THE_LOCAL_ONE, password) for key, value in variables.items()}
    done = clone.make("doctor", check=False, **variables)
    assert done.returncode == 2
    assert line_of(done, name).startswith("BAD ")
    assert told in line_of(done, name)
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("DVC_REMOTE_URL=data\n", "expected an absolute folder"),
        ("DVC_REMOTE_URL=/no/such/folder\n", "expected a folder that exists: make it"),
        ("DAGSHUB_TOKEN=secret-token\n", "DAGSHUB_USER_NAME, MLFLOW_TRACKING_URI missing"),
        ("MLFLOW_TRACKING_PASSWORD=<token>\n", "MLFLOW_TRACKING_PASSWORD is a placeholder"),
        ("MLFOW_PORT=5000\n", "did you mean MLFLOW_PORT?"),
        ("just words\n", "expected NAME=value"),
    ],
)
def test_a_wrong_env_is_reported(clone: Clone, added: str, told: str) -> None:
    """A mistake in .env is reported in a line without the token in it, and the exit code is not 0."""
    with (clone.path / ".env").open("a") as env:
        env.write(added)
    done = clone.make("doctor", check=False)
    assert done.returncode == 2
    assert told in done.stdout
    assert "secret-token" not in done.stdout


def test_what_a_run_repairs_is_a_note(clone: Clone) -> None:
    """What the next run repairs by itself, and what is only unwise, gets a note, and doctor succeeds."""
    clone.edit("stages/preprocess/preprocess.py", "TARGET =", "# edited\nTARGET =")
    (clone.path / ".env").chmod(0o644)
    (clone.path / ".dvc" / "tmp" / "rwlock").write_text('{"/somewhere": {"write": {"pid": 1, "cmd": "dvc repro"}}}')
    orphan = ["run", "--rm", "--detach", "--label", clone.label, "--label", "pipeline.stage=train"]
    started = subprocess.check_output(["docker", *orphan, os.environ["RUNNER_IMAGE"], "sleep", "60"], text=True)
    done = clone.make("doctor")
    subprocess.run(["docker", "kill", started.strip()], check=True, stdout=subprocess.DEVNULL)
    for name in ("dvc.yaml", ".env", "locks", "orphans"):
        assert line_of(done, name).startswith("note")


def test_doctor_cannot_detect_a_missing_output(clone: Clone) -> None:
    """A stage that leaves out an output ends `make run` in a sentence that names it; doctor finds nothing wrong."""
    clone.edit("stages/evaluate/evaluate.py", "        args.roc: roc(model, features, truth),\n", "")
    failed = clone.make("run", check=False)
    done = clone.make("doctor")
    clone.restore()
    clone.make("run")
    assert failed.returncode == 2
    assert re.match(r"error: .*'metrics/roc\.csv' does not exist", last_line(failed))
    assert re.search(r"^BAD ", done.stdout, re.M) is None


def test_wrong_params_are_reported(clone: Clone) -> None:
    """A mistake in params.yaml has a BAD line."""
    clone.edit("params.yaml", "min_improvement: 0.0", "min_improvement: -1")
    done = clone.make("doctor", check=False)
    assert done.returncode == 2
    assert "promotion.min_improvement is -1" in done.stdout


def test_a_refused_host_name_is_reported(clone: Clone) -> None:
    """A real MLflow server that refuses its host name, though not the user, has a BAD line that says what it lacks."""
    with mlflow_server(clone) as name:
        done = clone.make("doctor", check=False, MLFLOW_TRACKING_URI=f"http://{name}:5000")
    assert done.returncode == 2
    assert line_of(done, "MLflow").startswith("BAD ") and "--allowed-hosts" in line_of(done, "MLflow")
