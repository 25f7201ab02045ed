"""Fits a random forest, scores it on the test set, and publishes it: run, version, comparison with production."""

import hashlib
import os
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from sklearn.ensemble import RandomForestClassifier

import skops_model
from stagekit import Args, log, run, sha256, write_json
from stages.train import scoring
from stages.train.scoring import TARGET, HeldOut


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


def md5(path: Path) -> str:
    """The hash by which DVC names the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def describe(args: TrainArgs, model: RandomForestClassifier, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """What is known of the model without running it: parameters, scores, features, classes, data digests, packages."""
    train_accuracy = float(scoring.hits(model, HeldOut.of(train)).mean())
    return {
        "algorithm": type(model).__name__,
        "params": args.hyperparameters(),
        "metrics": scoring.scores(model, HeldOut.of(test)) | {"train_accuracy": train_accuracy},
        "features": list(model.feature_names_in_),
        "target": TARGET,
        "classes": [str(name) for name in model.classes_],
        "data": {
            name: {"path": str(path), "rows": len(frame), "sha256": sha256(path), "md5": md5(path)}
            for name, path, frame in (("train", args.train_csv, train), ("test", args.test_csv, test))
        },
        "packages": {name: installed(name) for name in ("numpy", "pandas", "scikit-learn", "skops")},
    }


def publish(args: TrainArgs) -> None:
    """Publishes what is on disk. A registry that is away costs no training: that is a warning, and make publishes."""
    # MLflow takes a second to import, and is of no use to those who only fit and test.
    from stages.train import registry, server

    try:
        settings = server.Settings.from_environment(os.environ)
        outcome = registry.publish(args.model, args.metadata, settings)
    except server.RegistryError as error:
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
    run(main, TrainArgs, imports=["stages.train.registry"])
