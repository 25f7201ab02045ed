"""Does what `dvc repro` does, with independent stages side by side: each is DVC's own work, in a process of its own."""

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import NamedTuple

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import Stage
from dvc.utils.serialize import dump_yaml
from networkx import DiGraph

from scripts import settings
from scripts.pipeline import build, failures, images, prestart, template
from scripts.pipeline.console import Screen
from scripts.pipeline.scheduler import Schedule
from scripts.pipeline.worker import FAILED, RAN, Worker
from scripts.project import ROOT, UserError, load_yaml
from scripts.recovery import recover

TRIES = 3  # of a stage that the engine could not start
PAUSE = 2  # seconds before the next one
REFRESH = 1  # seconds; the line at the bottom of a terminal


class Failure(NamedTuple):
    """Why a stage failed, in a sentence, and the lines that it had printed."""

    sentence: str
    printed: Sequence[str]


def reproduce(
    targets: list[str],
    wanted: Mapping[str, images.Image],
    *,
    before_first: Callable[[], None] | None = None,
    before_mlflow: Callable[[], None] | None = None,
) -> list[str]:
    """Brings `targets` (none: all stages) and what they need up to date; the names of the stages that ran.

    `wanted` are the images of the code at hand: one that is missing is built, if DVC says that its stage is to run.
    `before_first` is called before anything begins, if anything does; `before_mlflow` before each stage on MLflow's
    network.
    Raises UserError where a stage fails: with the stage's own sentence if it gave one.
    """
    jobs = _jobs()
    with _dvc_errors(), Repo(str(ROOT), _wait_for_lock=True) as repo:
        graph = get_active_graph(repo.index.graph)
        stages = plan_repro(graph, _named(targets, graph))
        todo = _to_look_at(repo, graph, stages)
        if not todo:
            return []
        if len(todo) < len(stages):
            print(f"{len(stages) - len(todo)} of {len(stages)} stages are up to date", flush=True)
        if before_first:
            before_first()
        prepare = _preparation(todo, wanted, before_mlflow)
        repo.state.close()  # each worker opens its own
        gc.freeze()  # what the workers share with this process stays shared: their collectors do not touch it
        with Screen(todo, failures.LOG) as screen:
            ran = _Run(todo, _schedule(todo, graph, jobs), prepare, screen).go()
        _put_in_order()
    return ran


def _jobs() -> int:
    given = os.environ.get("JOBS") or str(os.cpu_count())
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"JOBS is {given}; expected how many stages may run at once, 1 or more: correct it")
    return int(given)


def _schedule(todo: Mapping[str, Stage], graph: DiGraph, jobs: int) -> Schedule:
    """When the stages of `todo` may run, within the machine's memory."""
    needs = {
        name: [need.addressing for need in graph.successors(stage) if need.addressing in todo]
        for name, stage in todo.items()
    }
    limits = {name: os.environ.get(f"{settings.prefix(name)}_MEMORY", "") for name in todo}
    return Schedule(
        needs,
        {name: settings.size(limit) or 0 for name, limit in limits.items()},
        jobs=jobs,
        budget=psutil.virtual_memory().total,
        keep_going=os.environ.get("KEEP_GOING") == "1",
    )


@contextmanager
def _dvc_errors() -> Iterator[None]:
    """Turns what DVC says of a pipeline that it cannot use into UserError."""
    try:
        yield
    except DvcException as error:
        if "dvc.lock" in str(error):
            raise UserError(
                "dvc.lock is damaged, or a merge left it with conflicts; expected what a run wrote: take one side, or "
                "delete it, and run again"
            ) from None
        raise UserError(f"DVC cannot use this pipeline: {' '.join(str(error).split()).rstrip('.')}") from None


def _named(targets: list[str], graph: DiGraph) -> list[Stage]:
    by_name = {stage.addressing: stage for stage in graph}
    for name in targets:
        if name not in by_name:
            raise UserError(f"there is no stage {name}; expected one of {', '.join(by_name)}: correct the name")
    return [by_name[name] for name in targets] or list(graph)


def _to_look_at(repo: Repo, graph: DiGraph, stages: list[Stage]) -> dict[str, Stage]:
    """Those of `stages`, in their order, that have changed, or of which something that they wait for has; by name."""
    changed: dict[str, Stage] = {}
    with repo.lock:
        for stage in stages:  # each comes after all that it waits for
            if any(need.addressing in changed for need in graph.successors(stage)) or stage.changed():
                changed[stage.addressing] = stage
    return changed


# --- what a stage needs when it runs


def _preparation(
    todo: Mapping[str, Stage], wanted: Mapping[str, images.Image], before_mlflow: Callable[[], None] | None
) -> Callable[[Stage], None]:
    """Builds the missing images of stages that are certain to run, side by side; what to call before a stage runs.

    That builds the image if it is missing still.
    """
    here = build.on_this_machine()
    base = {images.BASE: wanted[images.BASE]}
    used = {name: wanted[name] for name in todo if name in wanted}
    build.claim_present(base | used, here)
    missing = {name: image for name, image in used.items() if image.tag not in here}
    certain = [name for name, image in missing.items() if _must_run(todo[name], image)]
    if certain:
        build.ensure(base | {name: missing.pop(name) for name in certain})

    def prepare(stage: Stage) -> None:
        if stage.addressing in missing:
            build.ensure(base | {stage.addressing: missing[stage.addressing]})
        if before_mlflow and template.NETWORKS["mlflow"] in "".join(stage.cmd):
            before_mlflow()
        if stage.addressing in used:
            print(f"starts in {used[stage.addressing].tag}", flush=True)

    return prepare


