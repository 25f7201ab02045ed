"""Forks of this repository, each made by the apply.sh of a folder here, and run for real."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from scripts.pipeline import template
from scripts.pipeline.stage import Pipeline
from scripts.project import ROOT
from tests.conftest import Clone, new_clone, stages_line

pytestmark = pytest.mark.docker

EDITED = re.compile(r"stages/.+|dvc\.yaml\.template|params\.yaml|data/.+")
"""All that a fork edits."""
RUN = ("run", "push", "models", "lineage", "reproduce")
NOTHING = "nothing to run, all stages are up to date"
BETTER, WORSE = "Production: better than production", "Staging: not better than production"
UNSURE, BAD = "Staging: not surely better than production", "Staging: not good enough"
VARIANTS = {
    "another_language": [("max_features: 0.5 ", "max_features: 0.25 ", BETTER), ("depth: null ", "depth: 1 ", WORSE)],
    "breast_cancer": [("estimators: 100 ", "estimators: 10 ", BETTER), ("depth: null ", "depth: 1 ", WORSE)],
    "images": [("epochs: 50 ", "epochs: 200 ", BETTER), ("epochs: 50 ", "epochs: 5 ", WORSE)],
    "lightgbm": [("rounds: 30 ", "rounds: 60 ", BETTER), ("rounds: 30 ", "rounds: 10 ", WORSE)],
    "regression": [
        ("estimators: 20 ", "estimators: 21 ", UNSURE),
        ("estimators: 20 ", "estimators: 100 ", BETTER),
        ("estimators: 20 ", "estimators: 15 ", WORSE),
    ],
    "two_models": [("depth: 2 ", "depth: null ", BETTER), ("depth: 2 ", "depth: 1 ", BAD)],
}
"""By fork: edits of params.yaml, each by itself, and the decision that the last model then deserves."""
FORKS = [pytest.param(name, marks=pytest.mark.deep) for name in VARIANTS]
TOGETHER = "another_language+two_models"
"""Two forks in one clone, not committed: what `make test` has time for."""


@dataclass(frozen=True)
class Fork:
    """A clone that a fork was applied to; `edited` are the files that this changed, `printed` is what RUN printed."""

    clone: Clone
    pipeline: Pipeline
    edited: list[str]
    printed: str

    @property
    def models(self) -> list[str]:
        return [model.name for model in self.pipeline.models]

    def image(self, stage: str) -> str:
        return self.pipeline.stages[stage].image


@pytest.fixture(scope="module", params=[TOGETHER, *FORKS])
def fork(request: pytest.FixtureRequest) -> Iterator[Fork]:
    """Make a fork, commit it as a person would (but TOGETHER), and run all that there is to run in it."""
    clone = new_clone(f"fork-{request.param}", of=ROOT)
    for name in request.param.split("+"):
        subprocess.run(["sh", f"tests/forks/{name}/apply.sh"], cwd=clone.path, check=True)
    edited = [line[3:] for line in clone.git("status", "--porcelain", "--untracked-files=all").splitlines()]
    if request.param != TOGETHER:
        clone.git("add", "--all")
        clone.git("commit", "--quiet", "--message", request.param)
    yield Fork(clone, template.load(clone.path), edited, clone.make(*RUN).stdout)
    clone.make("down")


def decisions(printed: str) -> dict[str, str]:
    """Return what the report of `make run` says of each model: its version, and the decision."""
    found = re.findall(r"^model +(\S+) (version \d+, published \w+):.*\ndecision +(.*)", printed, re.MULTILINE)
    return {model: f"{version}: {decision}" for model, version, decision in found}


def test_a_fork_edits_nothing_of_the_machinery(fork):
    """Other data, another task, library or language, and a second model, need no edit outside of what users edit."""
    assert fork.edited and [path for path in fork.edited if not EDITED.fullmatch(path)] == []


def test_every_model_is_made_scored_and_published(fork):
    """`make run` runs all stages, and each model's first version is in production."""
    assert set(re.findall(r"^(\w+) +ran \(", fork.printed, re.MULTILINE)) == {*fork.pipeline.stages}
    first = "version 1, published now: Production: no version was in production"
    assert decisions(fork.printed) == dict.fromkeys(fork.models, first)


def test_lineage_leads_to_all_data_in_the_remote(fork):
    """`make lineage` names each file and folder that led to each model, its stage, and its place in the remote."""
    for model in fork.pipeline.models:
        (version,) = json.loads(fork.clone.make("lineage", f"MODEL={model.name}", "JSON=1").stdout)["versions"]
        files = {file["path"]: file for file in version["files"]}
        for stage in (fork.pipeline.stages[name] for name in fork.pipeline.leading_to(model.scorer)):
            for path in stage.written.values():
                file = files[path]
                assert file["made_by"] == stage.name and re.fullmatch(r"[0-9a-f]{32}(\.dir)?", file["md5"]), file
                assert "/dvc-remote/" in file["remote"], file


