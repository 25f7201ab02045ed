import numpy as np
import pandas as pd
import pytest

from stages.train import promotion, scoring, train
from stages.train.scoring import HeldOut

SMALL = {"n_estimators": 5, "max_depth": None, "min_samples_leaf": 1, "max_features": 0.5, "seed": 1}


@pytest.fixture(scope="module")
def model():
    """A forest that takes x = 0 for an a, and x = 1 for a b."""
    return train.fit(pd.DataFrame({"x": [0.0, 1.0] * 20, "species": ["a", "b"] * 20}), **SMALL)


def held_out(*truth: str) -> HeldOut:
    """A test set whose rows alternate between x = 0 and x = 1."""
    return HeldOut(pd.DataFrame({"x": [0.0, 1.0] * (len(truth) // 2)}), pd.Series(truth))


@pytest.mark.parametrize(("truth", "expected"), [("abab", 1), ("abbb", 0.75), ("baba", 0)])
def test_accuracy_is_the_share_of_right_rows(model, truth, expected):
    """The accuracy counts the rows whose class the model tells, and the hits tell which they are."""
    assert scoring.scores(model, held_out(*truth))["test_accuracy"] == expected
    assert scoring.hits(model, held_out(*truth)).tolist() == [t == w for t, w in zip(truth, "abab", strict=True)]


def test_every_metric_of_the_gate_is_measured(model):
    """The scores are those that params.yaml may name, and a better model is better by each of them."""
    good, bad = (scoring.scores(model, held_out(*truth)) for truth in ("abab", "abba"))
    assert good.keys() == promotion.HIGHER_IS_BETTER.keys()
    assert {name: good[name] > bad[name] for name in good} == promotion.HIGHER_IS_BETTER


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    # Two-sided exact binomial probabilities, by hand: 2 * 0.5**6, 2 * (1 + 10) / 2**10, ...
    [(0, 0, 1), (1, 0, 1), (5, 0, 0.0625), (6, 0, 0.03125), (0, 6, 0.03125), (9, 1, 0.021484375), (3, 3, 1)],
)
def test_mcnemar_is_exact(gained, lost, p_value):
    """The p-value is that of a fair coin over the rows that only one of the models tells; the others do not count."""
    ours = np.array([True] * gained + [False] * lost + [True, False] * 7)
    theirs = np.array([False] * gained + [True] * lost + [True, False] * 7)
    assert scoring.mcnemar(ours, theirs) == pytest.approx(p_value)


def test_a_model_of_other_columns_or_classes_is_told(model):
    """A test set that the model was not made for is told by the column, or the class, that does not fit."""
    assert scoring.mismatch(model, held_out(*"abab")) is None
    assert "the test set has y" in scoring.mismatch(model, HeldOut(pd.DataFrame({"y": [0.0]}), pd.Series(["a"]))).why
    assert "class c" in scoring.mismatch(model, held_out(*"abac")).why
