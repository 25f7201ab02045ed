"""The whole pipeline on the real engine: what `make run` promises."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import Clone, Make, images_built, stages_line

pytestmark = pytest.mark.docker

ALL = "ran ingest, preprocess, train, evaluate"
NOTHING = "nothing to run, all stages are up to date"
OUTPUTS = [
    "data/raw/iris.csv",
    "data/processed/train.csv",
    "data/processed/test.csv",
    "models/model.skops",
    "models/model_metadata.json",
    "metrics/metrics.json",
    "metrics/confusion.csv",
    "metrics/roc.csv",
    "metrics/importance.csv",
]


@pytest.fixture
def clone(started: tuple[Clone, Make]) -> Iterator[Clone]:
    """The started clone, its files put back and its outputs up to date after the test."""
    clone = started[0]
    yield clone
    clone.restore()
    clone.make("run")


def contents(clone: Clone) -> dict[str, bytes]:
    return {name: (clone.path / name).read_bytes() for name in OUTPUTS}


def containers_started_since(clone: Clone, moment: datetime) -> list[str]:
    """The role or the stage of each container of `clone` that was started since `moment`."""
    listed = clone.docker(
        "events", "--since", moment.isoformat(), "--until", datetime.now(UTC).isoformat(),
        "--filter", "event=start", "--format", "{{json .Actor.Attributes}}",
    )  # fmt: skip
    found = [json.loads(line) for line in listed]
    return [a.get("pipeline.stage") or a.get("pipeline.role") or a["com.docker.compose.service"] for a in found]


# --- the first run


def test_first_run_reports_in_five_lines(started: tuple[Clone, Make]) -> None:
    """A first `make run` says in five lines what it did and where to look."""
    report = started[1].stdout.strip().splitlines()[-5:]
    assert [line.split()[0] for line in report] == ["stages", "model", "decision", "look", "then"]
    assert ALL in report[0]
    assert "iris-classifier version 1, published now" in report[1]
    assert report[2].endswith("Production: no version was in production")
    assert re.search(r"http://127\.0\.0\.1:\d+/#/models/iris-classifier", report[3])


def test_first_run_leaves_the_outputs(started: tuple[Clone, Make]) -> None:
    """The run leaves 150 raw rows, 120 and 30 split by class, a model, its metadata and its metrics."""
    path = started[0].path
    rows = {name: pd.read_csv(path / name) for name in OUTPUTS[:3]}
    assert [len(frame) for frame in rows.values()] == [150, 120, 30]
    assert set(rows["data/processed/test.csv"]["species"].value_counts()) == {10}
    assert all((path / name).stat().st_size for name in OUTPUTS)
    metrics = json.loads((path / "metrics/metrics.json").read_text())
    assert (
        metrics["accuracy"] == json.loads((path / "models/model_metadata.json").read_text())["metrics"]["test_accuracy"]
    )


def test_outputs_belong_to_the_owner_of_the_clone(started: tuple[Clone, Make]) -> None:
    """Every file below the clone has the owner of the clone."""
    path = started[0].path
    owner = (path.stat().st_uid, path.stat().st_gid)
    strangers = [p for p in path.rglob("*") if (p.lstat().st_uid, p.lstat().st_gid) != owner]
    assert not strangers


def test_the_committed_lock_is_what_a_run_gives(started: tuple[Clone, Make]) -> None:
    """A run from nothing changes no committed file: dvc.yaml and dvc.lock are what every machine gets."""
    assert started[0].git("status", "--porcelain") == ""


def test_the_first_model_is_in_production(started: tuple[Clone, Make]) -> None:
    """The model is registered once, in Production by stage and by alias, with what it came from as tags."""
    clone = started[0]
    (version,) = clone.registry()
    assert (version["stage"], version["aliases"]) == ("Production", ["production"])
    tags = version["tags"]
    model = clone.path / "models/model.skops"
    assert tags["model_sha256"] == subprocess.check_output(["sha256sum", model], text=True).split()[0]
    assert (
        tags["dvc_lock_sha256"] == subprocess.check_output(["sha256sum", clone.path / "dvc.lock"], text=True).split()[0]
    )
    assert tags["git_commit"] == clone.git("rev-parse", "HEAD").strip()
    assert tags["git_dirty"] == "false"
    assert tags["decision"] == "Production"
    assert 0 < float(tags["test_accuracy"]) < 1
    assert len(tags["test_data_sha256"]) == 64


def test_the_run_in_mlflow_holds_everything(started: tuple[Clone, Make]) -> None:
    """The run has parameters, metrics, both data sets, the model that DVC tracks, the pipeline's files and pictures."""
    clone = started[0]
    run_id = clone.registry()[0]["run_id"]
    printed = clone.python(
        "import json, hashlib, mlflow\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        f"run = client.get_run('{run_id}')\n"
        "def walk(path=None):\n"
        "    for item in client.list_artifacts(run.info.run_id, path):\n"
        "        yield from walk(item.path) if item.is_dir else [item.path]\n"
        "model = client.download_artifacts(run.info.run_id, 'model/model.skops')\n"
        "flower = {'sepal_length': [5.1], 'sepal_width': [3.5], 'petal_length': [1.4], 'petal_width': [0.2]}\n"
        "import pandas\n"
        "loaded = mlflow.pyfunc.load_model('models:/iris-classifier@production')\n"
        "print('JSON', json.dumps(dict(params=run.data.params, metrics=run.data.metrics, status=run.info.status,\n"
        "    data=[d.dataset.name for d in run.inputs.dataset_inputs], files=sorted(walk()),\n"
        "    model=hashlib.sha256(open(model, 'rb').read()).hexdigest(),\n"
        "    predicted=list(loaded.predict(pandas.DataFrame(flower))))))\n"
    )
    run = json.loads(re.search(r"JSON (.*)", printed)[1])
    assert run["status"] == "FINISHED"
    assert run["params"]["n_estimators"] == "100"
    assert {"test_accuracy", "accuracy", "f1_macro", "log_loss"} <= run["metrics"].keys()
    assert sorted(run["data"]) == ["test", "train"]
    assert {f"pipeline/{name}" for name in ("dvc.lock", "dvc.yaml", "params.yaml", "images.json")} <= set(run["files"])
    assert {f"evaluation/{name}.png" for name in ("confusion", "roc", "importance")} <= set(run["files"])
    assert "pipeline/uncommitted.patch" not in run["files"]
    assert run["model"] == subprocess.check_output(["sha256sum", clone.path / OUTPUTS[3]], text=True).split()[0]
    assert run["predicted"] == ["setosa"]


