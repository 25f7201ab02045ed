"""What is to be run for a batch of trials: each stage once for each choice of parameters that can change its result."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from scripts.pipeline.stage import Pipeline
from scripts.sweeps.study import Trial, Values, key


class Node(NamedTuple):
    """A stage with the values of all tried parameters that it, or a stage before it, gets.

    `trial` is the first one that needs it, in whose name it runs. One that has no values is the same for all trials.
    """

    stage: str
    values: str
    trial: int

    @property
    def name(self) -> str:
        """What it is called in a schedule."""
        return f"{self.stage} of trial {self.trial}" if self.is_of_a_trial else self.stage

    @property
    def is_of_a_trial(self) -> bool:
        return self.values != key({})


def relevant(stage: str, values: Values, pipeline: Pipeline) -> str:
    """Return the key of those values that the stage, or one before it, gets."""
    blocks = {pipeline.stages[name].block for name in pipeline.leading_to(stage)}
    return key({name: value for name, value in values.items() if name.partition(".")[0] in blocks})


def nodes(
    target: str, trials: Sequence[Trial], pipeline: Pipeline, done: Collection[tuple[str, str]]
) -> dict[Node, list[Node]]:
    """Return what must run for the trials to come to `target`, each after what it waits for; `done` need not run again.

    They stand in the order of the trials, so that one trial ends before the next one begins if there is one job.
    """
    first: dict[tuple[str, str], Node] = {}
    found: dict[Node, list[Node]] = {}
    for trial in trials:
        keys = {stage: (stage, relevant(stage, trial.values, pipeline)) for stage in pipeline.leading_to(target)}
        new = [stage for stage in keys if keys[stage] not in first and keys[stage] not in done]
        first |= {keys[stage]: Node(*keys[stage], trial.number) for stage in new}
        for stage in new:
            before = (keys[need] for need in pipeline.needs(stage))
            found[first[keys[stage]]] = [first[each] for each in before if each in first]
    return found
