"""The file of a model on its way to the server and back; loading it there; folders; servers that would lose it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from scripts.digests import sha256
from scripts.registry import mlflow, reader, versions
from scripts.registry.gate import Measurement
from scripts.registry.logged import Logged
from scripts.registry.mlflow import RegistryError
from tests.promotion.conftest import CURRENT, OLD, ON_DISK, Server, use
from tests.promotion.model import Files, Model

pytestmark = [
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:.*transition_model_version_stage"),
]

# --- read back before production


@pytest.mark.parametrize("accident", ["lost", "changed"])
def test_a_file_that_the_server_lost_is_never_put_into_production(model: Model, accident: str) -> None:
    """If the server has not the file that was sent, nothing is decided; the next run sends it again and decides."""
    model.publish(0.5)
    files = model.files(0.9)
    run_id = model.upload(files)
    found = r"its file is gone" if accident == "lost" else "its file is not the one that was registered"
    lose_or_change(model, run_id, accident)
    with pytest.raises(
        RegistryError, match=f"does not have the file that was sent as version 2 of .*: {found}"
    ) as error:
        model.register(files, run_id)
    assert "nothing was decided: the next run sends it again" in str(error.value) and "\n" not in str(error.value)
    assert "decision" not in model.state().version(2).tags
    assert (model.stages()[1], model.state().aliases["production"]) == ("Production", 1)
    assert model.publish_files(files).stage == "Production"
    model.check_at_rest()
    assert kept(model, run_id, "model/model.json") == files.digest


def lose_or_change(model: Model, run_id: str, accident: str) -> None:
    if accident == "lost":
        model.in_container(f"rm /tmp/artifacts/*/{run_id}/artifacts/model/model.json")
    else:
        model.in_container(
            f"echo other > /tmp/artifacts/$(cd /tmp/artifacts; echo */{run_id})/artifacts/model/model.json"
        )


def kept(model: Model, run_id: str, path: str) -> str:
    """Return the digest of what the server has."""
    folder = model.folder / "kept"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return sha256(mlflow.artifact(model.client.get_run(run_id), path, folder))


def test_a_first_model_is_read_back_too(model: Model) -> None:
    """With nothing in production yet, a file that the server does not have goes nowhere either."""
    files = model.files(0.9)
    run_id = model.upload(files)
    lose_or_change(model, run_id, "lost")
    with pytest.raises(RegistryError, match="does not have the file that was sent as version 1"):
        model.register(files, run_id)
    assert model.stages() == {1: "None"}
    assert model.publish_files(files).stage == "Production"


def test_a_model_that_stays_in_staging_is_not_read_back(model: Model) -> None:
    """A worse model's file is not downloaded: it is put nowhere."""
    model.publish(0.9)
    files = model.files(0.5)
    run_id = model.upload(files)
    lose_or_change(model, run_id, "lost")
    assert model.register(files, run_id).stage == "Staging"


def test_another_machines_lost_file_stays_in_staging(model: Model) -> None:
    """A better version that a killed machine left, whose file is gone, blocks nobody: it stays in Staging."""
    model.publish(0.5)
    model.publish(0.9)
    model.decide(1, "rollback")
    for tag in ("decision", "decision_record", "reason"):
        model.untag(2, tag)
    model.put(2, "None")
    model.lose(2)
    assert model.publish(0.4).stage == "Staging"
    assert model.state().version(2).tags["reason"] == "it cannot be scored: its file is gone"
    model.check_at_rest()


def test_a_transfer_that_is_cut_is_noticed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a proxy passes on of a file in part is not the file: nothing is decided."""
    send = requests.Session.send

    def cut(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
        if request.method == "PUT" and request.url.endswith("model.json"):
            request.body = b"{"
            request.headers["Content-Length"] = "1"
            request.headers.pop("Transfer-Encoding", None)
        return send(session, request, **options)

    files = model.files(0.9)
    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "send", cut)
        with pytest.raises(RegistryError, match="its file is not the one that was registered"):
            model.publish_files(files)
    assert model.publish_files(files).stage == "Production"


# --- a server whose artifacts would be lost


@pytest.mark.parametrize("version", [CURRENT, OLD])
def test_a_server_that_leaves_artifacts_to_the_client_is_refused(
    version: str, server_for: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that would have the client write into its own container is refused before anything is sent."""
    use(server_for(version, ON_DISK), monkeypatch)
    model = Model(f"model-{tmp_path.name}", tmp_path)
    said = "keeps artifacts at /tmp/on-disk/.*, which is a folder of this container; expected .* --serve-artifacts"
    for _ in range(2):  # with an experiment that is new, and one that is there
        with pytest.raises(RegistryError, match=said):
            model.publish(0.9)
        with pytest.raises(RegistryError, match=said):
            model.begin()
    experiment = model.client.get_experiment_by_name(model.name)
    assert list(model.client.search_runs([experiment.experiment_id])) == []
    assert reader.read(model.name) is None
    assert not Path("/tmp/on-disk").exists()


# --- what MLflow makes of a model

LOADER = """
import json
from pathlib import Path


class Doubling:
    def predict(self, data):
        return [2 * x for x in data["x"]]


def _load_pyfunc(path):
    path = Path(path)
    assert [*path.iterdir()] if path.is_dir() else json.loads(path.read_text())
    return Doubling()
"""
LOAD = """
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/{name}/{version}")
print(mlflow.__version__, model.predict(pandas.DataFrame({{"x": [1.0, 2.0]}})), model.metadata.get_input_schema())
"""


