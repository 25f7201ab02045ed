"""Intervals of scores are those that statistics has for them."""

import math
import random

import pytest

from scripts.report import intervals


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (27, 30, 0.7438, 0.9654)],
)
def test_a_share(hits, rows, low, high):
    """The interval of rows that score 0 or 1 is Wilson's, as published tables have it."""
    found = intervals.of_score(hits / rows, [1.0] * hits + [0.0] * (rows - hits))
    assert found == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize("rows", [200, 5000])
def test_other_scores(rows):
    """The interval of a mean is nearly that of the normal distribution, and the same each time."""
    draw = random.Random(1)
    scores = [draw.gauss(5, 2) for _ in range(rows)]
    mean = math.fsum(scores) / rows
    low, high = intervals.of_score(mean, scores)
    around = 1.96 * 2 / math.sqrt(rows)
    assert (mean - low, high - mean) == pytest.approx((around, around), rel=0.25)
    assert intervals.of_score(mean, scores) == (low, high)
    assert intervals.of_score(-mean, scores) == (-high, -low)


@pytest.mark.parametrize("rows", [None, (), (math.nan,), (0.5, 0.7)])
def test_no_interval(rows):
    """A score that is not its rows' mean has none: what it is made of is not known."""
    assert intervals.of_score(0.9, rows) is None