def test_every_model_is_made_again_to_the_byte(fork):
    """`make reproduce` makes all outputs of each model again, from what its version's record says."""
    verdicts = re.findall(r"^version 1 of (\S+): (.*)", fork.printed, re.MULTILINE)
    assert verdicts == [(model, "identical") for model in fork.models]


def test_a_second_run_has_nothing_to_do(fork):
    """Run again, no stage runs and no version is added; of the clone's own files only dvc.yaml and dvc.lock differ."""
    again = fork.clone.make("run")
    assert stages_line(again) == NOTHING
    assert {text.partition(":")[0] for text in decisions(again.stdout).values()} == {"version 1, published before"}
    changed = {line[3:] for line in fork.clone.git("status", "--porcelain", "--untracked-files=all").splitlines()}
    added = changed - {*fork.edited, "dvc.yaml", "dvc.lock"}
    # DVC writes a .gitignore into a folder of outputs that git does not ignore.
    assert [path for path in added if not path.endswith("/.gitignore")] == []


@pytest.mark.parametrize("fork", FORKS, indirect=True)
def test_a_model_gets_the_decision_it_deserves(fork, request):
    """A better model replaces the one in production and a worse one does not; no other model is touched."""
    *others, last = fork.models
    params = fork.clone.path / "params.yaml"
    as_applied = params.read_text()
    for number, (old, new, decision) in enumerate(VARIANTS[request.node.callspec.params["fork"]], 2):
        fork.clone.edit("params.yaml", old, new)
        found = decisions(fork.clone.make("run").stdout)
        assert found.pop(last).startswith(f"version {number}, published now: {decision}"), new
        assert all(found[other].startswith("version 1, published before: Production") for other in others)
        params.write_text(as_applied)


@pytest.mark.deep
def test_the_machinerys_tests_pass_in_a_fork(fork):
    """The tests of the machinery hold in a fork as they are here."""
    assert re.search(r"=+ [0-9]+ passed", fork.clone.make("test-unit").stdout)


@pytest.mark.deep
def test_the_stages_tests_pass_in_a_fork(fork):
    """Each stage's own tests run in its own image."""
    fork.clone.make(*(f"test-{stage}" for stage in fork.pipeline.stages))


def finds(image: str, *command: str) -> bool:
    """Return whether a command in a container of `image` exits with 0."""
    program, *arguments = command
    docker_run = ["docker", "run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", program]
    return subprocess.run([*docker_run, image, *arguments], capture_output=True).returncode == 0


@pytest.mark.parametrize("fork", [pytest.param("lightgbm", marks=pytest.mark.deep)], indirect=True)
def test_a_library_is_in_the_images_of_its_stages_alone(fork):
    """What a stage asks for, from PyPI or Debian, is in its image, and neither in another one nor in the runner."""
    images = {stage: fork.image(stage) for stage in fork.pipeline.stages}
    for command in (["python", "-c", "import lightgbm"], ["dpkg", "-L", "libgomp1"]):
        assert {stage for stage in images if finds(images[stage], *command)} == {"train", "evaluate"}
    assert fork.clone.python("import importlib.util; print(importlib.util.find_spec('lightgbm'))").strip() == "None"
    assert (fork.clone.path / "models/model.txt").read_text().startswith("tree\n")


@pytest.mark.parametrize("fork", [pytest.param("lightgbm", marks=pytest.mark.deep)], indirect=True)
def test_the_live_curve_is_in_the_models_run(fork):
    """What a stage printed while it trained is in the run of its model, step by step, though no file holds it."""
    (run_id,) = {version["run_id"] for version in fork.clone.registry("iris-virginica") if version["version"] == "1"}
    printed = fork.clone.python(
        "from mlflow import MlflowClient\n"
        f"curve = MlflowClient().get_metric_history('{run_id}', 'train_log_loss')\n"
        "print([point.step for point in sorted(curve, key=lambda point: point.step)])\n"
    )
    assert printed.strip() == str([*range(1, 31)])


@pytest.mark.parametrize("fork", [pytest.param("images", marks=pytest.mark.deep)], indirect=True)
def test_a_folder_is_data_and_a_model(fork):
    """500 files are one output and one input, and MLflow loads a model that is a folder as its loader says."""
    assert len([*(fork.clone.path / "data/raw/images").glob("*/*.png")]) == 500
    assert "data/raw/images" in (fork.clone.path / "dvc.lock").read_text()
    printed = fork.clone.python(
        "import mlflow, numpy\n"
        "model = mlflow.pyfunc.load_model('models:/shape-classifier@production')\n"
        "print(model.predict(numpy.zeros((2, 16, 16))).tolist())\n"
    )
    assert printed.splitlines()[-1] in ("['circle', 'circle']", "['square', 'square']")
