"""Measures a model on the test set: numbers as JSON, a score for each row, and the data of a plot."""

from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score, roc_curve

from stagekit import Args, BadInput, log, rounded, run, write_json, writing

TARGET, POSITIVE = "species", "virginica"


class EvaluateArgs(Args):
    model: Path
    test_csv: Path
    metrics: Path
    rows: Path
    roc: Path


def predict(path: Path, features: pd.DataFrame) -> np.ndarray:
    """Return a probability for each row. Raise BadInput if `path` is no model of such rows."""
    try:
        model = lightgbm.Booster(model_file=path)
    except lightgbm.basic.LightGBMError as error:
        raise BadInput(f"{path} is no model ({error}); expected what train wrote") from None
    if (known := model.feature_name()) != list(features):
        found = f"the model reads the columns {', '.join(known)}, the test set has {', '.join(features)}"
        raise BadInput(f"{found[:400]}; expected the same ones in the same order: train a model on this data")
    return model.predict(features)


def scores(truth: pd.Series, predicted: np.ndarray) -> dict[str, float]:
    """Return log loss, in nats, and accuracy and area under the ROC curve, in [0, 1]."""
    return {
        "rows": len(truth),
        "log_loss": float(log_loss(truth, predicted)),
        "accuracy": float(accuracy_score(truth, predicted > 0.5)),
        "roc_auc": float(roc_auc_score(truth, predicted)),
    }


def main(args: EvaluateArgs) -> None:
    frame = pd.read_csv(args.test_csv)
    truth, predicted = frame[TARGET] == POSITIVE, predict(args.model, frame.drop(columns=TARGET))
    measured = scores(truth, predicted)
    write_json(args.metrics, measured)
    fpr, tpr, _ = roc_curve(truth, predicted)
    likelihood = np.where(truth, predicted, 1 - predicted)
    tables = {
        args.rows: pd.DataFrame({"score": np.log(likelihood)}),  # more is better; the mean is the log loss, negative
        args.roc: pd.DataFrame({"fpr": fpr, "tpr": tpr}),
    }
    for path, table in tables.items():
        with writing(path) as part:
            table.map(rounded).to_csv(part, index=False, lineterminator="\n")
    log.info("log loss %.4f on %d rows -> %s", measured["log_loss"], len(frame), args.metrics)


if __name__ == "__main__":
    run(main, EvaluateArgs)