def _must_run(stage: Stage, image: images.Image) -> bool:
    """Whether DVC has no outputs that `image`, which is that of `stage`, made: neither by dvc.lock nor by run-cache."""
    if not stage.cmd_changed and stage.outs_cached():
        return False
    entries = (recover.CACHE / "runs").glob("*/*/*")
    return not any(image.tag in entry.read_text(errors="replace") for entry in entries)


# --- the run itself


class _Run:
    """The stages of one run as they begin and end."""

    def __init__(
        self, stages: Mapping[str, Stage], plan: Schedule, prepare: Callable[[Stage], None], screen: Screen
    ) -> None:
        self.stages, self.plan, self.prepare, self.screen = stages, plan, prepare, screen
        self.workers: dict[str, Worker] = {}
        self.early: dict[str, Worker] = {}
        self.tries = dict.fromkeys(stages, TRIES)
        self.ran: list[str] = []
        self.failures: dict[str, Failure] = {}

    def go(self) -> list[str]:
        """Runs them all; the names of those that ran. Raises UserError if one failed."""
        try:
            while self._begin() or self.workers:
                self._follow()
        finally:
            self._stop()
        if not self.failures:
            return self.ran
        failures = {name: self.failures[name] for name in self.stages if name in self.failures}  # the pipeline's order
        for name, failed in failures.items():
            self.screen.repeat(name, failed.printed)
        if left := self.plan.not_begun:
            self.screen.note(f"not run: {', '.join(left)}")
        raise UserError("\nerror: ".join(failed.sentence for failed in failures.values()))

    def _begin(self) -> bool:
        begun = self.plan.begin()
        for name in begun:
            self.screen.begins(name)
            waiting = self.early.pop(name, None)
            if waiting and waiting.is_alive:
                waiting.go()
                self.workers[name] = waiting
            else:
                self.workers[name] = Worker(self.stages[name], self.prepare)
        return bool(begun)

    def _begin_early(self) -> None:
        """Starts the containers of stages that come next once what they wait for runs: before, DVC may need none."""
        runs = [name for name, worker in self.workers.items() if worker.runs]
        for name in self.plan.soon(runs, self.early):
            if prestart.command(name, self.stages[name].cmd):
                self.early[name] = Worker(self.stages[name], self.prepare, ahead=True)

    def _follow(self) -> None:
        """Shows what comes in, until a worker has said something or has ended, or the screen is to be renewed."""
        ended = len(self.stages) - len(self.plan.not_begun) - len(self.workers)
        self.screen.goes_on(ended, len(self.stages))
        workers = self.workers.values()
        descriptors = {number: each for each in workers for number in (each.output, each.told, each.ended)}
        ready = wait(list(descriptors), timeout=REFRESH)
        for each in dict.fromkeys(descriptors[number] for number in ready):
            each.listen()
            has_ended = each.ended in ready
            for line in each.lines(all_of_it=has_ended):
                self.screen.line(each.name, line)
            if has_ended:
                self._end(self.workers.pop(each.name))
        self._begin_early()

    def _end(self, worker: Worker) -> None:
        name = worker.name
        result, why = worker.outcome()
        if result != FAILED:
            self.ran += [name] if result == RAN else []
            self.plan.end(name, well=True)
            self.screen.ends(name, result)
            return
        recover.stop_stages(name)
        printed = [*worker.printed, *why]
        self.tries[name] -= 1
        if self.tries[name] and failures.is_transient(printed):
            self.screen.line(name, "the Docker engine did not answer as it should: trying again ...")
            time.sleep(PAUSE)
            self.workers[name] = Worker(self.stages[name], self.prepare)
            return
        starved = failures.ran_out_of_memory(name, worker.since)
        self.failures[name] = Failure(failures.why(printed, name, starved=starved), worker.printed)
        self.plan.end(name, well=False)
        self.screen.ends(name, result)

    def _stop(self) -> None:
        """Ends what still runs, if anything does: no container of a stage is left, and no process of DVC."""
        workers = [*self.workers.values(), *self.early.values()]
        if not workers:
            return
        for each in workers:
            each.interrupt()
        recover.stop_stages()
        for each in workers:
            each.end_within(recover.GRACE)
        recover.stop_stages()  # of a command that began just then


def _put_in_order() -> None:
    """Sorts the stages in dvc.lock as in dvc.yaml: side by side they end in another order each time."""
    order = list(load_yaml((ROOT / "dvc.yaml").read_text())["stages"])
    lock = load_yaml(recover.DVC_LOCK.read_text())
    found = list(lock["stages"])
    wanted = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    if wanted != found:
        part = recover.DVC_LOCK.with_name(f".{recover.DVC_LOCK.name}.part")
        dump_yaml(part, {**lock, "stages": {name: lock["stages"][name] for name in wanted}})
        part.replace(recover.DVC_LOCK)
        recover.keep_dvc_lock()
