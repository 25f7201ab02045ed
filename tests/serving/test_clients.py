"""The example's model with other versions of MLflow: loaded, and served by MLflow's own server."""

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.pipeline import build
from scripts.project import ROOT
from tests.conftest import Clone, new_clone
from tests.forks.conftest import EXAMPLE, example

pytestmark = [
    pytest.mark.docker,
    pytest.mark.deep,
    pytest.mark.skipif(example() != EXAMPLE, reason="the stages here are not the example's"),
]
HERE = Path(__file__).parent / "clients"
CLIENTS = sorted(path.stem.removeprefix("mlflow-") for path in HERE.glob("*.in"))
PREDICT = """
import json, subprocess, sys, time, urllib.request
import mlflow, pandas
test = pandas.read_csv("/data/test.csv").iloc[:, :-1]
said = list(mlflow.pyfunc.load_model("/model").predict(test))
command = ["mlflow", "models", "serve", "--model-uri", "/model", "--env-manager", "local", "--port", "8080"]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
body = json.dumps({"dataframe_split": json.loads(test.to_json(orient="split", index=False))}).encode()
request = urllib.request.Request("http://127.0.0.1:8080/invocations", body, {"content-type": "application/json"})
while server.poll() is None:
    try:
        served = json.load(urllib.request.urlopen(request))["predictions"]
        break
    except OSError:
        time.sleep(0.2)
print(json.dumps([mlflow.__version__, said, served]))
"""


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """A clone of the example with a version in production."""
    clone = new_clone("clients", of=ROOT)
    clone.make("run")
    yield clone
    clone.make("down")


@pytest.fixture
def client(clone: Clone, request: pytest.FixtureRequest) -> Iterator[str]:
    """Build the image of a client; return its name."""
    name = f"stages/clone-{clone.label.partition('=')[2]}:client-{request.param}"
    command = ["docker", "buildx", "build", "--builder", "default", "--quiet", "--pull=false", "--tag", name]
    for argument in ("PYTHON_IMAGE", "RUNNER_IMAGE", *build.PROXIES):
        command += ["--build-arg", argument]
    with build.package_index() as options:
        given = ["--build-arg", f"MLFLOW={request.param}", *options]
        subprocess.run([*command, *given, str(HERE)], check=True, stdout=subprocess.DEVNULL)
    yield name
    subprocess.run(["docker", "image", "rm", name], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_other_mlflows_say_what_was_measured(clone: Clone, client: str, request: pytest.FixtureRequest) -> None:
    """MLflow 2.22 and 3.1 load the version that the current one has published, predict what `evaluate` measured, and
    their `mlflow models serve` answers the same."""
    (model,) = {path.parent for path in clone.path.glob(".local/mlflow/artifacts/*/*/artifacts/model/MLmodel")}
    command = ["docker", "run", "--rm", "--init", "--network", "none", "--label", clone.label]
    command += ["--mount", f"type=bind,src={model},dst=/model,readonly"]
    command += ["--mount", f"type=bind,src={clone.path / 'data/processed'},dst=/data,readonly"]
    done = subprocess.run([*command, client, "python", "-c", PREDICT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    version, said, served = json.loads(done.stdout.splitlines()[-1])
    with (clone.path / "metrics/confusion.csv").open(newline="") as file:
        measured = [row["predicted"] for row in csv.DictReader(file)]
    assert (said, served) == (measured, measured)
    assert version == request.node.callspec.params["client"]
