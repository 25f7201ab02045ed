"""The whole pipeline on the real engine: what `make run` promises."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import pytest

from tests.conftest import ALL, NOTHING, OUTPUTS, Clone, Make, images_built, last_line, stages_line

pytestmark = pytest.mark.docker

RAW, TRAIN, TEST, MODEL = OUTPUTS[:4]


@pytest.fixture(scope="module", autouse=True)
def left_as_it_was(started: tuple[Clone, Make]) -> Iterator[None]:
    """Bring the outputs of the started clone up to date after the last test."""
    yield
    started[0].make("run")


@pytest.fixture
def clone(started: tuple[Clone, Make]) -> Iterator[Clone]:
    """The started clone, its files put back after the test; its outputs may be those of another test."""
    yield started[0]
    started[0].restore()


@pytest.fixture
def up_to_date(clone: Clone) -> None:
    """Bring the outputs of the started clone up to date before the test."""
    clone.make("run")


def contents(clone: Clone) -> dict[str, bytes]:
    return {name: (clone.path / name).read_bytes() for name in OUTPUTS}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def containers_started_since(clone: Clone, moment: datetime) -> list[str]:
    """Return the role or the stage of each container of `clone` that was started since `moment`."""
    listed = clone.docker(
        "events", "--since", moment.isoformat(), "--until", datetime.now(UTC).isoformat(),
        "--filter", "event=start", "--format", "{{json .Actor.Attributes}}",
    )  # fmt: skip
    found = [json.loads(line) for line in listed]
    return [a.get("pipeline.stage") or a.get("pipeline.role") or a["com.docker.compose.service"] for a in found]


@contextmanager
def while_train_runs(clone: Clone) -> Iterator[subprocess.Popen[str]]:
    """Begin a `make run`; run the block as soon as train has printed its first metrics."""
    environ = {name: value for name, value in os.environ.items() if name != "PWD"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = ["make", "run"]
    with subprocess.Popen(command, cwd=clone.path, env=environ, start_new_session=True, **pipes) as run:
        assert any(re.match(r"train +\| train_accuracy=", line) for line in run.stdout), "the run ended without train"
        yield run


# --- the first run


def test_first_run_reports_in_five_lines(started: tuple[Clone, Make]) -> None:
    """A first `make run` says in five lines what it did and where to look."""
    report = started[1].stdout.strip().splitlines()[-5:]
    assert [line.split()[0] for line in report] == ["stages", "model", "decision", "look", "then"]
    assert ALL in report[0]
    assert report[1].endswith("iris-classifier version 1, published now: accuracy 0.9000")
    assert report[2].endswith("Production: no version was in production")
    assert re.search(r"http://127\.0\.0\.1:\d+/#/models/iris-classifier", report[3])


def test_first_run_leaves_the_outputs(started: tuple[Clone, Make]) -> None:
    """The run leaves all outputs: 150 raw rows, 120 and 30 split by class, a model and a score for each test row."""
    path = started[0].path
    rows = {name: list(csv.DictReader((path / name).open())) for name in (RAW, TRAIN, TEST, "metrics/rows.csv")}
    assert [len(found) for found in rows.values()] == [150, 120, 30, 30]
    assert set(Counter(row["species"] for row in rows[TEST]).values()) == {10}
    assert all((path / name).stat().st_size for name in OUTPUTS)
    hits = [int(row["score"]) for row in rows["metrics/rows.csv"]]
    assert json.loads((path / "metrics/metrics.json").read_text())["accuracy"] == sum(hits) / 30


def test_outputs_belong_to_the_owner_of_the_clone(started: tuple[Clone, Make]) -> None:
    """Every file below the clone has the owner of the clone."""
    path = started[0].path
    owner = (path.stat().st_uid, path.stat().st_gid)
    strangers = [p for p in path.rglob("*") if (p.lstat().st_uid, p.lstat().st_gid) != owner]
    assert not strangers


def test_a_run_changes_no_file_but_the_lock(started: tuple[Clone, Make]) -> None:
    """After a run from nothing dvc.lock is all that there is to commit: outputs are ignored, dvc.yaml is the same."""
    assert started[0].changes() == []
    assert started[0].git("status", "--porcelain").split() == ["A", "dvc.lock"]


@pytest.fixture(scope="module")
def first_version(started: tuple[Clone, Make]) -> dict:
    """Return the one version that the registry has after the first run."""
    (version,) = started[0].registry()
    return version


def test_the_first_model_is_in_production(started: tuple[Clone, Make], first_version: dict) -> None:
    """The model is registered once, in Production by stage and by alias, with what it came from as tags."""
    clone, tags = started[0], first_version["tags"]
    assert (first_version["stage"], first_version["aliases"]) == ("Production", ["production"])
    assert tags["model_sha256"] == sha256(clone.path / MODEL)
    assert tags["model_file"] == "model/model.json"
    assert tags["git_commit"] == clone.git("rev-parse", "HEAD").strip()
    assert tags["git_dirty"] == "false"
    assert tags["decision"] == "Production"
    assert float(tags["accuracy"]) == 0.9
    assert tags["scorer_image"] == re.search(r"stages/evaluate:\w+", (clone.path / "dvc.yaml").read_text())[0]
    assert json.loads(tags["scorer_params"]) == {"importance_repeats": 2, "seed": 42}
    assert len(tags["test_data_sha256"]) == 64


@pytest.fixture(scope="module")
def in_mlflow(started: tuple[Clone, Make], first_version: dict) -> dict:
    """Return what MLflow has of the first version's run, and what the model answers that was loaded from there."""
    printed = started[0].python(
        "import json, hashlib, mlflow, pandas\n"
        "from pathlib import Path\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        f"run = client.get_run('{first_version['run_id']}')\n"
        "def walk(path=None):\n"
        "    for item in client.list_artifacts(run.info.run_id, path):\n"
        "        yield from walk(item.path) if item.is_dir else [item.path]\n"
        "def sha256(path):\n"
        "    return hashlib.sha256(Path(client.download_artifacts(run.info.run_id, path)).read_bytes()).hexdigest()\n"
        "flower = {'sepal_length': [5.1], 'sepal_width': [3.5], 'petal_length': [1.4], 'petal_width': [0.2]}\n"
        "loaded = mlflow.pyfunc.load_model('models:/iris-classifier@production')\n"
        "print('JSON', json.dumps(dict(params=run.data.params, metrics=run.data.metrics, status=run.info.status,\n"
        "    data={d.dataset.name: d.tags[0].value for d in run.inputs.dataset_inputs}, files=sorted(walk()),\n"
        "    curve=[m.step for m in client.get_metric_history(run.info.run_id, 'train_accuracy')],\n"
        "    model=sha256('model/model.json'), lock=sha256('pipeline/dvc.lock'),\n"
        "    predicted=list(loaded.predict(pandas.DataFrame(flower))))))\n"
    )
    return json.loads(re.search(r"JSON (.*)", printed)[1])


