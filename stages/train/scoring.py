"""How good a model is on the test set, and whether one is surely better than another."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from stages.train.promotion import Unscorable

TARGET = "species"


class HeldOut(NamedTuple):
    """The test set: a row an example."""

    features: pd.DataFrame
    truth: pd.Series

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "HeldOut":
        return cls(frame.drop(columns=TARGET), frame[TARGET])

    @classmethod
    def read(cls, path: Path) -> "HeldOut":
        return cls.of(pd.read_csv(path))


def scores(model: Any, held_out: HeldOut) -> dict[str, float]:
    """All that a gate may compare, by the names of `promotion.HIGHER_IS_BETTER`."""
    features, truth = held_out
    predicted = model.predict(features)
    return {
        "test_accuracy": float(accuracy_score(truth, predicted)),
        "test_f1_macro": float(f1_score(truth, predicted, average="macro")),
        "test_log_loss": float(log_loss(truth, model.predict_proba(features), labels=list(model.classes_))),
    }


def hits(model: Any, held_out: HeldOut) -> np.ndarray:
    """For each row whether the model tells its class: bool, shape (rows,)."""
    return np.asarray(model.predict(held_out.features) == held_out.truth)


def mismatch(model: Any, held_out: HeldOut) -> Unscorable | None:
    """Why the model cannot be scored on this test set, if it cannot: it knows other columns, or not all classes."""
    columns = list(held_out.features.columns)
    known = list(getattr(model, "feature_names_in_", columns))
    if known != columns:
        return Unscorable(f"it reads the columns {', '.join(known)[:100]}, the test set has {', '.join(columns)[:100]}")
    if unknown := sorted(set(held_out.truth) - set(model.classes_)):
        return Unscorable(f"it does not know the class {unknown[0]}")
    return None


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The two-sided p-value, in (0, 1], of McNemar's exact test: that the models err equally often on the same rows.

    Only rows that one of them tells and the other does not count: a fair coin would give each of them half.
    (Q. McNemar, Psychometrika 12, 1947; exact form: the binomial test of the discordant pairs.)
    """
    gained, lost = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
