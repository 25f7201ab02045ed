"""Which stages may run now: those whose inputs are made, as many at once as jobs and memory allow."""

import graphlib
import heapq
from collections.abc import Collection, Mapping


class Schedule:
    """The stages that are still to be run, those that run, and those that ended.

    `needs`: the stages that each one waits for; of several that could begin, the one that stands first in it does.
    `memory`: each one's limit, in the unit of `budget`; the sum of those that run stays within it, but one alone always
    runs. `jobs`: how many run at once, at least 1. After a failure nothing begins any more; with `keep_going` all does
    that does not depend on what failed.
    """

    def __init__(
        self,
        needs: Mapping[str, Collection[str]],
        memory: Mapping[str, int],
        *,
        jobs: int,
        budget: int,
        keep_going: bool = False,
    ) -> None:
        self._sorter = graphlib.TopologicalSorter(needs)
        self._sorter.prepare()
        self._place = {stage: place for place, stage in enumerate(needs)}
        self._missing = {stage: set(others) for stage, others in needs.items()}
        self._needed_by = _turned(needs)
        self._memory, self._jobs, self._budget, self._keep_going = memory, jobs, budget, keep_going
        self._waiting: list[str] = []
        self._left = dict.fromkeys(needs)  # those that have not begun, in their order
        self._room = sum(heapq.nlargest(2 * jobs, memory.values())) <= budget
        self.running: set[str] = set()
        self.failed: list[str] = []

    def begin(self) -> list[str]:
        """Return the stages to start now; from here on they count as running."""
        if ready := self._sorter.get_ready():
            self._waiting = sorted([*self._waiting, *ready], key=self._place.__getitem__)
        begun = []
        while stage := self._next():
            self._waiting.remove(stage)
            del self._left[stage]
            self.running.add(stage)
            begun.append(stage)
        return begun

    def soon(self, runs: Collection[str], early: Collection[str]) -> list[str]:
        """Return the stages to start early, besides those of `early`: what they wait for is done, or is in `runs`.

        As many as jobs are idle. None where the memory would not do for as many stages that wait as ones that run.
        """
        idle = self._jobs - len(self.running) - len(early)
        if not self._room or self.failed or idle <= 0:
            return []
        runs = set(runs)
        after = {each for stage in runs for each in self._needed_by[stage] if each in self._left and each not in early}
        found = [stage for stage in after if self._missing[stage] and self._missing[stage] <= runs]
        return sorted(found, key=self._place.__getitem__)[:idle]

    def _next(self) -> str | None:
        if len(self.running) >= self._jobs or (self.failed and not self._keep_going):
            return None
        left = self._budget - sum(self._memory[stage] for stage in self.running)
        fitting = (stage for stage in self._waiting if self._memory[stage] <= left)
        return next(fitting, None) if self.running else next(iter(self._waiting), None)

    def end(self, stage: str, *, well: bool) -> None:
        """Note that a running stage has ended; those that wait for it become ready only if it ended well."""
        self.running.remove(stage)
        if well:
            for after in self._needed_by[stage]:
                self._missing[after].discard(stage)
            self._sorter.done(stage)
        else:
            self.failed.append(stage)

    @property
    def not_begun(self) -> list[str]:
        """The stages that never began; to be read when nothing runs or begins any more."""
        return list(self._left)


def _turned(needs: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Return the stages that wait for each one."""
    found: dict[str, list[str]] = {stage: [] for stage in needs}
    for stage, others in needs.items():
        for other in set(others):
            found.setdefault(other, []).append(stage)
    return found