def test_the_run_in_mlflow_has_all_that_led_to_the_model(first_version: dict, in_mlflow: dict) -> None:
    """The run has the parameters of all stages, each once, both data sets, and the code's and the data's record."""
    assert in_mlflow["status"] == "FINISHED"
    params = in_mlflow["params"]
    assert (params["n_estimators"], params["test_size"], params["importance_repeats"]) == ("100", "0.2", "2")
    seeds = {name: value for name, value in params.items() if "seed" in name}
    assert seeds == {"preprocess.seed": "3", "train.seed": "58", "evaluate.seed": "42"}
    assert in_mlflow["data"] == {"train_csv": "training", "test_csv": "testing"}
    record = {f"pipeline/{name}" for name in ("dvc.lock", "dvc.yaml", "params.yaml", "images.json")}
    assert record <= set(in_mlflow["files"])
    assert "pipeline/uncommitted.patch" not in in_mlflow["files"]
    assert in_mlflow["lock"] == first_version["tags"]["dvc_lock_sha256"]


def test_the_run_in_mlflow_has_all_that_was_measured(in_mlflow: dict) -> None:
    """The run has each number of the metrics file once, the curve of the training, the plots and their pictures."""
    metrics = in_mlflow["metrics"]
    assert {"accuracy", "f1_macro", "log_loss", "per_class.setosa.f1", "train_accuracy"} <= metrics.keys()
    assert metrics["accuracy"] == 0.9
    assert not [name for name in metrics if name.startswith("test_")]
    assert set(in_mlflow["curve"]) == {10, 20, 30, 40, 50, 60, 70, 80, 90, 100}
    for name in ("confusion", "roc", "importance", "training"):
        assert {f"evaluation/{name}.csv", f"evaluation/{name}.png"} <= set(in_mlflow["files"])


