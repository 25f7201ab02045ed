"""Promotion and live metrics, as the registry has them and as people see them in MLflow's pages."""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser.image import browser_image
from tests.conftest import Clone, Make, stages_line

pytestmark = pytest.mark.docker

CHANGES = {  # what is changed in params.yaml, against the defaults, for each of the four models
    "default": {},
    "worse": {"max_depth: null": "max_depth: 2"},
    "equal": {"n_estimators: 100": "n_estimators: 101"},
    "better": {"max_depth: null": "max_depth: 1"},
}


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    """Return a clone that has trained the four models of CHANGES, one after the other."""
    clone = clone_at("promotion")
    clone.git("remote", "set-url", "origin", "https://me:secret@github.com/me/iris.git")
    (clone.path / "stages/train/MODEL.md").write_text("# Iris\n\nOf no use but here.\n")
    for changes in CHANGES.values():
        clone.restore()
        for old, new in changes.items():
            clone.edit("params.yaml", old, new)
        clone.make("run")
    return clone


@pytest.fixture(scope="module")
def registered(clone: Clone) -> list[dict]:
    """Return the versions that the four runs made."""
    return clone.registry()


def test_each_model_gets_the_stage_that_it_earned(registered: list[dict]) -> None:
    """The first goes to Production, a worse and an equal one to Staging, and a better one replaces the first."""
    accuracies = [float(version["tags"]["accuracy"]) for version in registered]
    first, worse, equal, better = accuracies
    assert worse < first == equal < better
    assert first < 1
    assert [version["stage"] for version in registered] == ["Archived", "Staging", "Staging", "Production"]


def test_alias_and_stage_agree(registered: list[dict]) -> None:
    """The alias production is on the version in Production, the alias staging on the newest one in Staging."""
    assert [version["aliases"] for version in registered] == [[], [], ["staging"], ["production"]]


def test_each_decision_gives_its_reason(registered: list[dict]) -> None:
    """Each version says what was decided when it came, and why, with the numbers; later decisions do not change it."""
    told = [(version["tags"]["decision"], version["tags"]["reason"]) for version in registered]
    first, worse, _, better = (float(version["tags"]["accuracy"]) for version in registered)
    assert told == [
        ("Production", "no version was in production"),
        ("Staging", f"not better than production: its accuracy {worse:.6g} against {first:.6g} of version 1"),
        ("Staging", f"not better than production: its accuracy {first:.6g} against {first:.6g} of version 1"),
        ("Production", f"better than production: its accuracy {better:.6g} against {first:.6g} of version 1"),
    ]


def test_models_of_equal_score_differ_in_their_bytes(registered: list[dict]) -> None:
    """Each of the four models has a digest of its own."""
    assert len({version["tags"]["model_sha256"] for version in registered}) == 4


# --- in a browser