# --- the second run


def test_second_run_does_nothing(clone: Clone) -> None:
    """With nothing changed no stage runs, no container but the runner starts, and nothing is registered twice."""
    before = datetime.now(UTC)
    done = clone.make("run")
    started = containers_started_since(clone, before)
    assert stages_line(done) == NOTHING
    assert "version 1, published before" in done.stdout
    assert started == ["runner"]
    assert len(clone.registry()) == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "built", "ran"),
    [
        ("stages/preprocess/preprocess.py", "TARGET =", "# a comment\nTARGET =", ["preprocess"], "ran preprocess"),
        ("stages/train/requirements.txt", "#    make lock", "#    make lock, a comment", ["train"], "ran train"),
        ("params.yaml", "n_estimators: 100", "n_estimators: 101", [], "ran train, evaluate"),
        ("stages/train/test_train.py", '"""', '"""A comment. ', [], NOTHING),
        ("stages/README.md", "# ", "# A comment. ", [], NOTHING),
        ("params.yaml", "min_improvement: 0.0", "min_improvement: 0.1", [], NOTHING),
        (".env.example", "STAGE_MEMORY=2g", "STAGE_MEMORY=1g", [], NOTHING),
    ],
)
def test_an_edit_runs_exactly_what_depends_on_it(
    clone: Clone, name: str, old: str, new: str, built: list[str], ran: str
) -> None:
    """An edit rebuilds the images that hold the file and runs their stages, and those whose inputs then changed."""
    clone.edit(name, old, new)
    done = clone.make("run")
    assert images_built(done) == built
    assert stages_line(done) == ran