def test_the_model_in_mlflow_is_the_one_on_disk(started: tuple[Clone, Make], in_mlflow: dict) -> None:
    """The run's model is the file that DVC tracks, byte for byte, and MLflow loads it by the project's loader."""
    assert in_mlflow["model"] == sha256(started[0].path / MODEL)
    assert in_mlflow["predicted"] == ["setosa"]


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


@pytest.mark.usefixtures("up_to_date")
def test_a_third_run_knows_what_the_second_saw(clone: Clone) -> None:
    """What a run with nothing to do has seen is enough for the next one, until an output or the server is gone."""
    clone.make("run")
    note = clone.path / ".local" / "at-rest.json"
    seen = note.stat().st_mtime_ns
    assert stages_line(clone.make("run")) == NOTHING and note.stat().st_mtime_ns == seen
    (clone.path / MODEL).unlink()
    assert stages_line(clone.make("run")) == NOTHING and (clone.path / MODEL).exists()
    clone.make("run")
    seen = note.stat().st_mtime_ns
    clone.make("down")
    started_again = clone.make("run")
    assert "starting the local MLflow server" in started_again.stdout and note.stat().st_mtime_ns != seen
    assert "version 1, published before" in started_again.stdout


@pytest.mark.parametrize(
    ("name", "old", "new", "built", "ran"),
    [
        ("stages/preprocess/preprocess.py", "TARGET =", "# NEW\nTARGET =", ["preprocess"], "ran preprocess"),
        ("stages/train/requirements.txt", "# ", "# NEW ", ["train"], "ran train"),
        ("params.yaml", "n_estimators: 100", "n_estimators: 101", [], "ran train, evaluate"),
    ],
)
def test_an_edit_runs_exactly_what_depends_on_it(
    clone: Clone, name: str, old: str, new: str, built: list[str], ran: str
) -> None:
    """An edit rebuilds the images that hold the file and runs their stages, and those whose inputs then changed."""
    clone.edit(name, old, new.replace("NEW", token_hex(8)))  # in an image that no other clone has built
    done = clone.make("run")
    assert images_built(done) == built
    assert stages_line(done) == ran


@pytest.mark.usefixtures("up_to_date")
def test_an_edit_of_anything_else_runs_nothing(clone: Clone) -> None:
    """Tests, documents, the gate, limits and all programs of the machinery can be edited: that builds and runs nothing.

    Below scripts/, each program gets a comment, and the gate's message another word.
    """
    clone.edit("stages/train/test_train.py", '"""', '"""A comment. ')
    clone.edit("stages/README.md", "# ", "# A comment. ")
    clone.edit("params.yaml", "min_improvement: 0.0", "min_improvement: 0.1")
    clone.edit(".env.example", "STAGE_MEMORY=2g", "STAGE_MEMORY=1g")
    clone.edit("scripts/registry/gate.py", '"no version was in production"', '"nothing was in production"')
    for path in [*(clone.path / "scripts").rglob("*.py"), *(clone.path / "scripts").rglob("*.sh")]:
        with path.open("a") as file:
            file.write("# a comment\n")
    before = datetime.now(UTC)
    done = clone.make("run")
    assert stages_line(done) == NOTHING
    assert images_built(done) == []
    assert containers_started_since(clone, before) == ["runner"]


@pytest.mark.parametrize(
    ("first", "name", "old", "new"),
    [
        pytest.param(
            *("n_estimators: 1002", "params.yaml", "min_samples_leaf: 1", "min_samples_leaf: 2"), marks=pytest.mark.deep
        ),
        ("n_estimators: 1004", "stages/train/train.py", "def fit(", "# edited during the run\ndef fit("),
    ],
)
def test_an_edit_during_a_run_is_not_lost(clone: Clone, first: str, name: str, old: str, new: str) -> None:
    """What is edited while train runs is not taken for what it ran with: the next run runs train again."""
    clone.edit("params.yaml", "n_estimators: 100", first)
    with while_train_runs(clone) as run:
        clone.edit(name, old, new)
        run.stdout.read()
    assert run.returncode == 0
    assert stages_line(clone.make("run")).startswith("ran train")


