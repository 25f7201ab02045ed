"""Fits LightGBM's trees to the training set, and shows the loss as they become more."""

import json
from pathlib import Path
from typing import Annotated, Any

import lightgbm
import pandas as pd
from lightgbm.callback import CallbackEnv
from pydantic import Field

from stagekit import Args, log, log_metric, run, write_json, writing

TARGET, POSITIVE = "species", "virginica"
SAME_EVERYWHERE = {"deterministic": True, "force_row_wise": True, "num_threads": 1}
"""Without these a sum depends on the machine's cores, and the last digits of the model on the sum."""


class TrainArgs(Args):
    train_csv: Path
    model: Path
    signature: Path
    rounds: Annotated[int, Field(ge=1, le=10_000)]  # trees
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    num_leaves: Annotated[int, Field(ge=2)]  # of a tree
    min_data_in_leaf: Annotated[int, Field(ge=1)]  # rows
    seed: Annotated[int, Field(ge=0, lt=2**31)]


def show(progress: CallbackEnv) -> None:
    """Print the loss, for the run to show and log while the stage runs; LightGBM calls this after each tree."""
    [(_, _, loss, _)] = progress.evaluation_result_list
    log_metric(step=progress.iteration + 1, train_log_loss=loss)


def fit(frame: pd.DataFrame, rounds: int, **hyperparameters: Any) -> lightgbm.Booster:
    """Return a model of the probability that a row's class is POSITIVE."""
    data = lightgbm.Dataset(frame.drop(columns=TARGET), label=frame[TARGET] == POSITIVE)
    params = {"objective": "binary", "metric": "binary_logloss", "verbosity": -1} | SAME_EVERYWHERE | hyperparameters
    return lightgbm.train(params, data, rounds, valid_sets=[data], valid_names=["train"], callbacks=[show])


def signature(model: lightgbm.Booster) -> dict[str, str]:
    """Return what the model reads and says, in the form of MLflow's ModelSignature."""
    inputs = [{"type": "double", "name": name, "required": True} for name in model.feature_name()]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": "double", "required": True}])}


def main(args: TrainArgs) -> None:
    frame = pd.read_csv(args.train_csv)
    model = fit(frame, **args.model_dump(exclude={"train_csv", "model", "signature"}))
    with writing(args.model) as part:
        model.save_model(part)
    write_json(args.signature, signature(model))
    log.info("%d trees on %d rows -> %s", model.num_trees(), len(frame), args.model)


if __name__ == "__main__":
    run(main, TrainArgs)
