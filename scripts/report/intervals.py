"""How sure a score is that is the mean of its rows' scores: 95 % intervals."""

import math
import random
from collections.abc import Sequence
from statistics import fmean, stdev

Z = 1.959964  # standard deviations to either side that hold 95 %
DRAWS, SEED = 1000, 0
MOST_DRAWN = 2000  # rows; the mean of more is as good as normal

type Interval = tuple[float, float]


def of_score(score: float, rows: Sequence[float] | None) -> Interval | None:
    """Return the interval of a score, None if that is not the mean of its rows' scores, or of their negatives."""
    if not rows or not math.isfinite(score) or not all(map(math.isfinite, rows)):
        return None
    for sign in (1, -1):
        if math.isclose(sign * fmean(rows), score, rel_tol=1e-5, abs_tol=1e-6):
            low, high = sorted(sign * end for end in of_mean(rows))
            return low, high
    return None


def of_mean(rows: Sequence[float]) -> Interval:
    """Return the interval of the mean: Wilson's of rows that score 0 or 1, else a bootstrap's."""
    if set(rows) <= {0, 1}:
        return wilson(sum(rows), len(rows))
    if len(rows) > MOST_DRAWN:
        around = Z * stdev(rows) / math.sqrt(len(rows))
        return fmean(rows) - around, fmean(rows) + around
    draw = random.Random(SEED)
    means = sorted(fmean(draw.choices(rows, k=len(rows))) for _ in range(DRAWS))
    return means[round(0.025 * DRAWS)], means[round(0.975 * DRAWS) - 1]


def wilson(hits: float, rows: int) -> Interval:
    """Return the interval of a share (Wilson, JASA 22, 1927)."""
    share, weight = hits / rows, Z**2 / rows
    middle = (share + weight / 2) / (1 + weight)
    around = Z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    return max(0.0, middle - around), min(1.0, middle + around)
