"""Measures a model on the test set: numbers as JSON, a score for each row, and the data of three plots."""

import csv
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stagekit import Args, BadInput, log, rounded, run, write_json, writing

TARGET = "species"
MOST = 100
"""Voters that are asked for the importance of the features: it need not be exact."""
Features, Truth = list[list[float]], list[str]
Row = dict[str, Any]


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


def load(path: Path) -> Row:
    try:
        model = json.loads(path.read_text())
        return {key: model[key] for key in ("features", "classes", "voters")}
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{path} is no model ({error}); expected what train wrote") from None


def read(path: Path, model: Row) -> tuple[Features, Truth]:
    """Return features and class of each row. Raise BadInput if the model knows other columns, or not all classes."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name != TARGET]
    if columns != model["features"]:
        found = f"the model reads the columns {', '.join(model['features'])}, the test set has {', '.join(columns)}"
        raise BadInput(f"{found}; expected the same ones in the same order: train a model on this data")
    if unknown := sorted({row[TARGET] for row in rows} - {*model["classes"]}):
        found = f"the test set has the class {unknown[0]}, the model knows {', '.join(model['classes'])}"
        raise BadInput(f"{found}; expected no other class: train a model on this data")
    return [[float(row[name]) for name in columns] for row in rows], [row[TARGET] for row in rows]


def vote(voter: Row, row: list[float]) -> str:
    seen = [row[column] for column in voter["columns"]]
    return min(
        voter["centers"],
        key=lambda label: sum((a - b) ** 2 for a, b in zip(seen, voter["centers"][label], strict=True)),
    )


def shares(model: Row, features: Features) -> list[dict[str, float]]:
    """Return for each row the share of the voters that name a class, by class."""
    counted = [Counter(vote(voter, row) for voter in model["voters"]) for row in features]
    return [{label: votes[label] / len(model["voters"]) for label in model["classes"]} for votes in counted]


def predict(model: Row, features: Features) -> list[str]:
    return [max(share, key=share.get) for share in shares(model, features)]


def scores(model: Row, features: Features, truth: Truth) -> Row:
    """Return accuracy, precision, recall and F1 (macro and per class), log loss in nats, and the confusion matrix."""
    predicted, told = predict(model, features), shares(model, features)
    pairs = Counter(zip(truth, predicted, strict=True))
    per_class = {label: of_class(label, pairs) for label in model["classes"]}
    names = ("precision", "recall", "f1")
    macro = {f"{name}_macro": sum(each[name] for each in per_class.values()) / len(per_class) for name in names}
    loss = [-math.log(max(share[label], 1e-15)) for share, label in zip(told, truth, strict=True)]
    return {
        "rows": len(truth),
        "accuracy": sum(pairs[label, label] for label in model["classes"]) / len(truth),
        **macro,
        "log_loss": sum(loss) / len(loss),
        "per_class": per_class,
        "classes": model["classes"],
        "confusion_matrix": [[pairs[actual, said] for said in model["classes"]] for actual in model["classes"]],
    }


def of_class(label: str, pairs: Counter) -> dict[str, float]:
    right = pairs[label, label]
    said = sum(count for (_, predicted), count in pairs.items() if predicted == label)
    actual = sum(count for (truth, _), count in pairs.items() if truth == label)
    precision, recall = right / said if said else 0.0, right / actual if actual else 0.0
    return {"precision": precision, "recall": recall, "f1": 2 * right / (said + actual) if said + actual else 0.0}


def hits(model: Row, features: Features, truth: Truth) -> list[Row]:
    return [{"score": int(p == t)} for p, t in zip(predict(model, features), truth, strict=True)]


def confusion(model: Row, features: Features, truth: Truth) -> list[Row]:
    return [{"actual": t, "predicted": p} for p, t in zip(predict(model, features), truth, strict=True)]


def roc(model: Row, features: Features, truth: Truth) -> list[Row]:
    """Return for each class and threshold the false and true positive rates, from (0, 0) to (1, 1)."""
    told, points = shares(model, features), []
    for label in model["classes"]:
        positives = truth.count(label) or 1
        negatives = len(truth) - truth.count(label) or 1
        for threshold in (2.0, *sorted({share[label] for share in told}, reverse=True)):
            taken = [t == label for share, t in zip(told, truth, strict=True) if share[label] >= threshold]
            points.append({"class": label, "fpr": taken.count(False) / negatives, "tpr": taken.count(True) / positives})
    return points


def importance(model: Row, features: Features, truth: Truth, repeats: int, seed: int) -> list[Row]:
    """Return the mean loss of accuracy when a feature is shuffled, the largest first."""
    few = model | {"voters": model["voters"][:MOST]}
    before, draw, table = accuracy(few, features, truth), random.Random(seed), []
    for column, name in enumerate(model["features"]):
        after = [accuracy(few, shuffled(features, column, draw), truth) for _ in range(repeats)]
        table.append({"feature": name, "importance": before - sum(after) / repeats})
    return sorted(table, key=lambda row: (-rounded(row["importance"]), row["feature"]))


def accuracy(model: Row, features: Features, truth: Truth) -> float:
    return sum(p == t for p, t in zip(predict(model, features), truth, strict=True)) / len(truth)


def shuffled(features: Features, column: int, draw: random.Random) -> Features:
    values = [row[column] for row in features]
    draw.shuffle(values)
    return [[*row[:column], value, *row[column + 1 :]] for row, value in zip(features, values, strict=True)]


def main(args: EvaluateArgs) -> None:
    model = load(args.model)
    features, truth = read(args.test_csv, model)
    measured = scores(model, features, truth)
    write_json(args.metrics, measured)
    tables = {
        args.rows: hits(model, features, truth),
        args.confusion: confusion(model, features, truth),
        args.roc: roc(model, features, truth),
        args.importance: importance(model, features, truth, args.importance_repeats, args.seed),
    }
    for path, rows in tables.items():
        with writing(path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rounded(rows))
    log.info("accuracy %.4f on %d rows -> %s", measured["accuracy"], len(truth), args.metrics)


if __name__ == "__main__":
    run(main, EvaluateArgs)
