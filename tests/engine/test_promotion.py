"""Promotion, as the registry tells it and as people see it in MLflow's pages."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Clone

pytestmark = pytest.mark.docker

CHANGES = {  # what is changed in params.yaml, against the defaults, for each of the four models
    "default": {},
    "worse": {"max_depth: null": "max_depth: 2"},
    "equal": {"n_estimators: 100": "n_estimators: 101"},
    "better": {"max_depth: null": "max_depth: 1"},
}


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    """A clone that has trained the four models of CHANGES, one after the other."""
    clone = clone_at("promotion")
    for changes in CHANGES.values():
        clone.restore()
        for old, new in changes.items():
            clone.edit("params.yaml", old, new)
        clone.make("run")
    return clone


@pytest.fixture(scope="module")
def registered(clone: Clone) -> list[dict]:
    """The versions that the four runs made."""
    return clone.registry()


def test_each_model_gets_the_stage_that_it_earned(registered: list[dict]) -> None:
    """The first goes to production, a worse and an equal one to staging, a better one takes the first one's place."""
    accuracies = [float(version["tags"]["test_accuracy"]) for version in registered]
    first, worse, equal, better = accuracies
    assert worse < first == equal < better
    assert first < 1
    assert [version["stage"] for version in registered] == ["Archived", "Staging", "Staging", "Production"]


def test_alias_and_stage_agree(registered: list[dict]) -> None:
    """The alias production is on the one version in Production, the alias staging on the newest one in Staging."""
    assert [version["aliases"] for version in registered] == [[], [], ["staging"], ["production"]]


def test_each_decision_tells_its_reason(registered: list[dict]) -> None:
    """Each version says what was decided when it came, and why, with the numbers; later decisions leave that alone."""
    told = [(version["tags"]["decision"], version["tags"]["reason"]) for version in registered]
    first, worse, _, better = (float(version["tags"]["test_accuracy"]) for version in registered)
    assert told == [
        ("Production", "no version was in production"),
        ("Staging", f"not better than production: its test accuracy {worse:.6g} against {first:.6g} of version 1"),
        ("Staging", f"not better than production: its test accuracy {first:.6g} against {first:.6g} of version 1"),
        ("Production", f"better than production: its test accuracy {better:.6g} against {first:.6g} of version 1"),
    ]


def test_models_of_equal_score_differ_in_their_bytes(registered: list[dict]) -> None:
    """Each of the four models is one of its own, told by the digest of its file."""
    assert len({version["tags"]["model_sha256"] for version in registered}) == 4


# --- in a browser


@pytest.fixture(scope="module")
def browser(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an image with a browser, gone after the tests."""
    name = f"stages/clone-{clone.label.partition('=')[2]}:test-browser"
    build = ["docker", "buildx", "build", "--quiet", "--pull=false", "--tag", name]
    build += ["--build-arg", f"PYTHON_IMAGE={os.environ['PYTHON_IMAGE']}"]
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        build += ["--build-arg", variable]
    pip = tmp_path_factory.mktemp("pip") / "pip.conf"
    pip.write_text(f"[global]\nindex-url = {os.environ['PIP_INDEX_URL']}\n" if "PIP_INDEX_URL" in os.environ else "")
    subprocess.run(
        [*build, "--secret", f"id=pip.conf,src={pip}", str(Path(__file__).parent / "browser")],
        check=True,
        capture_output=True,
    )
    yield name
    subprocess.run(["docker", "image", "rm", name], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pages(clone: Clone, registered: list[dict], browser: str) -> dict[str, str]:
    """The texts of MLflow's pages about the model in production; their pictures are in .local/test-output."""
    run = registered[3]["run_id"]
    home = "http://127.0.0.1:5000/#"
    wanted = {
        "model": {"url": f"{home}/models/iris-classifier", "texts": ["Version 1", "Version 4", "@ production"]},
        "version": {"url": f"{home}/models/iris-classifier/versions/4", "texts": ["decision", "Production"]},
        "run": {"url": f"{home}/experiments/1/runs/{run}", "texts": ["n_estimators", "test_accuracy", "Datasets"]},
        "runs": {"url": f"{home}/experiments/1/runs", "texts": ["iris-classifier-"]},
        "picture": {"url": f"{home}/experiments/1/runs/{run}/artifacts/evaluation/confusion.png", "texts": ["KB"]},
        "files": {"url": f"{home}/experiments/1/runs/{run}/artifacts/pipeline/dvc.yaml", "texts": ["GENERATED"]},
    }
    (server,) = clone.docker(
        "container", "ls", "--filter", "label=com.docker.compose.service=mlflow", "--format", "{{.Names}}"
    )
    output = Path(os.environ["TEST_OUTPUT"])
    done = subprocess.run(
        # In the server's own network, so that its address is the one that a user on this machine has.
        ["docker", "run", "--rm", "--interactive", "--network", f"container:{server}", "--label", clone.label,
         "--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={output},dst={output}",
         browser, str(output)],
        input=json.dumps(wanted), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_the_models_page_shows_versions_aliases_and_reasons(pages: dict[str, str]) -> None:
    """The registered model's page lists four versions with aliases, decisions and reasons."""
    shown = pages["model"]
    assert [f"Version {number}" in shown for number in range(1, 5)] == [True] * 4
    assert "@ production" in shown and "@ staging" in shown
    assert shown.count("not better than production") >= 2


def test_the_versions_page_shows_where_it_comes_from(pages: dict[str, str]) -> None:
    """The page of the version in production shows its stage, its alias, its run and its tags."""
    shown = pages["version"]
    for text in ("@ production", "Production", "Source Run", "git_commit", "dvc_lock_sha256", "test_data_sha256"):
        assert text in shown


def test_the_runs_page_shows_parameters_metrics_and_data(pages: dict[str, str]) -> None:
    """The run's page shows parameters, metrics, both data sets and the version registered from it."""
    shown = pages["run"]
    for text in ("max_depth", "n_estimators", "test_accuracy", "f1_macro", "log_loss", "Finished", "train (", "v4"):
        assert text in shown
    assert "Failed to load" not in shown


def test_the_experiments_page_lists_the_runs(pages: dict[str, str]) -> None:
    """The experiment's page lists the four runs."""
    assert pages["runs"].count("iris-classifier-") >= 4


def test_artifacts_are_shown(pages: dict[str, str], clone: Clone) -> None:
    """The run's artifacts hold the pictures, the model and the pipeline's files, and show them."""
    for text in ("confusion.png", "importance.png", "roc.png", "metrics.json", "model", "pipeline"):
        assert text in pages["picture"]
    assert "stages/train:" in pages["files"]
    assert (Path(os.environ["TEST_OUTPUT"]) / "picture.png").stat().st_size > 10_000
