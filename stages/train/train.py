"""Fits a random forest on the training set, shows how good it is as it grows, and scores it by cross-validation."""

import json
import math
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

import skops_model
import tables
from stagekit import Args, BadInput, log, log_metric, rounded, run, write_json, writing

STEPS = 10
"""How often a growing forest is measured."""
ROWS = 100_000
"""Rows that a tree votes on at once: of all of ten million, the votes alone would take a third of a gigabyte."""


class TrainArgs(Args):
    train_csv: Path
    model: Path
    signature: Path
    training: Path
    cv: Path
    folds_csv: Path
    n_estimators: Annotated[int, Field(ge=1, le=10_000)]  # trees
    max_depth: Annotated[int, Field(ge=1)] | None  # levels; None: until the leaves are pure
    min_samples_leaf: Annotated[int, Field(ge=1)]  # rows
    max_features: Annotated[float, Field(gt=0, le=1)]  # share of the features that a split looks at
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    folds: Annotated[int, Field(ge=2, le=20)]  # of the training rows, for a score that spends no test data

    def hyperparameters(self) -> dict[str, Any]:
        """Return what changes the model, beside its data."""
        return self.model_dump(include={"n_estimators", "max_depth", "min_samples_leaf", "max_features", "seed"})


class Votes:
    """What the trees of a growing forest say of each training row."""

    def __init__(self, features: pd.DataFrame, truth: pd.Series) -> None:
        self._rows = features.to_numpy(np.float32)
        self._truth = truth.to_numpy()
        self._trees = 0
        self._all = np.zeros((len(truth), truth.nunique()))  # shape (rows, classes)
        self._unseen = np.zeros_like(self._all)  # by the trees alone that were not fitted on the row

    def count(self, forest: RandomForestClassifier) -> dict[str, float]:
        """Add the votes of the trees that are new; return the step (trees so far) and both accuracies, in [0, 1]."""
        for tree in forest.estimators_[self._trees :]:
            self._add(tree, fitted_on(forest, tree))
        self._trees = len(forest.estimators_)
        accuracies = {"train_accuracy": self._all, "oob_accuracy": self._unseen}
        return {"step": self._trees} | {name: self._accuracy(votes, forest) for name, votes in accuracies.items()}

    def _add(self, tree: DecisionTreeClassifier, samples: np.ndarray) -> None:
        unseen = np.ones(len(self._rows), bool)
        unseen[samples] = False
        for start in range(0, len(self._rows), ROWS):
            some = slice(start, start + ROWS)
            votes = tree.predict_proba(self._rows[some])
            self._all[some] += votes
            self._unseen[some] += votes * unseen[some, None]

    def _accuracy(self, votes: np.ndarray, forest: RandomForestClassifier) -> float:
        voted = votes.any(axis=1)  # a row that every tree was fitted on has no vote
        return rounded(float((forest.classes_[votes.argmax(axis=1)] == self._truth)[voted].mean()))


def fitted_on(forest: RandomForestClassifier, tree: DecisionTreeClassifier) -> np.ndarray:
    """Return the numbers of the rows that a tree of the forest was fitted on, some of them several times."""
    alone = copy(forest)  # for the whole forest, scikit-learn would draw the rows of all its trees
    alone.estimators_ = [tree]
    return alone.estimators_samples_[0]


def fit(
    frame: pd.DataFrame, *, n_estimators: int, seed: int, **hyperparameters: Any
) -> tuple[RandomForestClassifier, pd.DataFrame]:
    """Return a forest fitted on `frame` (features, then the target), and how good it was as it grew (see `Votes`).

    A forest that grows is the same, to the byte, as one that is fitted at once.
    """
    features, truth = frame.iloc[:, :-1], frame.iloc[:, -1]
    forest = RandomForestClassifier(**hyperparameters, random_state=seed, warm_start=True)
    votes, growth = Votes(features, truth), []
    for trees in sorted({math.ceil(n_estimators * step / STEPS) for step in range(1, STEPS + 1)}):
        forest.set_params(n_estimators=trees).fit(features, truth)
        growth.append(votes.count(forest))
        log_metric(**growth[-1])
    return forest.set_params(warm_start=False), pd.DataFrame(growth)


def cross_validated(frame: pd.DataFrame, folds: int, *, seed: int, **hyperparameters: Any) -> pd.DataFrame:
    """Return a row for each fold: its rows, and the share of them that a forest names which was fitted on the others.

    Raise BadInput if a class has fewer rows than there are folds.
    """
    features, truth = frame.iloc[:, :-1], frame.iloc[:, -1]
    if (fewest := truth.value_counts()).min() < folds:
        raise BadInput(
            f"train.folds is {folds}, and {fewest.idxmin()} has {fewest.min()} rows to train with; expected no more "
            "folds than rows of each class: correct it in params.yaml"
        )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, truth)
    found = []
    for fold, (fitted, left_out) in enumerate(parts, 1):
        forest = RandomForestClassifier(**hyperparameters, random_state=seed)
        forest.fit(features.iloc[fitted], truth.iloc[fitted])
        accuracy = forest.score(features.iloc[left_out], truth.iloc[left_out])
        found.append({"fold": fold, "rows": len(left_out), "accuracy": accuracy})
    return pd.DataFrame(found)


def signature(forest: RandomForestClassifier) -> dict[str, str]:
    """Return what the model reads and says, in the form of MLflow's ModelSignature."""
    inputs = [{"type": "double", "name": name, "required": True} for name in forest.feature_names_in_]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": "string", "required": True}])}


def main(args: TrainArgs) -> None:
    frame = tables.read(args.train_csv)
    forest, growth = fit(frame, **args.hyperparameters())
    skops_model.save(forest, args.model)
    write_json(args.signature, signature(forest))
    folds = cross_validated(frame, args.folds, **args.hyperparameters())
    write_json(args.cv, {"cv_accuracy": float(folds["accuracy"].mean()), "cv_std": float(folds["accuracy"].std())})
    for table, path in ((growth, args.training), (folds.round(6), args.folds_csv)):
        with writing(path) as part:
            table.to_csv(part, index=False, lineterminator="\n")
    log.info("%d trees on %d rows -> %s", len(forest.estimators_), len(frame), args.model)


if __name__ == "__main__":
    run(main, TrainArgs)
