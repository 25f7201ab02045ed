"""Fits voters: each takes a row for the class whose center, in a few of the columns, is nearest."""

import csv
import json
import random
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stagekit import Args, log, log_metric, run, write_json, writing

TARGET = "species"
STEPS = 10
"""How often a growing model is measured."""


class TrainArgs(Args):
    train_csv: Path
    model: Path
    signature: Path
    training: Path
    n_estimators: Annotated[int, Field(ge=1, le=10_000)]  # voters
    max_depth: Annotated[int, Field(ge=1)] | None  # columns that a voter looks at, at most
    min_samples_leaf: Annotated[int, Field(ge=1)]  # rows; a class of fewer has no center
    max_features: Annotated[float, Field(gt=0, le=1)]  # share of the columns that a voter looks at
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def read(path: Path) -> tuple[list[str], list[list[float]], list[str]]:
    """Return names of the features, the rows' features, and their classes."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    features = [name for name in rows[0] if name != TARGET]
    return features, [[float(row[name]) for name in features] for row in rows], [row[TARGET] for row in rows]


def voter(draw: random.Random, rows: list[list[float]], truth: list[str], columns: int, least: int) -> dict[str, Any]:
    """Return a voter fitted on as many rows as there are, drawn with repetition, and on as many columns."""
    chosen = sorted(draw.sample(range(len(rows[0])), columns))
    drawn: dict[str, list[list[float]]] = {}
    for number in draw.choices(range(len(rows)), k=len(rows)):
        drawn.setdefault(truth[number], []).append(rows[number])
    centers = {
        label: [round(sum(row[column] for row in of_class) / len(of_class), 6) for column in chosen]
        for label, of_class in sorted(drawn.items())
        if len(of_class) >= least
    }
    return {"columns": chosen, "centers": centers}


def vote(voter: dict[str, Any], row: list[float]) -> str:
    """Return the class whose center is nearest."""
    seen = [row[column] for column in voter["columns"]]
    return min(
        voter["centers"],
        key=lambda label: sum((a - b) ** 2 for a, b in zip(seen, voter["centers"][label], strict=True)),
    )


def fit(
    rows: list[list[float]], truth: list[str], args: TrainArgs, random_state: random.Random
) -> tuple[list[dict[str, Any]], list[tuple[int, float]]]:
    """Return the voters, and the share of rows that they name the class of, step by step as they become more."""
    columns = max(1, round(args.max_features * len(rows[0])))
    columns = min(columns, args.max_depth or columns)
    votes: list[dict[str, int]] = [{} for _ in rows]
    voters, growth = [], []
    for step in range(1, args.n_estimators + 1):
        voters.append(voter(random_state, rows, truth, columns, args.min_samples_leaf))
        for row, counted in zip(rows, votes, strict=True):
            label = vote(voters[-1], row)
            counted[label] = counted.get(label, 0) + 1
        if step * STEPS % args.n_estimators < STEPS:
            right = sum(max(counted, key=counted.get) == label for counted, label in zip(votes, truth, strict=True))
            growth.append((step, round(right / len(rows), 6)))
            log_metric(step=step, train_accuracy=growth[-1][1])
    return voters, growth


def signature(features: list[str]) -> dict[str, str]:
    """Return what the model reads and says, in the form of MLflow's ModelSignature."""
    inputs = [{"type": "double", "name": name, "required": True} for name in features]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": "string", "required": True}])}


def main(args: TrainArgs) -> None:
    features, rows, truth = read(args.train_csv)
    voters, growth = fit(rows, truth, args, random_state=random.Random(args.seed))
    files = {"train_csv", "model", "signature", "training"}
    model = {"features": features, "classes": sorted(set(truth)), "parameters": args.model_dump(exclude=files)}
    with writing(args.model) as part:
        part.write_text(json.dumps(model | {"voters": voters}) + "\n")
    write_json(args.signature, signature(features))
    with writing(args.training) as part, part.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("step", "train_accuracy"), *growth])
    log.info("%d voters on %d rows -> %s", len(voters), len(rows), args.model)


if __name__ == "__main__":
    run(main, TrainArgs)
