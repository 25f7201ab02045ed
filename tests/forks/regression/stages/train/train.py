"""Fits gradient-boosted trees to the training set, and shows the error as they become more."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from sklearn.ensemble import GradientBoostingRegressor

import skops_model
from stagekit import Args, log, log_metric, rounded, run, write_json, writing

TARGET = "progression"


class TrainArgs(Args):
    train_csv: Path
    model: Path
    signature: Path
    training: Path
    n_estimators: Annotated[int, Field(ge=1, le=10_000)]  # trees
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    max_depth: Annotated[int, Field(ge=1)]  # levels
    subsample: Annotated[float, Field(gt=0, le=1)]  # share of the rows that a tree sees
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def fit(frame: pd.DataFrame, *, seed: int, **hyperparameters: Any) -> tuple[GradientBoostingRegressor, pd.DataFrame]:
    """Return the model fitted on `frame`, and a table of its RMSE on the rows each tree saw (`step`, `train_rmse`)."""
    growth = []

    def measure(tree: int, model: GradientBoostingRegressor, _: dict[str, Any]) -> None:
        growth.append({"step": tree + 1, "train_rmse": float(model.train_score_[tree]) ** 0.5})
        log_metric(**growth[-1])

    model = GradientBoostingRegressor(**hyperparameters, random_state=seed)
    model.fit(frame.drop(columns=TARGET), frame[TARGET], monitor=measure)
    return model, pd.DataFrame(growth)


def signature(model: GradientBoostingRegressor) -> dict[str, str]:
    """Return what the model reads and says, in the form of MLflow's ModelSignature."""
    inputs = [{"type": "double", "name": name, "required": True} for name in model.feature_names_in_]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": "double", "required": True}])}


def main(args: TrainArgs) -> None:
    frame = pd.read_csv(args.train_csv)
    files = {"train_csv", "model", "signature", "training"}
    model, growth = fit(frame, **args.model_dump(exclude=files))
    skops_model.save(model, args.model)
    write_json(args.signature, signature(model))
    with writing(args.training) as part:
        growth.map(rounded).to_csv(part, index=False, lineterminator="\n")
    log.info("%d trees on %d rows -> %s", len(growth), len(frame), args.model)


if __name__ == "__main__":
    run(main, TrainArgs)