@dataclass(frozen=True)
class Browser:
    """An image with a browser that looks at the pages of a clone's MLflow server."""

    clone: Clone
    image: str

    def look(self, pages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return texts and curves of pages by name, once each shows what is wanted; see tests/browser/look.py.

        Their pictures are in .local/test-output.
        """
        output = Path(os.environ["TEST_OUTPUT"])
        command = ["docker", "run", "--rm", "--interactive", "--label", self.clone.label]
        # In the server's own network, so that its address is the one that a user on this machine has.
        command += ["--network", f"container:{mlflow(self.clone)}"]
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={output},dst={output}"]
        done = subprocess.run(
            [*command, self.image, str(output)], input=json.dumps(pages), stdout=subprocess.PIPE, text=True, check=True
        )
        return json.loads(done.stdout)


def address(clone: Clone, page: str) -> str:
    """Return the address of a page of MLflow, in the mode that shows runs and models, with the clone's password."""
    password = (clone.path / ".local" / "mlflow-password").read_text()
    return f"http://127.0.0.1:5000/?password={password}#/{page}?workflowType=machine_learning"


def mlflow(clone: Clone) -> str:
    """Return the container in which the clone's MLflow server runs."""
    service = "label=com.docker.compose.service=mlflow"
    (server,) = clone.docker("container", "ls", "--filter", service, "--format", "{{.Names}}")
    return server


@pytest.fixture(scope="module")
def browser(clone: Clone) -> Iterator[Browser]:
    """Build the browser's image; delete it after the tests."""
    with browser_image(clone) as name:
        yield Browser(clone, name)


@pytest.fixture(scope="module")
def pages(registered: list[dict], browser: Browser) -> dict[str, dict[str, Any]]:
    """Return what MLflow's pages show about the model in production."""
    run = f"experiments/1/runs/{registered[3]['run_id']}"
    at = functools.partial(address, browser.clone)
    wanted = {
        "model": {"url": at("models/iris-classifier"), "texts": ["Version 1", "Version 4", "@ production", "Limits"]},
        "version": {"url": at("models/iris-classifier/versions/4"), "texts": ["decision", "Production"]},
        "run": {"url": at(run), "texts": ["n_estimators", "log_loss", "Datasets", "Decision when"]},
        "curves": {"url": at(f"{run}/model-metrics"), "curves": {"train_accuracy": 10}},
        "runs": {"url": at("experiments/1/runs"), "texts": ["iris-classifier-"]},
        "picture": {"url": at(f"{run}/artifacts/evaluation/confusion.png"), "texts": ["KB"]},
        "files": {"url": at(f"{run}/artifacts/pipeline/dvc.yaml"), "texts": ["GENERATED"]},
    }
    return browser.look(wanted)


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_no_page_of_mlflow_logs_an_error(pages: dict[str, dict[str, Any]]) -> None:
    """On MLflow's pages of model, version, run, experiment and artifacts the browser's console tells of no error."""
    assert {name: page["errors"] for name, page in pages.items() if page["errors"]} == {}


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_models_page_shows_versions_aliases_and_reasons(pages: dict[str, dict[str, Any]]) -> None:
    """The registered model's page lists four versions with aliases, decisions and reasons."""
    shown = pages["model"]["text"]
    assert [f"Version {number}" in shown for number in range(1, 5)] == [True] * 4
    assert "@ production" in shown and "@ staging" in shown
    assert shown.count("not better than production") >= 2


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_versions_page_shows_where_it_comes_from(pages: dict[str, dict[str, Any]]) -> None:
    """The page of the version in production shows its stage, its alias, its run and its tags."""
    shown = pages["version"]["text"]
    tags = ("git_commit", "dvc_lock_sha256", "model_file", "scorer_image", "scorer_params", "test_data_sha256")
    for text in ("@ production", "Production", "Source Run", "accuracy", *tags):
        assert text in shown
    assert "MLflow Assistant" not in shown  # which would take a third of the page


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_runs_page_shows_parameters_of_all_stages(pages: dict[str, dict[str, Any]]) -> None:
    """The run's page shows each parameter of each stage once, and with the stage's name if two stages have it."""
    shown = pages["run"]["text"].splitlines()
    for name in ("source", "test_size", "n_estimators", "max_depth", "importance_repeats"):
        assert shown.count(name) == 1, name
    for stage in ("preprocess", "train", "evaluate"):
        assert shown.count(f"{stage}.seed") == 1, stage
    assert "seed" not in shown


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_runs_page_shows_each_metric_once(pages: dict[str, dict[str, Any]]) -> None:
    """The run's page shows each metric once, both data sets, and the version registered from it."""
    shown = pages["run"]["text"]
    for name in ("accuracy", "f1_macro", "log_loss", "per_class.setosa.f1", "train_accuracy"):
        assert shown.splitlines().count(name) == 1, name
    for text in ("Finished", "train_csv (", "v4"):
        assert text in shown
    assert "test_accuracy" not in shown
    assert "Failed to load" not in shown


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_runs_page_says_what_it_is(pages: dict[str, dict[str, Any]]) -> None:
    """The run's page begins with its description; the token in the remote's address is nowhere."""
    shown = pages["run"]["text"]
    for text in ("Decision when it came: Production: better than production", "made by the stage train"):
        assert text in shown
    assert "secret" not in shown


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_models_page_has_a_card(pages: dict[str, dict[str, Any]]) -> None:
    """The registered model's page has a card: the project's own words, task, classes, limits, data, use."""
    shown = pages["model"]["text"]
    for text in ("Of no use but here.", "to tell species, one of 3 classes", "setosa (40)", "models:/iris-classifier@"):
        assert text in shown


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_runs_page_draws_curves(pages: dict[str, dict[str, Any]]) -> None:
    """A column of a plots file with steps is a curve on the run's page, with each of its points once."""
    assert pages["curves"]["curves"]["train_accuracy"] == 10
    assert pages["curves"]["curves"]["accuracy"] == 0  # a number is no curve


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_the_experiments_page_lists_the_runs(pages: dict[str, dict[str, Any]]) -> None:
    """The experiment's page lists the four runs."""
    assert pages["runs"]["text"].count("iris-classifier-") >= 4


@pytest.mark.deep  # it needs a browser, whose image takes a minute
def test_artifacts_are_shown(pages: dict[str, dict[str, Any]]) -> None:
    """The run's artifacts hold the pictures, the model and the pipeline's files, and show them."""
    for text in ("confusion.png", "importance.png", "roc.png", "metrics.json", "model", "pipeline"):
        assert text in pages["picture"]["text"]
    assert "stages/train:" in pages["files"]["text"]
    assert (Path(os.environ["TEST_OUTPUT"]) / "picture.png").stat().st_size > 10_000


# --- live metrics

EPOCHS, BEFORE = 50, 40
"""What the stage prints, and how much of it before it waits for the test."""
TOKEN = hashlib.sha1(b"a token").hexdigest()
IN_PYTHON = f"""

def epochs() -> None:
    import time

    for epoch in range(1, {EPOCHS + 1}):
        while epoch > {BEFORE} and not Path("/tmp/go").exists():
            time.sleep(0.1)
        log_metric(step=epoch, loss=1 / epoch, learning_rate=0.1)
        time.sleep(0.05)

"""
IN_SHELL = f"""set -e
for epoch in $(seq {EPOCHS}); do
    while [ "$epoch" -gt {BEFORE} ] && [ ! -e /tmp/go ]; do sleep 0.1; done
    echo "::metric loss=0.$((100 - epoch)) learning_rate=0.1 step=$epoch"
    sleep 0.05
done
cp /app/model.json /app/signature.json models/
printf 'step,train_accuracy\\n1,0.9\\n' > models/training.csv
"""
DOCKERFILE = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY . /app/
ENTRYPOINT ["sh", "/app/train.sh"]
"""


def train_in_python(clone: Clone) -> None:
    """Let train print its epochs by the kit's log_metric."""
    clone.edit("stages/train/train.py", "\ndef main(", f"{IN_PYTHON}\ndef main(")
    clone.edit(
        "stages/train/train.py", "    features, rows, truth = read(", "    epochs()\n    features, rows, truth = read("
    )
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 102")


def train_in_shell(clone: Clone) -> None:
    """Make train a shell script in an image of its own, that prints its epochs by echo and knows its model."""
    folder = clone.path / "stages" / "train"
    for file in ("model.json", "signature.json"):
        shutil.copy(clone.path / "models" / file, folder)
    with (folder / "model.json").open("a") as file:
        file.write("\n")  # a model that no version has
    (folder / "train.py").unlink()
    (folder / "train.sh").write_text(IN_SHELL)
    (folder / "Dockerfile").write_text(DOCKERFILE)


WAIT_FOR_CURVE = f"""
import sys, time
from mlflow import MlflowClient
client = MlflowClient("http://127.0.0.1:5000")
end = time.monotonic() + 300
while time.monotonic() < end:
    for run in client.search_runs(["1"], "attributes.status = 'RUNNING'"):
        if len(client.get_metric_history(run.info.run_id, "loss")) >= {BEFORE}:
            sys.exit(print(run.info.run_id))
    time.sleep(0.2)
sys.exit("no run has so many values")
"""
"""Runs beside the server; prints the run that has the curve's first part."""


@dataclass(frozen=True)
class Live:
    """What was seen while train ran, and how its run ended."""

    name: str  # of the variant
    image: str
    container: str  # as `docker inspect` shows it
    run_id: str
    page: dict[str, Any] | None  # None where no browser looked
    still_ran: bool
    done: Make
    versions: list[dict]


VARIANTS = [
    pytest.param(train_in_python, id="python"),
    pytest.param(train_in_shell, id="shell", marks=pytest.mark.deep),  # the one that a browser looks at
]


@pytest.fixture(scope="module", params=VARIANTS)
def live(request: pytest.FixtureRequest, registered: list[dict], clone: Clone) -> Live:
    """Look at the run while train waits for the test in the midst of its epochs, then let it go on."""
    name, page = request.param.__name__.removeprefix("train_in_"), None
    browser = request.getfixturevalue("browser") if request.param is train_in_shell else None
    clone.restore()
    clone.git("clean", "--quiet", "--force", "stages")
    request.param(clone)
    environ = os.environ | {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": TOKEN}
    log = clone.path / ".local" / f"live-{name}.log"
    command = ["make", "run"]
    training = ("container", "ls", "--quiet", "--filter", "label=pipeline.stage=train")
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=clone.path, env=environ, stdout=output, stderr=output) as run,
    ):
        found = subprocess.run(
            ["docker", "exec", mlflow(clone), "python", "-c", WAIT_FOR_CURVE], stdout=subprocess.PIPE, text=True
        )
        assert found.returncode == 0, log.read_text()
        run_id = found.stdout.strip()
        (container,) = clone.docker(*training)
        inspected = subprocess.check_output(["docker", "inspect", container], text=True)
        if browser:
            url = address(clone, f"experiments/1/runs/{run_id}/model-metrics")
            page = browser.look({f"live-{name}": {"url": url, "curves": {"loss": BEFORE}}})[f"live-{name}"]
        still_ran = clone.docker(*training) == [container] and run.poll() is None
        subprocess.run(["docker", "exec", container, "touch", "/tmp/go"], check=True)
    image = clone.stages()["train"]["cmd"][1]
    image = re.search(r"stages/train:\w+", image)[0]
    done = Make(command, run.returncode, log.read_text())
    return Live(name, image, inspected, run_id, page, still_ran, done, clone.registry())


