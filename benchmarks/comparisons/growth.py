"""Pipelines of 10, 50 and 200 stages, a chain and a fan: `make run` against `dvc repro` of the same."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import pipelines, watch
from benchmarks.bench import Bench
from benchmarks.clones import Clone, Shell
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work

LAST = 20  # stages that run again when a parameter of the first of them changes
MANY, NONE = f"last {LAST} without publishing", "nothing without publishing"
SHAPES = {"chain": pipelines.chain, "fan": pipelines.fan}


@dataclass(frozen=True)
class Action:
    """A run: what is done before it, and the one stage that it is to make up to date (empty: all, and publish)."""

    prepare: Callable[[], None]
    target: str = ""


def sides(clone: Clone, shell: Shell, what: str, action: Action) -> dict[str, Callable[[], Sample]]:
    """The two sides of a comparison, each with its seconds and the memory of its runner."""
    (waiting,) = watch.running(clone.label)
    goal, command = (f"run-{action.target}" if action.target else "run"), f"dvc repro {action.target}"

    def make_run() -> Sample:
        action.prepare()
        with watch.watching(clone.label) as seen:
            sample = clone.make(goal)
        return {**seen.of(watch.RUNNER), **sample}

    def dvc_repro() -> Sample:
        action.prepare()
        with watch.watching(clone.label) as seen:
            sample = shell.run(command)
        return {**sample, "MB": seen.memory[waiting]} if waiting in seen.memory else sample

    return {f"{what}: make run": make_run, f"{what}: dvc repro": dvc_repro}


def actions(clone: Clone, works: list[Work], *, last: bool) -> dict[str, Action]:
    """The runs to measure, by name; with `last` also those that tell the time a stage."""
    changes, end = iter(range(1, 1_000_000)), works[-1].name

    def change(name: str) -> Callable[[], None]:
        return lambda: clone.set(name, value=next(changes))

    found = {
        "full": Action(lambda: clone.forget(lock=True)),
        "nothing": Action(lambda: None),
        "last": Action(change(end)),
    }
    if last:
        found |= {MANY: Action(change(works[-min(LAST, len(works))].name), end), NONE: Action(lambda: None, end)}
    return found


def measure(bench: Bench, record: Record, shape: str, count: int, *, last: bool) -> None:
    """Measure all of one pipeline of `count` stages, the two of the model among them."""
    works = SHAPES[shape](count - 2)
    clone = bench.synthetic(works)
    # A full run of 50 stages takes a minute, of 200 four. MANY says more often what the bound needs.
    often = {"full": 1 if count > 10 else bench.repetitions}
    with clone.shell() as shell:
        for name, action in actions(clone, works, last=last).items():
            what = f"{shape} of {count}, {name}"
            record.alternate(sides(clone, shell, what, action), often.get(name, bench.repetitions))
            record.ratio(f"{what}: make run", f"{what}: dvc repro")


def time_a_stage(record: Record, count: int, side: str) -> float:
    """Seconds a stage: of the last 20 of a chain, without what the same with nothing to do takes."""
    many, none = (record.median(f"chain of {count}, {name}: {side}") for name in (MANY, NONE))
    return (many - none) / min(LAST, count - 2)


def compare(bench: Bench, record: Record) -> None:
    counts = bench.size([10, 50, 200], [4])
    for shape in SHAPES:
        for count in counts:
            measure(bench, record, shape, count, last=shape == "chain" and count == counts[-1])
    most = counts[-1]
    for shape in SHAPES:
        ratio = record.ratios[f"{shape} of {most}, nothing: make run / {shape} of {most}, nothing: dvc repro"]
        record.at_most(f"nothing to do at {most} stages ({shape}), ratio to dvc repro", ratio, 1.1)
    ours, dvc = (time_a_stage(record, most, side) for side in ("make run", "dvc repro"))
    record.at_most(f"time a stage at {most} stages, ratio to dvc repro", ours / dvc, 1.2)
    record.at_most("memory of the runner, in MB", record.largest("MB", "make run"), 400)
    record.notes += [
        f"Full runs are done five times at 10 stages, and once at 50 and 200. The time a stage is ({MANY} - "
        f"{NONE}) / {LAST}, by medians: {ours:.2f} s of make run, {dvc:.2f} s of dvc repro.",
        "Full and last: make run publishes as well. Last: the last stage's parameter was changed.",
        "Memory: the most that was seen in the container of the runner, looked at ten times a second.",
    ]
