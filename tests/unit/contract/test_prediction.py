"""What `make check` says of the predict.py beside a scorer."""

import pytest

from scripts.contract import prediction
from scripts.contract.names import Program
from scripts.pipeline.stage import Model, Pipeline, Stage

INPUTS = {"model": "models/m.json", "test_csv": "data/test.csv"}
SCORER = Stage("measure", "i", inputs=INPUTS, metrics={"metrics": "metrics/m.json"})
PIPELINE = Pipeline(
    "", {"measure": SCORER}, [Model("m", "models/m.json", "metrics/m.json", "fit", "measure", "e", gate=None)]
)
GOOD = """
def load(path): ...
def predict(model, features, *, rounded=False): ...
def sample(test_csv): ...
"""


def found(text, stage="measure"):
    programs = {f"stages/{stage}/predict.py": Program(text.encode())}
    return [f"{each.rule}: {each.what}" for each in prediction.check(stage, programs, PIPELINE)]


def test_what_keeps_the_contract():
    """Two functions, and a third that takes the scorer's other inputs, are all that is owed."""
    assert found(GOOD) == []
    assert found(GOOD.replace("test_csv", "**inputs")) == []
    assert found(GOOD.replace("def sample(test_csv): ...", "")) == []


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("def load", "def read", "it has no function load"),
        ("def predict(model, features", "def predict(model", "predict cannot be called with 2 arguments"),
        ("rounded=False", "rounded", "predict cannot be called with 2 arguments"),
        ("load(path)", "load(path, trusted)", "load cannot be called with 1 arguments"),
        ("sample(test_csv)", "sample(path)", "sample takes path"),
        ("sample(test_csv)", "sample()", "sample takes nothing"),
        ("sample(test_csv)", "sample(test_csv, rows)", "sample takes rows, test_csv"),
    ],
)
def test_what_others_could_not_call_is_found(old, new, what):
    """A function that is missing, or takes other arguments than it is called with, is a finding."""
    assert found(GOOD.replace(old, new)) == [f"predict: {what}"]


def test_only_a_scorer_owes_it():
    """A predict.py of another stage is that stage's own business."""
    assert found("", stage="fit") == []