@pytest.mark.parametrize(
    ("first", "name", "old", "new"),
    [
        ("n_estimators: 102", "params.yaml", "min_samples_leaf: 1", "min_samples_leaf: 2"),
        ("n_estimators: 104", "stages/train/train.py", "def fit(", "# edited during the run\ndef fit("),
    ],
)
def test_an_edit_during_a_run_is_not_lost(clone: Clone, first: str, name: str, old: str, new: str) -> None:
    """What is edited while train runs is not taken for what it ran with: the next run runs train again."""
    clone.edit("params.yaml", "n_estimators: 100", first)
    with subprocess.Popen(["make", "run"], cwd=clone.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not clone.docker("container", "ls", "--quiet", "--filter", "label=pipeline.stage=train"):
            assert run.poll() is None, "the run ended without train"
            time.sleep(0.05)
        clone.edit(name, old, new)
    assert run.returncode == 0
    assert stages_line(clone.make("run")).startswith("ran train")


def test_two_runs_from_scratch_give_the_same_bytes(clone: Clone) -> None:
    """Without cache, outputs and lock, a run gives byte for byte what the first one gave."""
    before = contents(clone)
    clone.make("clean")
    subprocess.run(["rm", "-rf", ".dvc/cache", "dvc.lock"], cwd=clone.path, check=True)
    assert stages_line(clone.make("run")) == ALL
    assert contents(clone) == before
    assert clone.git("status", "--porcelain") == ""


def test_outputs_that_were_deleted_come_back(clone: Clone) -> None:
    """`make clean` deletes the outputs; the next run restores them from DVC's cache without running a stage."""
    before = contents(clone)
    clone.make("clean")
    assert not any((clone.path / name).exists() for name in OUTPUTS)
    assert stages_line(clone.make("run")) == NOTHING
    assert contents(clone) == before


def test_one_stage_and_what_it_needs(clone: Clone) -> None:
    """`make run-preprocess` runs preprocess, and neither train nor evaluate."""
    clone.edit("params.yaml", "seed: 3 ", "seed: 4 ")
    done = clone.make("run-preprocess")
    assert re.findall(r"(\w+) +\| starts in", done.stdout) == ["preprocess"]


def test_a_failing_stage_says_why_in_the_last_line(clone: Clone) -> None:
    """A bad value stops the run with one sentence that names key, value and what is allowed, and the exit code 2."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: -1")
    done = clone.make("run", check=False)
    assert done.returncode == 2
    sentence = done.stdout.strip().splitlines()[-2]  # make's own line comes last
    assert sentence == (
        "error: train: train.n_estimators is '-1'; expected greater than or equal to 1: correct it in params.yaml"
    )


def test_a_stage_may_print_any_bytes(clone: Clone) -> None:
    """What a stage prints that is no UTF-8 is shown as well as it can be, and stops nothing."""
    clone.edit("stages/preprocess/preprocess.py", "TARGET =", "import os\n\nos.write(1, b'caf\\xe9\\n')\nTARGET =")
    done = clone.make("run")
    assert "caf\ufffd\n" in done.stdout
    assert stages_line(done) == "ran preprocess"


def test_a_server_that_is_away_costs_no_training(clone: Clone) -> None:
    """Without its MLflow server train succeeds, the run fails in one sentence, and the next run publishes alone."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 103")
    away = clone.make("run", check=False, MLFLOW_TRACKING_URI="http://mlflow:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert away.returncode == 2
    assert "evaluate | starts in" in away.stdout
    assert "error: the model is trained, but not published" in away.stdout.strip().splitlines()[-2]
    back = clone.make("run")
    assert stages_line(back) == NOTHING
    assert "published now" in back.stdout


def test_an_interrupted_run_leaves_no_container(clone: Clone) -> None:
    """A run that is interrupted while train runs leaves no stage's container, and the next run goes on from there."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 5000")
    run = subprocess.Popen(
        ["make", "run"], cwd=clone.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    stages = ["container", "ls", "--all", "--quiet", "--filter", "label=pipeline.stage"]
    while not clone.docker(*stages):
        assert run.poll() is None, "the run ended without train"
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    printed, _ = run.communicate()
    assert run.returncode != 0
    assert "interrupted" in printed and "Traceback" not in printed
    assert not clone.docker(*stages)
    clone.restore()
    assert stages_line(clone.make("run")) == NOTHING


# --- other clones


def test_data_travels_by_the_remote(clone: Clone, clone_at: Callable[[str], Clone], tmp_path: Path) -> None:
    """What one clone pushed to a folder, another one at a path with a space pulls and runs no stage, even lockless."""
    remote = clone.path.parent / "remote"
    remote.mkdir()
    clone.make("push", DVC_REMOTE_URL=str(remote))
    other = clone_at("other clone")
    done = other.make("pull", "run", DVC_REMOTE_URL=str(remote))
    assert stages_line(done) == NOTHING
    assert contents(other) == contents(clone)
    (other.path / "dvc.lock").unlink()
    assert stages_line(other.make("run", DVC_REMOTE_URL=str(remote))) == NOTHING
    assert other.git("status", "--porcelain") == ""


def test_the_commands_of_dvc_yaml_work_as_typed(clone: Clone) -> None:
    """Each `docker run` of dvc.yaml, typed as it stands into `make shell`, gives the outputs that the run gave."""
    before = contents(clone)
    stages = yaml.safe_load((clone.path / "dvc.yaml").read_text())["stages"]
    typed = "set -e\n" + "\n".join("\n".join(stage["cmd"]) for stage in stages.values()) + "\n"
    clone.make("clean")
    clone.make("shell", stdin=typed)
    assert contents(clone) == before


def test_clean_all_leaves_nothing_of_its_own(clone_at: Callable[[str], Clone]) -> None:
    """`make clean-all` asks first; then containers, network, claimed images and .local of the clone are gone."""
    clone = clone_at("cleaned")
    clone.make("ui", "build")
    asked = clone.make("clean-all", check=False, stdin="\n")
    assert asked.returncode == 2
    assert (clone.path / ".local").exists()
    clone.make("clean-all", "YES=1")
    assert not clone.docker("container", "ls", "--all", "--quiet")
    assert not clone.docker("network", "ls", "--quiet")
    claims = ["docker", "image", "ls", "--quiet", f"stages/clone-{clone.label.partition('=')[2]}"]
    assert subprocess.check_output(claims) == b""
    assert not (clone.path / ".local").exists()
