"""Predicts with the model that `evaluate` measures."""

from pathlib import Path

import lightgbm
import pandas as pd

import evaluate
from stagekit import BadInput


def load(path: Path) -> lightgbm.Booster:
    """Return the model in `path`. Raise BadInput if it is none."""
    try:
        return lightgbm.Booster(model_file=path)
    except lightgbm.basic.LightGBMError as error:
        raise BadInput(f"{path} is no model ({error}); expected what train wrote") from None


def predict(model: lightgbm.Booster, features: pd.DataFrame) -> pd.DataFrame:
    """Return for each row the `prediction`, how likely it is of the class, in [0, 1]."""
    return pd.DataFrame({"prediction": model.predict(features)})


def sample(test_csv: Path) -> pd.DataFrame:
    """Return the features of the test set."""
    return pd.read_csv(test_csv).drop(columns=evaluate.TARGET)
