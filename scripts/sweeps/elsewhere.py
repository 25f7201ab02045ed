"""Runs the trials of a batch elsewhere: a job for each stage that differs; results come by way of DVC's remote."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count

from scripts.pipeline import elsewhere
from scripts.pipeline.elsewhere import Job, Place
from scripts.pipeline.scheduler import Schedule
from scripts.sweeps import slots
from scripts.sweeps.plan import Node
from scripts.sweeps.running import Runner
from scripts.sweeps.slots import Ended
from scripts.sweeps.study import Trial


@dataclass(kw_only=True)
class Elsewhere(Runner):
    """Runs trials of a sweep in a `place`; what follows the objective runs here, in the one working copy."""

    place: Place

    def _schedule(self, needs: Mapping[str, Sequence[str]], nodes: Mapping[str, Node]) -> Schedule:
        """Return when jobs may begin: as soon as what they wait for has ended, however many these are."""
        return Schedule(needs, dict.fromkeys(needs, 0), jobs=len(needs) + 1, budget=0, keep_going=True)

    def _go(self, schedule: Schedule, nodes: Mapping[str, Node], trials: Mapping[int, Trial]) -> None:
        while begun := schedule.begin():
            jobs = [Job(name, nodes[name].stage, self._text(trials[nodes[name].trial])) for name in begun]
            left = dict(zip(count(), begun))
            with closing(self.place.run(jobs)) as told:
                for each in told:
                    self.goes_on([*left.values()])
                    if each:
                        node = nodes[name := left.pop(each.number)]
                        ended = self._brought(node, each, trials[node.trial], [*left.values()])
                        self._end(node, ended, self._free[0], trials[node.trial])
                        schedule.end(name, well=not ended.sentence)

    def _brought(self, node: Node, told: elsewhere.Ended, trial: Trial, running: Sequence[str]) -> Ended:
        """Return how a job ended; if it is the objective's stage, with the objective's file in the working copy."""
        ended = Ended([], told.sentence, told.passing or slots.no_room(told.sentence), told.seconds)
        if ended.sentence or node.stage != self.target.stage:
            return ended
        slot = self._free.pop(0)
        process = slot.fetch(node.stage, self.target.file, self._text(trial), self._log(trial), self.project)
        return self._waited_for(slot, process, running)._replace(seconds=told.seconds)