@pytest.mark.usefixtures("up_to_date")
def test_two_runs_from_scratch_give_the_same_bytes(clone: Clone) -> None:
    """Without cache, outputs and lock, a run gives byte for byte what the first one gave, dvc.lock included."""
    before = contents(clone)
    clone.make("clean")
    subprocess.run(["rm", "-rf", ".dvc/cache", "dvc.lock"], cwd=clone.path, check=True)
    assert stages_line(clone.make("run")) == ALL
    assert contents(clone) == before
    assert clone.changes() == []


@pytest.mark.usefixtures("up_to_date")
def test_outputs_that_were_deleted_come_back(clone: Clone) -> None:
    """`make clean` deletes the outputs; the next run restores them from DVC's cache without running a stage."""
    before = contents(clone)
    clone.make("clean")
    assert not any((clone.path / name).exists() for name in OUTPUTS)
    assert stages_line(clone.make("run")) == NOTHING
    assert contents(clone) == before


# --- one stage


def test_one_stage_and_what_it_needs(clone: Clone) -> None:
    """`make run-preprocess` runs preprocess, and neither train nor evaluate."""
    clone.edit("params.yaml", "seed: 3 ", "seed: 4 ")
    done = clone.make("run-preprocess")
    assert re.findall(r"(\w+) +\| starts in", done.stdout) == ["preprocess"]
    assert stages_line(done) == "ran preprocess"


def test_the_stage_of_a_model_is_scored_and_published(clone: Clone) -> None:
    """`make run-train`, which makes the model, also scores, publishes and decides."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 106")
    done = clone.make("run-train")
    assert stages_line(done) == "ran train, evaluate"
    assert "published now" in done.stdout
    assert re.search(r"^decision +(Production|Staging): ", done.stdout, re.M)


# --- publishing by itself


@pytest.mark.usefixtures("up_to_date")
def test_publish_refuses_what_has_changed(clone: Clone) -> None:
    """`make publish` runs no stage: where one has changed since the last run, a sentence says which and what to do."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 107")
    before = datetime.now(UTC)
    done = clone.make("publish", check=False)
    assert done.returncode == 2
    assert last_line(done) == (
        "error: train, evaluate changed since the last run; expected models that are up to date: 'make run'"
    )
    assert containers_started_since(clone, before) == ["runner"]


def test_publish_publishes_what_is_on_disk(clone: Clone) -> None:
    """A plain `dvc repro` in `make shell` publishes nothing and says what does: `make publish`, which runs no stage."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 108")
    typed = clone.make("shell", stdin="dvc repro --quiet\n")
    assert "'make publish' publishes their models" in typed.stdout
    before = datetime.now(UTC)
    done = clone.make("publish")
    assert containers_started_since(clone, before) == ["runner"]
    (number,) = re.findall(
        r"^model +iris-classifier version (\d+), published now: accuracy 0\.9000$", done.stdout, re.M
    )
    assert f"version {number}, published before" in clone.make("publish").stdout
    assert clone.registry()[-1]["tags"]["model_sha256"] == sha256(clone.path / MODEL)


# --- what goes wrong


def test_a_failing_stage_says_why_in_the_last_line(clone: Clone) -> None:
    """A bad value stops the run with one sentence that names key, value and what is allowed, and the exit code 2."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: -1")
    done = clone.make("run", check=False)
    assert done.returncode == 2
    assert last_line(done) == (
        "error: train: train.n_estimators is '-1'; expected greater than or equal to 1: correct it in params.yaml"
    )


def test_a_stage_may_print_any_bytes(clone: Clone) -> None:
    """What a stage prints that is no UTF-8 is shown as well as it can be, and stops nothing."""
    clone.edit("stages/preprocess/preprocess.py", "TARGET =", "import os\n\nos.write(1, b'caf\\xe9\\n')\nTARGET =")
    done = clone.make("run")
    assert "caf\ufffd\n" in done.stdout
    assert stages_line(done) == "ran preprocess"


