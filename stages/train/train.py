"""Fits a random forest, scores it on the test set, and publishes it: run, version, comparison with production."""

import os
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score

import skops_model
from stagekit import Args, log, run, sha256, write_json

TARGET = "species"


class TrainArgs(Args):
    train_csv: Path
    test_csv: Path
    model: Path
    metadata: Path
    n_estimators: Annotated[int, Field(ge=1, le=10_000)]  # trees
    max_depth: Annotated[int, Field(ge=1)] | None  # levels; None: until the leaves are pure
    min_samples_leaf: Annotated[int, Field(ge=1)]  # rows
    max_features: Annotated[float, Field(gt=0, le=1)]  # share of the features that a split looks at
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    def hyperparameters(self) -> dict[str, Any]:
        """What changes the model, beside its data."""
        return self.model_dump(include={"n_estimators", "max_depth", "min_samples_leaf", "max_features", "seed"})


def fit(frame: pd.DataFrame, *, seed: int, **hyperparameters: Any) -> RandomForestClassifier:
    """A forest fitted on `frame` (features, then `species`); the same bytes for the same arguments."""
    forest = RandomForestClassifier(**hyperparameters, random_state=seed)
    return forest.fit(frame.drop(columns=TARGET), frame[TARGET])


def accuracy(model: RandomForestClassifier, frame: pd.DataFrame) -> float:
    """Share of the rows of `frame` whose class the model tells, in [0, 1]."""
    return float(accuracy_score(frame[TARGET], model.predict(frame.drop(columns=TARGET))))


def describe(args: TrainArgs, model: RandomForestClassifier, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """What is known of the model without running it: parameters, scores, features, classes, data digests, packages."""
    return {
        "algorithm": type(model).__name__,
        "params": args.hyperparameters(),
        "metrics": {"test_accuracy": accuracy(model, test), "train_accuracy": accuracy(model, train)},
        "features": list(model.feature_names_in_),
        "target": TARGET,
        "classes": [str(name) for name in model.classes_],
        "data": {
            "train": {"path": str(args.train_csv), "rows": len(train), "sha256": sha256(args.train_csv)},
            "test": {"path": str(args.test_csv), "rows": len(test), "sha256": sha256(args.test_csv)},
        },
        "packages": {name: installed(name) for name in ("numpy", "pandas", "scikit-learn", "skops")},
    }


def publish(args: TrainArgs) -> None:
    """Publishes what is on disk. A registry that is away costs no training: that is a warning, and make publishes."""
    from stages.train import (
        registry,  # MLflow takes a second to import, and is of no use to those who only fit and test
    )

    try:
        settings = registry.Settings.from_environment(os.environ)
        outcome = registry.publish(args.model, args.metadata, settings)
    except registry.RegistryError as error:
        log.warning("warning: the model is trained, but not published: %s", error)
    else:
        log.info("version %s of %s -> %s: %s", outcome.version, settings.model, outcome.stage, outcome.reason)


def main(args: TrainArgs) -> None:
    train, test = pd.read_csv(args.train_csv), pd.read_csv(args.test_csv)
    model = fit(train, **args.hyperparameters())
    skops_model.save(model, args.model)
    metadata = describe(args, model, train, test)
    write_json(args.metadata, metadata)
    log.info("test accuracy %.4f on %d rows -> %s", metadata["metrics"]["test_accuracy"], len(test), args.model)
    publish(args)


if __name__ == "__main__":
    run(main, TrainArgs)