@pytest.fixture
def loadable(model: Model) -> Callable[[Path], Files]:
    """Make a candidate of a file or folder, with a loader and a signature."""

    def make(file: Path) -> Files:
        folder = model.folder / f"loadable-{next(model.made)}"
        folder.mkdir()
        (folder / "loader.py").write_text(LOADER)
        signature = {"inputs": '[{"type": "double", "name": "x", "required": true}]', "outputs": '[{"type": "double"}]'}
        (folder / "signature.json").write_text(json.dumps(signature))
        given = {
            "loader": folder / "loader.py",
            "signature": folder / "signature.json",
            "requirements": ["numpy==2.5.5"],
        }
        return Files(replace(model.files(0.9).candidate, file=file, **given), Measurement({"accuracy": 0.9}))

    return make


@pytest.mark.parametrize("client", [CURRENT, OLD])
def test_every_mlflow_loads_the_model(
    model: Model,
    server: Server,
    loadable: Callable[[Path], Files],
    image: Callable[[str], str],
    tmp_path: Path,
    client: str,
) -> None:
    """`mlflow.pyfunc.load_model` of MLflow 2.7.1 and of the current one loads a version by its own loader."""
    file = tmp_path / "model.json"
    file.write_text('{"factor": 2}')
    outcome = model.publish_files(loadable(file))
    assert outcome.stage == "Production"
    with_mlflow = os.environ["RUNNER_IMAGE"] if client == CURRENT else image("Dockerfile.mlflow-old")
    code = LOAD.format(name=model.name, version=outcome.version)
    options = ["--network", f"pipeline-{os.environ['CLONE']}", "--env", "HOME=/tmp", "--workdir", "/tmp"]
    options += ["--env", f"MLFLOW_TRACKING_URI={server.address}", "--env", "no_proxy=*"]
    done = subprocess.run(
        ["docker", "run", "--rm", "--init", *options, with_mlflow, "python", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[2.0, 4.0]" in done.stdout and "'x'" in done.stdout
    assert done.stdout.startswith("2.7.1" if client == OLD else "3.")


@pytest.mark.parametrize("many", [50, pytest.param(500, marks=pytest.mark.deep)])
def test_a_folder_of_many_files_is_a_model(
    model: Model, loadable: Callable[[Path], Files], tmp_path: Path, many: int
) -> None:
    """A folder of many files is sent, read back, and measured again as one model."""
    folder = tmp_path / "weights"
    for number in range(many):
        file = folder / f"layer-{number // 10}" / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{model.name} {number}")
    files = loadable(folder)
    outcome = model.publish_files(files)
    assert outcome.stage == "Production"
    assert model.state().version(1).tags["model_file"] == "model/weights"
    assert kept(model, outcome.run_id, "model/weights") == files.digest
    measured: list[tuple[str, str]] = []

    def measure(path: Path) -> Measurement:
        measured.append((path.name, sha256(path)))
        return Measurement({"accuracy": 0.6})

    model.measure = measure
    assert model.publish(0.7, scorer="stages/score:2").stage == "Production"
    assert measured == [("weights", files.digest)]


def test_a_model_without_a_loader_is_its_file_alone(model: Model) -> None:
    """Without a loader the folder model/ has the file and nothing else."""
    run_id = model.upload(model.files(0.9))
    folder = mlflow.artifact(model.client.get_run(run_id), "model", model.folder)
    assert [path.name for path in folder.iterdir()] == ["model.json"]


def test_values_that_old_servers_refuse_are_made_to_fit(model: Model) -> None:
    """Long parameters, many of everything, and odd names are logged on each server, in calls as large as it takes."""
    outcome = model.publish(0.9)
    logged = Logged(
        {f"p{number}": "x" * 3000 for number in range(150)} | {"a:b?c": "1"},
        {f"m{number}": float(number) for number in range(1500)} | {"recall@5": 0.5},
        [("loss", step, 1 / (1 + step)) for step in range(2100)],
        {},
    )
    tags = {f"image.stage-{number}": "x" * 6000 for number in range(120)} | {"dvc_lock_sha256": "2" * 64}
    versions.complete(model.settings, outcome, logged, tags)
    run = model.client.get_run(outcome.run_id)
    assert run.data.params["p149"] == "x" * 499 + "…" and run.data.params["a_b_c"] == "1"
    assert (run.data.metrics["m1499"], run.data.metrics["recall_5"]) == (1499, 0.5)
    assert len(model.client.get_metric_history(outcome.run_id, "loss")) == 2100
    assert model.state().version(1).tags["dvc_lock_sha256"] == "2" * 64


def test_a_long_list_of_the_scorers_parameters_is_a_tag(model: Model) -> None:
    """Parameters of a scorer that are longer than a tag are compared all the same."""
    model.scored_by = model.scored_by._replace(params=json.dumps({"names": ["x" * 100] * 100}))
    model.publish(0.5)
    assert model.publish(0.6).stage == "Production"
    assert model.measurements == []
    model.scored_by = model.scored_by._replace(params=json.dumps({"names": ["y" * 100] * 100}))
    model.publish(0.7)
    assert model.measurements == ["model.json"]
