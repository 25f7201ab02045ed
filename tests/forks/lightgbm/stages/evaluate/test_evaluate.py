import json
import math

import lightgbm
import numpy as np
import pandas as pd
import pytest

import evaluate
from stagekit import BadInput

FRAME = pd.DataFrame({"x": range(40), evaluate.TARGET: ["virginica" if x > 18 else "setosa" for x in range(40)]})


@pytest.fixture
def measure(tmp_path):
    """Return a function that runs the stage on a model of FRAME and a test set."""
    model = tmp_path / "model.txt"
    data = lightgbm.Dataset(FRAME[["x"]], label=FRAME[evaluate.TARGET] == evaluate.POSITIVE)
    lightgbm.train({"objective": "binary", "verbosity": -1}, data, 5).save_model(model)

    def run(frame: pd.DataFrame) -> evaluate.EvaluateArgs:
        outputs = {name: tmp_path / "metrics" / name for name in ("metrics", "rows", "roc")}
        args = evaluate.EvaluateArgs(model=model, test_csv=tmp_path / "test.csv", **outputs)
        frame.to_csv(args.test_csv, index=False)
        evaluate.main(args)
        return args

    run.model = model
    return run


def test_scores_by_hand():
    """Probabilities of 0.8 and 0.4 for what is true make a log loss of -ln(0.8 * 0.4) / 2, and one hit of two."""
    measured = evaluate.scores(pd.Series([True, False]), np.array([0.8, 0.6]))
    assert measured["log_loss"] == pytest.approx(-math.log(0.8 * 0.4) / 2)
    assert (measured["accuracy"], measured["roc_auc"]) == (0.5, 1)


def test_each_test_row_has_its_score(measure):
    """A row's score is its log likelihood; together they make the log loss."""
    args = measure(FRAME)
    rows, measured = pd.read_csv(args.rows), json.loads(args.metrics.read_text())
    assert -rows["score"].mean() == pytest.approx(measured["log_loss"], abs=1e-6)


def test_a_model_of_other_data_is_refused(measure):
    """A model that was trained on other columns than the test set's is bad input."""
    with pytest.raises(BadInput, match=r"reads the columns x, the test set has weight"):
        measure(FRAME.rename(columns={"x": "weight"}))


def test_what_is_no_model_is_refused(measure):
    """A file that LightGBM did not write is bad input."""
    measure.model.write_text("no model")
    with pytest.raises(BadInput, match=r"model\.txt is no model"):
        measure(FRAME)
