"""Predicts with the model that `evaluate` measures."""

from pathlib import Path
from typing import Any

import pandas as pd

import evaluate
import skops_model


def load(path: Path) -> Any:
    """Return the model in `path`. Raise BadInput if it is none."""
    return skops_model.load(path)


def predict(model: Any, features: pd.DataFrame) -> pd.DataFrame:
    """Return the `prediction` for each row, in the target's unit."""
    return pd.DataFrame({"prediction": evaluate.predict(model, features)})


def sample(test_csv: Path) -> pd.DataFrame:
    """Return the features of the test set."""
    return pd.read_csv(test_csv).drop(columns=evaluate.TARGET)
