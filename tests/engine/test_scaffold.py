"""What `make new-stage`, `make rename` and `make start` leave runs at once, unedited."""

import re
from collections.abc import Callable

import pytest

from tests.conftest import NOTHING, Clone, last_line, stages_line

pytestmark = pytest.mark.docker


def test_three_stages_are_added_and_run(clone_at: Callable[[str], Clone]) -> None:
    """Two stages that are added one after the other, and a copy of a third, run in the next `make run`, and their
    outputs are what they should be; git sees nothing but the edits."""
    clone = clone_at("new stages")
    clone.make("new-stage", "NAME=features", "AFTER=preprocess")
    clone.make("new-stage", "NAME=grid-search", "AFTER=features")
    clone.make("new-stage", "NAME=boost", "AFTER=grid-search", "LIKE=train")
    done = clone.make("run")
    names = re.fullmatch("ran (.*)", stages_line(done))[1].split(", ")
    assert sorted(names) == ["boost", "evaluate", "features", "grid-search", "ingest", "preprocess", "train"]
    for file in ("data/grid-search/train.csv", "data/features/train.csv"):
        assert (clone.path / file).read_bytes() == (clone.path / "data/processed/train.csv").read_bytes()
    assert (clone.path / "models-boost/model.json").read_bytes() == (clone.path / "models/model.json").read_bytes()
    edited = {"dvc.yaml.template", "params.yaml", ".gitignore", "dvc.yaml", "dvc.lock"}
    assert {path for path in clone.changes() if not path.startswith("stages/")} == edited


@pytest.mark.deep
def test_the_tests_of_what_was_added_pass(clone_at: Callable[[str], Clone]) -> None:
    """The tests of each stage that is added, and of a copy, pass in its image, and `make lint` finds nothing."""
    clone = clone_at("tests of new stages")
    for name, after, like in (
        ("features", "preprocess", ""), ("grid-search", "features", ""), ("boost", "grid-search", "train"),
        ("fine-tune", "features", "train"), ("class", "evaluate", ""), ("split", "ingest", "preprocess"),
    ):  # fmt: skip
        clone.make("new-stage", f"NAME={name}", f"AFTER={after}", f"LIKE={like}")
        assert re.search(r"= \d+ passed in|has no tests", clone.make(f"test-{name}").stdout)
    assert "All checks passed!" in clone.make("lint").stdout
    clone.make("run")
    assert stages_line(clone.make("run")) == NOTHING


@pytest.mark.deep
def test_a_renamed_model_is_published_and_nothing_runs(clone_at: Callable[[str], Clone]) -> None:
    """After `make rename`, no stage runs, the model is version 1 of its new name, and the old one keeps its version."""
    clone = clone_at("renamed")
    clone.make("run")
    lock = (clone.path / "dvc.lock").read_bytes()
    assert "versions registered as iris-classifier stay so" in clone.make("rename", "MODEL=tumor-classifier").stdout
    done = clone.make("run")
    assert stages_line(done) == NOTHING and (clone.path / "dvc.lock").read_bytes() == lock
    assert re.search(r"^model +tumor-classifier version 1, published now: accuracy 0\.\d{4}$", done.stdout, re.M)
    assert "model: tumor-classifier" in clone.make("models").stdout
    assert "version 1 of tumor-classifier: identical" in clone.make("reproduce").stdout
    assert [version["version"] for version in clone.registry("iris-classifier")] == ["1"]
    for name in ("params.yaml", "dvc.yaml.template", "dvc.yaml"):
        assert "iris-classifier" not in (clone.path / name).read_text()


@pytest.mark.deep
def test_a_pipeline_is_begun_anew(clone_at: Callable[[str], Clone]) -> None:
    """`make start NEW=1` asks; then one stage is left that runs and is tested, and more are added to it. The tests of
    the machinery pass beside it, and git takes it all back."""
    clone = clone_at("begun anew")
    clone.make("run-ingest")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "a run")
    asked = clone.make("start", "NEW=1", check=False, stdin="n\n")
    assert last_line(asked) == "error: nothing was done; expected 'y', or YES=1 on the command line"
    assert "delete  stages/train/train.py" in asked.stdout and "data/raw/iris.csv, which" in asked.stdout
    assert clone.changes() == []
    clone.make("start", "NEW=1", "YES=1")
    done = clone.make("run", "test-load", "lint")
    assert stages_line(done) == "ran load" and "5 passed" in done.stdout
    clone.make("new-stage", "NAME=features", "AFTER=load")
    assert stages_line(clone.make("run")) == "ran features"
    assert not (clone.path / "data" / "raw").exists()
    assert re.search(r"=+ [0-9]+ passed", clone.make("test-unit").stdout)
    clone.git("checkout", "--quiet", ".")
    clone.git("clean", "--quiet", "-fd", "stages", "data")
    assert clone.changes() == []
    assert stages_line(clone.make("run-ingest")) == NOTHING


@pytest.mark.deep
def test_what_cannot_be_is_refused_in_one_line(clone_at: Callable[[str], Clone]) -> None:
    """A user's mistake is one sentence and no traceback, and what is typed is a word, never a command."""
    clone = clone_at("mistakes")
    for words, says in (
        (
            ["new-stage", "NAME=$(touch bad)", "AFTER=train"],
            "error: NAME is '$(touch bad)'; expected lower-case letters",
        ),
        (["rename", 'MODEL="; touch bad; "'], "error: MODEL is '\"; touch bad; \"': its name has other characters"),
        (["start"], "error: NEW is ''; expected NEW=1"),
    ):
        done = clone.make(*words, check=False)
        assert done.returncode and last_line(done).startswith(says), done.stdout
    assert clone.changes() == []
