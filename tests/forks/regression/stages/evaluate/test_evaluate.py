import json

import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingRegressor

import evaluate
import skops_model
from stagekit import BadInput

FRAME = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], evaluate.TARGET: [0.0, 1.0, 1.0, 2.0]})


def measure(tmp_path, frame: pd.DataFrame) -> evaluate.EvaluateArgs:
    """Run the stage on a model of FRAME and a test set."""
    outputs = {name: tmp_path / "metrics" / name for name in ("metrics", "rows", "predictions")}
    args = evaluate.EvaluateArgs(model=tmp_path / "model.skops", test_csv=tmp_path / "test.csv", **outputs)
    skops_model.save(GradientBoostingRegressor(random_state=1).fit(FRAME[["x"]], FRAME[evaluate.TARGET]), args.model)
    frame.to_csv(args.test_csv, index=False)
    evaluate.main(args)
    return args


def test_errors_by_hand():
    """Errors of 1 and 3 make an MAE of 2 and an RMSE of the root of 5."""
    measured = evaluate.scores(pd.Series([1.0, 2.0]), pd.Series([2.0, 5.0]))
    assert (measured["rows"], measured["mae"], measured["rmse"]) == (2, 2, pytest.approx(5**0.5))


def test_each_test_row_has_its_score(tmp_path):
    """A row's score is the error, negative, so that more is better; together they make the MAE."""
    args = measure(tmp_path, FRAME)
    rows, measured = pd.read_csv(args.rows), json.loads(args.metrics.read_text())
    assert (rows["score"] <= 0).all()
    assert -rows["score"].mean() == pytest.approx(measured["mae"], abs=1e-6)


def test_what_the_plots_show(tmp_path):
    """Each test row has its true value, what the model says, and what the one is more than the other."""
    table = pd.read_csv(measure(tmp_path, FRAME).predictions)
    assert table["actual"].tolist() == FRAME[evaluate.TARGET].tolist()
    assert table["residual"].tolist() == pytest.approx((table["actual"] - table["predicted"]).tolist(), abs=1e-6)


def test_a_model_of_other_data_is_refused(tmp_path):
    """A model that was trained on other columns than the test set's is bad input."""
    with pytest.raises(BadInput, match=r"reads the columns x, the test set has weight"):
        measure(tmp_path, FRAME.rename(columns={"x": "weight"}))
