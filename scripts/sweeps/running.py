"""Runs the trials of a batch: as many stages at once as jobs and memory allow, each in a working copy."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from scripts import settings
from scripts.pipeline import dvc_adapter
from scripts.pipeline.scheduler import Schedule
from scripts.pipeline.stage import Pipeline, prefix
from scripts.project import Project, Unavailable, UserError
from scripts.registry.logged import leaves, read_metrics
from scripts.sweeps import plan, slots, study, values
from scripts.sweeps.plan import Node
from scripts.sweeps.slots import Ended, Process, Slot
from scripts.sweeps.spec import Target
from scripts.sweeps.study import Outcome, Study, Trial, is_score

REFRESH = 1.0  # seconds


@dataclass
class Runner:
    """Runs trials of a sweep; to be closed. `ended` is called when a trial has ended, `goes_on` now and then."""

    project: Project
    pipeline: Pipeline
    study: Study
    target: Target
    given: Mapping[str, str]
    params: str  # the text of params.yaml
    jobs: int
    ended: Callable[[Trial], object]
    goes_on: Callable[[Sequence[str]], object]
    _free: list[Slot] = field(default_factory=list)
    _running: dict[str, tuple[Slot, Process]] = field(default_factory=dict)
    _done: set[tuple[str, str]] = field(default_factory=set)
    _failed: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    _seconds: dict[int, float] = field(default_factory=dict)
    _ran: dict[int, list[str]] = field(default_factory=dict)

    @property
    def _folder(self) -> Path:
        return study.folder(self.project, self.study.id)

    def open(self) -> None:
        """Make the working copies. Raise UserError if the disk does not take them."""
        slots.remove(self._folder / study.SLOTS)
        try:
            (self._folder / study.LOGS).mkdir(parents=True, exist_ok=True)
            with dvc_adapter.errors(), dvc_adapter.repository(self.project.root) as repo:
                for number in range(1, self.jobs + 1):
                    slot = Slot(self._folder / study.SLOTS / str(number), number)
                    slot.make(self.project, repo, self.pipeline, self.given)
                    self._free.append(slot)
        except OSError as error:
            raise UserError(
                f"the working copies of the sweep cannot be made in {self._folder.relative_to(self.project.root)} "
                f"({error.strerror}); expected room for them: make some, and 'make sweep' goes on"
            ) from None

    def close(self) -> None:
        """Stop what runs, and delete the working copies."""
        for _, process in self._running.values():
            process.stop()
        for _, process in self._running.values():
            process.end()
        slots.remove(self._folder / study.SLOTS)

    def run(self, trials: Sequence[Trial]) -> None:
        """Run the trials, and note what came of each.

        Raise UserError if a stage fails that is the same for all of them, Unavailable if that was no trial's fault.
        """
        needs = plan.nodes(self.target.stage, trials, self.pipeline, self._done)
        nodes = {node.name: node for node in needs}
        by_number = {trial.number: trial for trial in trials}
        schedule = self._schedule({node.name: [each.name for each in before] for node, before in needs.items()}, nodes)
        self._go(schedule, nodes, by_number)
        for name in schedule.not_begun:  # what they wait for failed
            trial = by_number[nodes[name].trial]
            if trial.outcome is None:
                self._fail(trial, self._why(trial))

    def _go(self, schedule: Schedule, nodes: Mapping[str, Node], trials: Mapping[int, Trial]) -> None:
        """Run all of the schedule that can be run."""
        while self._begin(schedule, nodes, trials) or self._running:
            self.goes_on([*self._running])
            ready = wait([process.ended for _, process in self._running.values()], timeout=REFRESH)
            for name in [name for name, (_, process) in self._running.items() if process.ended in ready]:
                slot, process = self._running.pop(name)
                node, ended = nodes[name], process.outcome()
                self._end(node, ended, slot, trials[node.trial])
                schedule.end(name, well=not ended.sentence)
                self._free.append(slot)

    def _schedule(self, needs: Mapping[str, Sequence[str]], nodes: Mapping[str, Node]) -> Schedule:
        limits = {name: os.environ.get(f"{prefix(node.stage)}_MEMORY", "") for name, node in nodes.items()}
        memory = {name: settings.size(limit) or 0 for name, limit in limits.items()}
        budget = psutil.virtual_memory().total
        return Schedule(needs, memory, jobs=self.jobs, budget=budget, keep_going=True)

    def _begin(self, schedule: Schedule, nodes: Mapping[str, Node], trials: Mapping[int, Trial]) -> bool:
        begun = schedule.begin()
        for name in begun:
            node = nodes[name]
            self._running[name] = self._start(node.stage, trials[node.trial])
        return bool(begun)

    def _start(self, stage: str, trial: Trial) -> tuple[Slot, Process]:
        slot = self._free.pop(0)
        return slot, slot.start(stage, self._text(trial), self.pipeline, self._log(trial), self.project)

    def _text(self, trial: Trial) -> str:
        """Return params.yaml with a trial's values."""
        return values.written(self.params, trial.values)

    def _log(self, trial: Trial) -> Path:
        return self._folder / study.LOGS / f"{trial.number}.log"

    def _end(self, node: Node, ended: Ended, slot: Slot, trial: Trial) -> None:
        if ended.passing:
            again = "'make sweep' goes on once that is mended"
            raise Unavailable(f"{node.name} did not run: {ended.sentence}; {again}")
        if ended.sentence and not node.is_of_a_trial:
            raise UserError(ended.sentence)
        self._seconds[trial.number] = self._seconds.get(trial.number, 0) + ended.seconds
        self._ran.setdefault(trial.number, []).extend(ended.ran)
        if ended.sentence:
            self._failed[node.stage, node.values] = trial.number, ended.sentence
            return self._fail(trial, ended.sentence)
        self._done.add((node.stage, node.values))
        if node.stage == self.target.stage:
            try:
                metrics = read_metrics(slot.project.root / self.target.file)
            except UserError as error:
                return self._fail(trial, str(error))
            self._note(trial, metrics)

    def _note(self, trial: Trial, metrics: dict[str, float]) -> None:
        """Note the score of a trial. Raise UserError if the objective's number is not among what was measured."""
        metric, score = self.study.metric, metrics.get(self.study.metric)
        if score is None:
            raise UserError(
                f"{self.target.stage} measures no {metric} in {self.target.file}; expected one of "
                f"{', '.join(metrics) or 'a number there'}: correct objective.metric"
            )
        finite = {name: value for name, value in metrics.items() if is_score(value)}
        if not is_score(score):
            self._save(trial, None, finite, f"its {metric} is {score}, not a finite number")
        else:
            self._save(trial, score, finite)

    def _fail(self, trial: Trial, sentence: str) -> None:
        self._save(trial, None, {}, sentence)

    def _save(self, trial: Trial, score: float | None, metrics: dict[str, float], sentence: str = "") -> None:
        seconds, ran = self._seconds.get(trial.number, 0.0), self._ran.get(trial.number, [])
        self.study.end(trial, Outcome(score, metrics, round(seconds, 3), ran, sentence))
        study.save(self.study, self.project)
        self.ended(trial)

    def _why(self, trial: Trial) -> str:
        """Return why a trial could not begin: a stage before, which it shares with an earlier one, failed there."""
        leading = self.pipeline.leading_to(self.target.stage)
        mine = {(stage, plan.relevant(stage, trial.values, self.pipeline)) for stage in leading}
        return next(f"as of trial {self._failed[each][0]}: {self._failed[each][1]}" for each in mine & {*self._failed})

    def score_all(self, trial: Trial) -> list[str]:
        """Bring the rest of the pipeline up to date for one trial, so that a run finds all of it in the cache; return
        the stages that ran. Raise UserError if one fails."""
        ended = self._waited_for(*self._start("", trial), ["the rest of the pipeline"])
        if ended.sentence:
            raise (Unavailable if ended.passing else UserError)(ended.sentence)
        return ended.ran

    def _waited_for(self, slot: Slot, process: Process, running: Sequence[str]) -> Ended:
        self._running[""] = slot, process
        while not wait([process.ended], timeout=REFRESH):
            self.goes_on(running)
        del self._running[""]
        self._free.append(slot)
        return process.outcome()


def parameters(pipeline: Pipeline) -> dict[str, Any]:
    """Return all parameters of the pipeline's stages, by their names with dots."""
    sections = {stage.block: stage.section or {} for stage in pipeline.stages.values()}
    return {f"{block}.{name}": value for block, section in sections.items() for name, value in leaves(section)}
