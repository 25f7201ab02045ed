"""Measures a model on the test set: errors as JSON, a score for each row, and the data of two plots."""

from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import skops_model
from stagekit import Args, BadInput, log, rounded, run, write_json, writing

TARGET = "progression"


class EvaluateArgs(Args):
    model: Path
    test_csv: Path
    metrics: Path
    rows: Path
    predictions: Path


def predict(model: Any, features: pd.DataFrame) -> pd.Series:
    """Return a prediction for each row. Raise BadInput if the model was trained on other columns."""
    if (known := list(model.feature_names_in_)) != list(features):
        found = f"the model reads the columns {', '.join(known)}, the test set has {', '.join(features)}"
        raise BadInput(f"{found[:400]}; expected the same ones in the same order: train a model on this data")
    return pd.Series(model.predict(features), features.index)


def scores(truth: pd.Series, predicted: pd.Series) -> dict[str, float]:
    """Return RMSE and MAE, in the target's unit, and R²."""
    return {
        "rows": len(truth),
        "rmse": float(root_mean_squared_error(truth, predicted)),
        "mae": float(mean_absolute_error(truth, predicted)),
        "r2": float(r2_score(truth, predicted)),
    }


def main(args: EvaluateArgs) -> None:
    frame = pd.read_csv(args.test_csv)
    truth, predicted = frame[TARGET], predict(skops_model.load(args.model), frame.drop(columns=TARGET))
    measured = scores(truth, predicted)
    write_json(args.metrics, measured)
    tables = {
        args.rows: pd.DataFrame({"score": -(truth - predicted).abs()}),  # a score: more is better
        args.predictions: pd.DataFrame({"actual": truth, "predicted": predicted, "residual": truth - predicted}),
    }
    for path, table in tables.items():
        with writing(path) as part:
            table.map(rounded).to_csv(part, index=False, lineterminator="\n")
    log.info("RMSE %.2f on %d rows -> %s", measured["rmse"], len(frame), args.metrics)


if __name__ == "__main__":
    run(main, EvaluateArgs)
