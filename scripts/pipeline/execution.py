"""Does what `dvc repro` does, with independent stages side by side: each is DVC's own work, in a process of its own."""

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import wait
from typing import Any, NamedTuple, Protocol

import psutil

from scripts import settings
from scripts.pipeline import build, dvc_adapter, failures, images, prestart, takeover
from scripts.pipeline.at_rest import Look
from scripts.pipeline.console import Console
from scripts.pipeline.containers import GRACE, stop_stages
from scripts.pipeline.live_metrics import MARK, LiveMetric, parse
from scripts.pipeline.scheduler import Schedule
from scripts.pipeline.stage import Pipeline, block, prefix
from scripts.pipeline.worker import FAILED, RAN, Task, Worker
from scripts.project import Project, Unavailable, UserError
from scripts.recovery.dvc_files import keep_dvc_lock
from scripts.yaml12 import load_yaml

TRIES = 3  # of a stage that the engine could not start
PAUSE = 2  # seconds before the next one
REFRESH = 1  # seconds; the line at the bottom of a terminal
TOLD = 100  # lines of a stage that failed


class Listener(Protocol):
    """Hears of a run as it goes on. None of the calls may wait for anything."""

    def begin(self) -> None:
        """Called once, before the first stage begins, if any does."""

    def metric(self, stage: str, metric: LiveMetric) -> None:
        """Called for each metric that a stage prints."""

    def ended(self, stage: str) -> None:
        """Called when a stage is up to date: it ran, was restored, or had not changed."""

    def fact(self, kind: str, **values: Any) -> None:
        """Called for all that a report may tell of the run, each when it happens.

        plan: `needs`, the stages that each one waits for, and those that are `up_to_date`; `jobs`, how many may run at
        once. images: those that are certain to be needed are there, and stages may begin. begins: a `stage` begins;
        before that it waited. step: a `stage` came to a `step` of scripts/pipeline/worker.py. retry: the engine could
        not start a `stage`, which begins again. ends: a `stage` ended, `result`; if it failed the `sentence` that says
        why, and what it `printed` last. What begins, steps and ends does so `at` seconds since 1970.
        """

    def progress(self) -> str:
        """Called for a terminal's bottom line, once a second or more: what to say beside the time so far."""


class Failure(NamedTuple):
    """Why a stage failed, in a sentence, the lines that it had printed, and whether it may pass by itself."""

    sentence: str
    printed: Sequence[str]
    passing: bool


def reproduce(
    project: Project,
    pipeline: Pipeline,
    wanted: Mapping[str, images.Image],
    targets: Sequence[str] = (),
    *,
    listener: Listener | None = None,
    before_mlflow: Callable[[], None] | None = None,
    alone: bool = False,
    may_run: bool = True,
    look: Look | None = None,
) -> list[str]:
    """Bring `targets` (none: all stages) and what they need up to date; return the names of the stages that ran.

    With `alone`, what they need is left as it is; without `may_run`, a stage that would run fails instead. `look` gets
    to know whether there was anything to do.

    `wanted` are the images of the code as it is now: one that is missing is built if DVC says that its stage is to run.
    Of those that are not named there, whoever calls has seen to it that they are here.
    `before_mlflow` is called before each stage on MLflow's network.
    Raise UserError if a stage fails, with the stage's own sentence if it gave one; Unavailable if no stage is to blame.
    """
    jobs_at_once = jobs()
    os.environ.update(pipeline.given(os.environ))
    with dvc_adapter.errors(), dvc_adapter.repository(project.root) as repo:
        with ThreadPoolExecutor(1) as aside:  # which is gone when processes are forked
            here = aside.submit(build.on_this_machine if may_run and wanted else dict)
            planned = dvc_adapter.plan(repo, targets)
            if alone:
                planned = planned.only(targets)
            if look:
                look.at(dvc_adapter.files_of(planned))
            todo = dvc_adapter.changed(repo, planned)
        if not todo.stages:
            if look:
                look.found_nothing_to_do = True
            return []
        up_to_date = [name for name in planned.stages if name not in todo.stages]
        if listener:
            listener.begin()
            needs = {name: list(planned.needs[name]) for name in planned.stages}
            listener.fact("plan", needs=needs, up_to_date=up_to_date, jobs=jobs_at_once)
        if up_to_date:
            print(f"{len(up_to_date)} of {len(planned.stages)} stages are up to date", flush=True)
        prepare = _Preparation(project, repo, pipeline, todo, wanted, before_mlflow, here, may_run=may_run)
        if listener:
            listener.fact("images")
        repo.state.close()  # each worker opens its own
        gc.freeze()  # what the workers share with this process stays shared: their collectors do not touch it
        gc.enable()
        tasks = {
            name: Task(project, stage, pipeline.stages.get(name), prepare.of(name))
            for name, stage in todo.stages.items()
        }
        with Console(tasks, project.logs / "run.log") as console:
            run = _Run(tasks, _schedule(todo, jobs_at_once), console, listener)
            for name in up_to_date:
                run.hear_of(name)
            ran = run.go()
        _put_in_order(project)
    return ran


