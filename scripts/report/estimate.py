"""How long a run will still take, by how long its stages took in the runs before."""

import heapq
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

RUNS = 10
"""The last ones are looked at: what a stage took long ago says little."""


class Left(NamedTuple):
    """Seconds until the last stage ends; `is_known` is False if some stage never ran before: then it is the least."""

    seconds: float
    is_known: bool

    def __str__(self) -> str:
        if self.seconds < 0.5:  # it takes longer than before, or nothing is known
            return ""
        amount = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} min"
        return f"{'about' if self.is_known else 'at least'} {amount} left"


def usual(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds that each stage takes when it runs, once it has begun: the median of the runs'."""
    times = defaultdict(list)
    for run in runs:
        for stage in run["stages"]:
            if stage["result"] == "ran":
                times[stage["name"]].append(sum(stage["parts"].values()) - stage["parts"]["waiting"])
    return {name: statistics.median(found) for name, found in times.items()}


def left(
    usually: Mapping[str, float], needs: Mapping[str, Sequence[str]], began: Mapping[str, float], jobs: int, now: float
) -> Left:
    """Return how long the stages of `needs` still take, at most `jobs` at once; those that have ended are not in it.

    `began` is when those that run began, on the clock of `now`. Memory, which may let fewer run, is not looked at.
    """
    is_known = all(name in usually for name in needs)
    ends: list[tuple[float, str]] = []
    for name, since in began.items():
        if name in needs:
            heapq.heappush(ends, (max(usually.get(name, 0) - (now - since), 0), name))
    waiting = {name: {need for need in of if need in needs} for name, of in needs.items() if name not in began}
    at = 0.0
    while True:
        for name in [name for name, of in waiting.items() if not of][: max(jobs - len(ends), 0)]:
            del waiting[name]
            heapq.heappush(ends, (at + usually.get(name, 0), name))
        if not ends:
            return Left(at, is_known)
        at, ended = heapq.heappop(ends)
        for of in waiting.values():
            of.discard(ended)
