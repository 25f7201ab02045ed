"""Predicts with the model that `evaluate` measures; `make predict` and `make serve` call it, in this stage's image."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

import skops_model
import tables


def load(path: Path) -> Any:
    """Return the model in `path`. Raise BadInput if it is none."""
    return skops_model.load(path)


def probabilities(model: Any, features: pd.DataFrame) -> np.ndarray:
    """Return what `model.predict_proba` does, to the byte; shape (rows, classes).

    scikit-learn makes a job of each tree of a forest: for one row, that takes ten times as long as the trees do.
    """
    rows = features.to_numpy(np.float32)
    if not isinstance(model, RandomForestClassifier) or not np.isfinite(rows).all():
        return model.predict_proba(features)
    total = np.zeros((len(rows), len(model.classes_)))
    for tree in model.estimators_:
        total += tree.tree_.predict(rows)
    total /= len(model.estimators_)
    return total


def predict(model: Any, features: pd.DataFrame) -> pd.DataFrame:
    """Return the `prediction` for each row, and the probability of each class (`probability_<class>`, in [0, 1])."""
    names = list(model.feature_names_in_)
    probability = probabilities(model, features if [*features] == names else features[names])
    # As a forest's own predict does, which asks all trees a second time.
    prediction = model.classes_.take(probability.argmax(axis=1))
    columns = {f"probability_{name}": probability[:, column] for column, name in enumerate(model.classes_)}
    return pd.DataFrame({"prediction": prediction, **columns})


def sample(test_csv: Path) -> pd.DataFrame:
    """Return the features of the test set. A few are the example that is shown, and what a model is tried on."""
    return tables.read(test_csv).iloc[:, :-1]
