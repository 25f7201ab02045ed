"""Predicts with the model that `evaluate` measures."""

from pathlib import Path
from typing import Any

import pandas as pd

import evaluate


def load(path: Path) -> dict[str, Any]:
    return evaluate.load(path)


def predict(model: dict[str, Any], features: pd.DataFrame) -> pd.DataFrame:
    """Return the class that most voters name, and the share that each class has of them."""
    shares = evaluate.shares(model, features[model["features"]].to_numpy().tolist())
    prediction = [max(share, key=share.get) for share in shares]
    columns = {f"probability_{name}": [share[name] for share in shares] for name in model["classes"]}
    return pd.DataFrame({"prediction": prediction, **columns})


def sample(test_csv: Path) -> pd.DataFrame:
    return pd.read_csv(test_csv).drop(columns=evaluate.TARGET)