def jobs() -> int:
    """Return how many stages may run at once. Raise UserError if JOBS is no number of them."""
    given = os.environ.get("JOBS") or str(os.cpu_count())
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"JOBS is {given}; expected how many stages may run at once, 1 or more: correct it")
    return int(given)


def _schedule(todo: dvc_adapter.Plan, jobs: int) -> Schedule:
    """Return when the stages of `todo` may run, within the machine's memory."""
    limits = {name: os.environ.get(f"{prefix(name)}_MEMORY", "") for name in todo.stages}
    return Schedule(
        todo.needs,
        {name: settings.size(limit) or 0 for name, limit in limits.items()},
        jobs=jobs,
        budget=psutil.virtual_memory().total,
        keep_going=os.environ.get("KEEP_GOING") == "1",
    )


# --- what a stage needs when it runs


class _Preparation:
    """Builds missing images: of stages that are certain to run at once, side by side; of the others on demand."""

    def __init__(
        self,
        project: Project,
        repo: dvc_adapter.Repo,
        pipeline: Pipeline,
        todo: dvc_adapter.Plan,
        wanted: Mapping[str, images.Image],
        before_mlflow: Callable[[], None] | None,
        here: Future[dict[str, str]],
        *,
        may_run: bool,
    ) -> None:
        self._project, self._pipeline, self._before_mlflow = project, pipeline, before_mlflow
        self._may_run, self._missing, self._used = may_run, {}, {}
        if not may_run or not wanted:
            return
        self._base = {images.BASE: wanted[images.BASE]}
        self._used = {name: wanted[block(name)] for name in todo.stages if block(name) in wanted}
        present = here.result()
        build.claim_present(self._base | self._used, present)
        self._missing = {name: image for name, image in self._used.items() if image.tag not in present}
        if not self._missing:
            return
        cached = dvc_adapter.cached_commands(repo)
        certain = [name for name in self._missing if dvc_adapter.must_run(repo, todo.stages[name], cached)]
        if certain:
            build.ensure(self._base | {name: self._missing.pop(name) for name in certain}, project)

    def of(self, name: str) -> Callable[[], None]:
        """Return what is to be called, in the stage's own process, before its command runs."""

        def prepare() -> None:
            if not self._may_run:
                raise UserError(
                    f"stage {name} would have to run; expected its result in DVC's cache: 'make run' makes it"
                )
            if name in self._missing:
                build.ensure(self._base | {name: self._missing[name]}, self._project)
            stage = self._pipeline.stages.get(name)
            if self._before_mlflow and stage and stage.network == "mlflow":
                self._before_mlflow()
            if name in self._used:
                print(f"starts in {self._used[name].tag}", flush=True)

        return prepare


# --- the run itself