def test_the_curve_is_there_while_the_stage_runs(live: Live) -> None:
    """The run in MLflow has the curve of what a stage prints as `::metric` lines before the stage ends."""
    assert live.run_id and live.still_ran


@pytest.mark.parametrize("live", VARIANTS[1:], indirect=True)
def test_a_browser_shows_the_curve_while_the_stage_runs(live: Live) -> None:
    """MLflow's page of the run draws the curve of a stage that still runs."""
    assert live.page["curves"]["loss"] >= BEFORE
    assert (Path(os.environ["TEST_OUTPUT"]) / f"live-{live.name}.png").stat().st_size > 10_000


def test_the_run_shows_the_metrics_too(live: Live) -> None:
    """What the stage prints as metrics stands in the output of `make run`, a line a step."""
    steps = re.findall(r"^train +\| loss=\S+ learning_rate=0\.1 step=(\d+)$", live.done.stdout, re.M)
    assert [int(step) for step in steps] == list(range(1, EPOCHS + 1))


def test_the_same_run_holds_the_model(live: Live, clone: Clone) -> None:
    """When the stage has ended, the run with the curve is finished and the version's, and has each point once."""
    assert live.done.returncode == 0 and stages_line(live.done) == "ran train, evaluate", live.done.stdout
    version = live.versions[-1]
    model = (clone.path / "models/model.json").read_bytes()
    assert (version["run_id"], version["tags"]["model_sha256"]) == (live.run_id, hashlib.sha256(model).hexdigest())
    printed = clone.python(
        "import json\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        f"run = client.get_run('{live.run_id}')\n"
        f"steps = [point.step for point in client.get_metric_history('{live.run_id}', 'loss')]\n"
        f"files = [file.path for file in client.list_artifacts('{live.run_id}', 'model')]\n"
        "print('JSON', json.dumps([run.info.status, steps, files, 'accuracy' in run.data.metrics]))\n"
    )
    status, steps, files, is_scored = json.loads(re.search(r"JSON (.*)", printed)[1])
    assert status == "FINISHED" and is_scored
    assert sorted(steps) == list(range(1, EPOCHS + 1))
    assert "model/model.json" in files


def test_the_stage_has_no_network_no_token_and_no_mlflow(live: Live) -> None:
    """The stage that logs has no network and no token in its container, and no MLflow in its image."""
    (container,) = json.loads(live.container)
    assert container["HostConfig"]["NetworkMode"] == "none"
    assert list(container["NetworkSettings"]["Networks"]) == ["none"]
    assert TOKEN not in live.container
    names = [variable.partition("=")[0] for variable in container["Config"]["Env"]]
    assert [name for name in names if re.match("MLFLOW|DAGSHUB|AWS|DVC", name)] == []
    python = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python", live.image]
    assert subprocess.run([*python, "-c", "import sys"]).returncode == 0
    done = subprocess.run([*python, "-c", "import mlflow"], capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'mlflow'" in done.stderr
