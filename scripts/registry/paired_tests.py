"""Paired tests of two models' scores on the same rows: two-sided p-values, the same on every machine."""

from collections.abc import Sequence
from itertools import batched
from math import fsum
from operator import add
from random import Random

EXACT, DRAWS, SEED = 16, 10_000, 0
"""The permutation test is exact up to 16 rows that differ; beyond that it draws 10,000 times."""


def paired_p_value(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Test that neither model is better on a row than the other: by McNemar where every row scores 0 or 1."""
    test = mcnemar if {*ours, *theirs} <= {0, 1} else permutation_test
    return test(ours, theirs)


def mcnemar(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the p-value of McNemar's exact test (Psychometrika 12, 1947) for rows that score 0 or 1.

    A fair coin would give each model half of the rows on which they differ: the binomial test of those.
    """
    gained = sum(our > their for our, their in zip(ours, theirs, strict=True))
    lost = sum(our < their for our, their in zip(ours, theirs, strict=True))
    ways = tail = 1  # to choose no row, one, two ...
    for chosen in range(min(gained, lost)):
        ways = ways * (gained + lost - chosen) // (chosen + 1)
        tail += ways
    return min(1.0, 2 * tail / 2 ** (gained + lost))


def permutation_test(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the p-value of the sign-flip test: the share of sign changes whose sum is as extreme as the one seen."""
    scale = max(map(abs, [*ours, *theirs]), default=0) or 1  # so that no sum overflows
    differences = [our / scale - their / scale for our, their in zip(ours, theirs, strict=True) if our != their]
    slack = 1e-9 * fsum(map(abs, differences))  # sums that differ by rounding alone are equal
    seen = abs(fsum(differences)) - slack
    sums = _signed_sums(differences) if len(differences) <= EXACT else [*_drawn(differences), seen + slack]
    return sum(abs(value) >= seen for value in sums) / len(sums)


def _signed_sums(differences: Sequence[float]) -> list[float]:
    """Return the sums under all 2^n choices of signs."""
    sums = [0.0]
    for difference in differences:
        sums = [value + difference for value in sums] + [value - difference for value in sums]
    return sums


def _drawn(differences: Sequence[float]) -> list[float]:
    """Return the sums under DRAWS random choices of signs: eight rows at a time, a random byte a draw."""
    random, sums = Random(SEED), [0.0] * DRAWS
    for some in batched(differences, 8, strict=False):
        table = _signed_sums(some)
        sums = list(map(add, sums, (table[byte % len(table)] for byte in random.randbytes(DRAWS))))
    return sums