class _Run:
    """The stages of one run as they begin and end."""

    def __init__(self, tasks: Mapping[str, Task], plan: Schedule, console: Console, listener: Listener | None) -> None:
        self.tasks, self.plan, self.console, self.listener = tasks, plan, console, listener
        self.workers: dict[str, Worker] = {}
        self.early: dict[str, Worker] = {}
        self.tries = dict.fromkeys(tasks, TRIES)
        self.ran: list[str] = []
        self.failures: dict[str, Failure] = {}

    def go(self) -> list[str]:
        """Run them all; return the names of those that ran. Raise UserError if one failed."""
        try:
            while self._begin() or self.workers:
                self._follow()
        finally:
            self._stop()
        if not self.failures:
            return self.ran
        failed = {name: self.failures[name] for name in self.tasks if name in self.failures}  # the pipeline's order
        for name, failure in failed.items():
            self.console.repeat(name, failure.printed)
        if left := self.plan.not_begun:
            self.console.note(f"not run: {', '.join(left)}")
        kind = Unavailable if all(failure.passing for failure in failed.values()) else UserError
        raise kind("\nerror: ".join(failure.sentence for failure in failed.values()))

    def hear_of(self, name: str) -> None:
        """Tell the listener that a stage is up to date."""
        if self.listener:
            self.listener.ended(name)

    def tell(self, kind: str, **values: Any) -> None:
        """Tell the listener a fact."""
        if self.listener:
            self.listener.fact(kind, **values)

    def _tell_steps(self, worker: Worker) -> None:
        for step in worker.new_steps():
            self.tell("step", stage=worker.name, step=step.name, at=step.at)

    def _begin(self) -> bool:
        begun = self.plan.begin()
        for name in begun:
            self.tell("begins", stage=name, at=self.console.begins(name))
            waiting = self.early.pop(name, None)
            if waiting and waiting.is_alive:
                waiting.go()
                self.workers[name] = waiting
            else:
                self.workers[name] = Worker(self.tasks[name])
        return bool(begun)

    def _begin_early(self) -> None:
        """Start the containers of stages that come next once what they wait for runs: before, DVC may need none."""
        runs = [name for name, worker in self.workers.items() if worker.runs]
        for name in self.plan.soon(runs, self.early):
            if prestart.can_start(self.tasks[name].stage):
                self.early[name] = Worker(self.tasks[name], prestarted=True)

    def _follow(self) -> None:
        """Show what comes in, until a worker has said something or has ended, or the console is to be renewed."""
        ended = len(self.tasks) - len(self.plan.not_begun) - len(self.workers)
        self.console.goes_on(ended, len(self.tasks), self.listener.progress if self.listener else str)
        workers = self.workers.values()
        descriptors = {number: each for each in workers for number in (each.output, each.told, each.ended)}
        ready = wait(list(descriptors), timeout=REFRESH)
        for each in dict.fromkeys(descriptors[number] for number in ready):
            each.listen()
            self._tell_steps(each)
            has_ended = each.ended in ready
            for lines in each.lines(all_of_it=has_ended):
                self._show(each.name, lines)
            if has_ended:
                self._end(self.workers.pop(each.name))
        for each in {*self.workers.values()} - {descriptors[number] for number in ready}:
            if state := each.state():
                self._show(each.name, state)
        self._begin_early()

    def _show(self, name: str, lines: Sequence[str]) -> None:
        metrics = {line: metric for line in lines if line.startswith(MARK) and (metric := parse(line))}
        self.console.lines(name, [str(metrics.get(line, line)) for line in lines] if metrics else lines)
        for line in lines if metrics and self.listener else ():
            if line in metrics:
                self.listener.metric(name, metrics[line])

    def _end(self, worker: Worker) -> None:
        name = worker.name
        result, why, passing = worker.outcome()
        self._tell_steps(worker)
        if result != FAILED:
            self.ran += [name] if result == RAN else []
            self.plan.end(name, well=True)
            at = self.console.ends(name, result)
            self.hear_of(name)
            self.tell("ends", stage=name, at=at, result=result)
            return
        stop_stages(name)
        printed = [*worker.printed, *why]
        self.tries[name] -= 1
        transient = failures.is_transient(printed)
        if self.tries[name] and transient:
            self.console.line(name, "the Docker engine failed to start it: trying again ...")
            self.tell("retry", stage=name)
            time.sleep(PAUSE)
            self.workers[name] = Worker(self.tasks[name])
            return
        starved = failures.ran_out_of_memory(name, worker.since)
        ran = (datetime.now(UTC) - worker.since).total_seconds()
        project = self.tasks[name].project
        passing = passing or transient or failures.was_ended_from_outside(printed, name, starved=starved, ran=ran)
        why_it_failed = failures.why(printed, name, project, starved=starved, ran=ran)
        self.failures[name] = Failure(why_it_failed, worker.printed, passing)
        self.plan.end(name, well=False)
        at = self.console.ends(name, result)
        printed = [*worker.printed][-TOLD:]
        self.tell("ends", stage=name, at=at, result=result, sentence=why_it_failed, printed=printed)

    def _stop(self) -> None:
        """End what still runs, if anything does: no container of a stage is left, and no process of DVC."""
        project = next(iter(self.tasks.values())).project
        workers = [*self.workers.values(), *self.early.values()]
        if not workers:
            with suppress(OSError):  # it was never made
                project.work.rmdir()
            return
        for each in workers:
            each.interrupt()
            each.drain()
        stop_stages()
        for each in workers:
            each.end_within(GRACE)
        stop_stages()  # of a command that began just then
        for folder in (project.prestart, project.work):
            takeover.remove_tree(folder)


def _put_in_order(project: Project) -> None:
    """Sort the stages in dvc.lock as in dvc.yaml: side by side they end in another order each time."""
    order = list(load_yaml(project.dvc_yaml.read_text())["stages"])
    lock = load_yaml(project.dvc_lock.read_text())
    found = list(lock["stages"])
    wanted = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    if wanted != found:
        part = project.dvc_lock.with_name(f".{project.dvc_lock.name}.part")
        dvc_adapter.write_lock(part, {**lock, "stages": {name: lock["stages"][name] for name in wanted}})
        part.replace(project.dvc_lock)
        keep_dvc_lock(project)