def test_a_server_that_is_away_costs_no_training(clone: Clone) -> None:
    """Without its MLflow server every stage runs, the run fails in one sentence, and the next run publishes alone."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 103")
    away = clone.make("run", check=False, MLFLOW_TRACKING_URI="http://mlflow:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert away.returncode == 2
    assert "evaluate | starts in" in away.stdout
    assert re.match(r"error: iris-classifier is trained, but not published: .*'make run' publishes it", last_line(away))
    back = clone.make("run")
    assert stages_line(back) == NOTHING
    assert "published now" in back.stdout


def test_an_interrupted_run_leaves_no_container(clone: Clone) -> None:
    """A run that is interrupted while train runs leaves no stage's container, and the next run goes on from there."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 10000")
    with while_train_runs(clone) as run:
        os.killpg(run.pid, signal.SIGINT)
        printed = run.stdout.read()
    assert run.returncode != 0
    assert "interrupted" in printed and "Traceback" not in printed
    assert not clone.docker("container", "ls", "--all", "--quiet", "--filter", "label=pipeline.stage")
    clone.restore()
    assert stages_line(clone.make("run")) == NOTHING


# --- other clones


@pytest.mark.usefixtures("up_to_date")
def test_data_travels_by_the_remote(clone: Clone, clone_at: Callable[[str], Clone]) -> None:
    """What one clone pushed to a folder, another one at a path with a space pulls and runs no stage, even lockless."""
    remote = clone.path.parent / "remote"
    remote.mkdir()
    clone.make("push", DVC_REMOTE_URL=str(remote))
    other = clone_at("other clone")
    (other.path / "dvc.lock").write_bytes((clone.path / "dvc.lock").read_bytes())
    other.git("add", "dvc.lock")
    done = other.make("pull", "run", DVC_REMOTE_URL=str(remote))
    assert stages_line(done) == NOTHING
    assert contents(other) == contents(clone)
    (other.path / "dvc.lock").unlink()
    assert stages_line(other.make("run", DVC_REMOTE_URL=str(remote))) == NOTHING
    assert other.changes() == []


@pytest.mark.deep
@pytest.mark.usefixtures("up_to_date")
def test_what_the_remote_has_is_not_run(clone: Clone, clone_at: Callable[[str], Clone]) -> None:
    """A stage whose result is on the remote is restored in another clone, by dvc.lock or by the run-cache; no other
    result is fetched."""
    remote = clone.path.parent / "remote of results"
    remote.mkdir()
    lock, made = (clone.path / "dvc.lock").read_bytes(), contents(clone)
    for trees in ("100", "40"):
        clone.edit("params.yaml", "n_estimators: 100", f"n_estimators: {trees}")
        clone.make("run", "push", DVC_REMOTE_URL=str(remote))
        clone.restore()
    other = clone_at("other results")

    def objects(folder: Path) -> list[Path]:
        return [path for path in (folder / "files").rglob("*") if path.is_file()]

    def runs(target: str, *first: str) -> str:
        """Forget all outputs, call make, and return what ran."""
        for folder in ("cache", "tmp"):
            shutil.rmtree(other.path / ".dvc" / folder, ignore_errors=True)
        other.make("clean")
        return stages_line(other.make(*first, target, DVC_REMOTE_URL=str(remote)))

    (other.path / "dvc.lock").write_bytes(lock)
    assert runs("run-train") == NOTHING  # by dvc.lock alone, nothing pulled
    assert contents(other) == made
    assert runs("run", "pull") == NOTHING
    (other.path / "dvc.lock").unlink()
    assert runs("run-train", "pull") == NOTHING  # by the run-cache
    assert len(objects(other.path / ".dvc" / "cache")) < len(objects(remote))
    other.edit("params.yaml", "n_estimators: 100", "n_estimators: 40")
    assert runs("run", "pull") == NOTHING  # what no dvc.lock of a commit names
    other.edit("params.yaml", "n_estimators: 40", "n_estimators: 41")
    assert runs("run-train", "pull") == "ran train, evaluate"


@pytest.mark.usefixtures("up_to_date")
def test_the_commands_of_dvc_yaml_work_as_typed(clone: Clone) -> None:
    """Each `docker run` of dvc.yaml, typed as it stands into `make shell`, gives the outputs that the run gave."""
    before = contents(clone)
    typed = "set -e\n" + "\n".join("\n".join(stage["cmd"]) for stage in clone.stages().values()) + "\n"
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
