"""Measures a model on the test set: numbers as JSON, a score for each row, and the data of three plots."""

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, auc, confusion_matrix, log_loss, precision_recall_fscore_support, roc_curve

import skops_model
import tables
from stagekit import Args, BadInput, log, rounded, run, write_json, writing


class EvaluateArgs(Args):
    model: Path
    test_csv: Path
    metrics: Path
    rows: Path
    confusion: Path
    roc: Path
    importance: Path
    importance_repeats: Annotated[int, Field(ge=1, le=1000)]  # shuffles a feature
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def check(model: Any, features: pd.DataFrame, truth: pd.Series) -> None:
    """Raise BadInput if the model cannot be measured on this test set: it has other columns or classes than that."""
    known, columns = list(model.feature_names_in_), list(features)
    if known != columns:
        raise BadInput(
            f"the model reads the columns {', '.join(known)[:200]}, the test set has {', '.join(columns)[:200]}; "
            "expected the same ones in the same order: train a model on this data"
        )
    if unknown := sorted(set(truth) - set(model.classes_)):
        raise BadInput(
            f"the test set has the class {unknown[0]}, the model knows {', '.join(model.classes_)[:200]}; expected no "
            "other class: train a model on this data"
        )


def scores(model: Any, features: pd.DataFrame, truth: pd.Series) -> dict[str, Any]:
    """Return accuracy, macro and per-class precision, recall and F1, all in [0, 1], log loss in nats, confusion matrix.

    Row i, column j of the matrix counts the rows of class i that were taken for class j, in the order of `classes`.
    """
    classes = [str(name) for name in model.classes_]
    predicted = model.predict(features)
    per_class = precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=0)
    macro = precision_recall_fscore_support(truth, predicted, labels=classes, average="macro", zero_division=0)
    names = ("precision", "recall", "f1")
    return {
        "rows": len(truth),
        "accuracy": float(accuracy_score(truth, predicted)),
        **{f"{name}_macro": float(value) for name, value in zip(names, macro, strict=False)},
        "log_loss": float(log_loss(truth, model.predict_proba(features), labels=classes)),
        "per_class": {
            label: {name: float(per_class[i][row]) for i, name in enumerate(names)} for row, label in enumerate(classes)
        },
        "classes": classes,
        "confusion_matrix": confusion_matrix(truth, predicted, labels=classes).tolist(),
    }


def hits(model: Any, features: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """Return a row for each test row, in their order: `score` is 1 if the model names its class, or else 0."""
    return pd.DataFrame({"score": (model.predict(features) == truth.to_numpy()).astype(int)})


def confusion(model: Any, features: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """Return a row for each test row: `actual` and `predicted` class, as DVC's confusion template wants it."""
    return pd.DataFrame({"actual": truth.to_numpy(), "predicted": model.predict(features)})


def roc(model: Any, features: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """Return a curve for each class of the test set against the others.

    Columns: `class`, false and true positive rate (`fpr`, `tpr`), and the area under the class's curve (`auc`, the same
    in each of its rows); all in [0, 1].
    """
    probability = model.predict_proba(features)
    curves = []
    for column, label in enumerate(model.classes_):
        if label in set(truth):
            fpr, tpr, _ = roc_curve(truth == label, probability[:, column])
            curves.append(pd.DataFrame({"class": label, "fpr": fpr, "tpr": tpr, "auc": auc(fpr, tpr)}))
    return pd.concat(curves)


def accuracy(model: Any, features: pd.DataFrame, truth: pd.Series) -> float:
    """Return the share of the rows whose class the model names, in [0, 1].

    scikit-learn's own score sorts the classes of all rows each time, which takes longer than to predict them.
    """
    return float((model.predict(features) == truth.to_numpy()).mean())


def importance(model: Any, features: pd.DataFrame, truth: pd.Series, repeats: int, seed: int) -> pd.DataFrame:
    """Return the mean loss of accuracy when a feature is shuffled, the largest first.

    Columns: `feature`, `importance`, and the standard deviation of its repeats (`importance_std`).
    """
    found = permutation_importance(model, features, truth, scoring=accuracy, n_repeats=repeats, random_state=seed)
    # Rounded before it is sorted: the last digits differ across machines.
    numbers = {"importance": found.importances_mean, "importance_std": found.importances_std}
    table = pd.DataFrame(
        {"feature": features.columns} | {name: rounded(each.tolist()) for name, each in numbers.items()}
    )
    return table.sort_values(["importance", "feature"], ascending=[False, True])


def main(args: EvaluateArgs) -> None:
    model = skops_model.load(args.model)
    frame = tables.read(args.test_csv)
    features, truth = frame.iloc[:, :-1], frame.iloc[:, -1]
    check(model, features, truth)
    measured = scores(model, features, truth)
    write_json(args.metrics, measured)
    outputs = {
        args.rows: hits(model, features, truth),
        args.confusion: confusion(model, features, truth),
        args.roc: roc(model, features, truth),
        args.importance: importance(model, features, truth, args.importance_repeats, args.seed),
    }
    for path, table in outputs.items():
        with writing(path) as part:
            table.map(rounded).to_csv(part, index=False, lineterminator="\n")
    log.info("accuracy %.4f on %d rows -> %s", measured["accuracy"], len(frame), args.metrics)


if __name__ == "__main__":
    run(main, EvaluateArgs)
