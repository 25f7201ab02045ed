"""Pipelines of 10, 50 and 200 stages, a chain and a fan: `make run` against `dvc repro` of the same."""

from collections.abc import Callable

from benchmarks import pipelines, watch
from benchmarks.bench import Bench
from benchmarks.clones import Clone, Shell
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work

LAST = 20  # stages that run again when a parameter of the first of them changes
SHAPES = {"chain": pipelines.chain, "fan": pipelines.fan}


def sides(clone: Clone, shell: Shell, what: str, prepare: Callable[[], None]) -> dict[str, Callable[[], Sample]]:
    """The two sides of a comparison, each with its seconds and the memory of its runner, after `prepare`."""
    (waiting,) = watch.running(clone.label)

    def make_run() -> Sample:
        prepare()
        with watch.watching(clone.label) as seen:
            sample = clone.make("run")
        return {**seen.of(watch.RUNNER), **sample}

    def dvc_repro() -> Sample:
        prepare()
        with watch.watching(clone.label) as seen:
            sample = shell.run("dvc repro")
        return {**sample, "MB": seen.memory[waiting]} if waiting in seen.memory else sample

    return {f"{what}: make run": make_run, f"{what}: dvc repro": dvc_repro}


def actions(clone: Clone, works: list[Work]) -> dict[str, Callable[[], None]]:
    """What is done before a run, by what the run then is."""
    changes = iter(range(1, 1_000_000))

    def change(name: str) -> None:
        clone.set(name, value=next(changes))

    return {
        "full": lambda: clone.forget(lock=True),
        "nothing": lambda: None,
        "last": lambda: change(works[-1].name),
        f"last {LAST}": lambda: change(works[-min(LAST, len(works))].name),
    }


def measure(bench: Bench, record: Record, shape: str, count: int) -> None:
    """All of one pipeline of `count` stages, the delivery of the model among them."""
    works = SHAPES[shape](count - 1)
    clone = bench.synthetic(works)
    # A full run of 200 stages takes minutes: once each. What they say of the bound, `last 20` says more often.
    often = {"full": 1 if count > 50 else 2 if count > 10 else bench.repetitions}
    with clone.shell() as shell:
        for action, prepare in actions(clone, works).items():
            if action == f"last {LAST}" and (shape != "chain" or count != bench.size(200, 4)):
                continue
            what = f"{shape} of {count}, {action}"
            record.alternate(sides(clone, shell, what, prepare), often.get(action, bench.repetitions))
            record.ratio(f"{what}: make run", f"{what}: dvc repro")


def time_a_stage(record: Record, count: int, side: str) -> float:
    """Seconds a stage: of the last 20 of a chain, without what a run with nothing to do takes."""
    run, nothing = (record.median(f"chain of {count}, {action}: {side}") for action in (f"last {LAST}", "nothing"))
    return (run - nothing) / min(LAST, count - 1)


def compare(bench: Bench, record: Record) -> None:
    counts = bench.size([10, 50, 200], [4])
    for shape in SHAPES:
        for count in counts:
            measure(bench, record, shape, count)
    most = counts[-1]
    for shape in SHAPES:
        ratio = record.ratios[f"{shape} of {most}, nothing: make run / {shape} of {most}, nothing: dvc repro"]
        record.at_most(f"nothing to do at {most} stages ({shape}), ratio to dvc repro", ratio, 1.6)
    ours, dvc = (time_a_stage(record, most, side) for side in ("make run", "dvc repro"))
    record.at_most(f"time a stage at {most} stages, ratio to dvc repro", ours / dvc, 1.2)
    record.at_most("memory of the runner, in MB", record.largest("MB", "make run"), 400)
    record.notes += [
        f"Full runs are repeated five times at 10 stages, twice at 50, once at 200. The time a stage is (last {LAST} - "
        f"nothing) / {LAST}, by medians: {ours:.2f} s of make run, {dvc:.2f} s of dvc repro.",
        "last: the last stage's parameter was changed; make run then publishes the new dvc.lock as well.",
        "Memory: the most that was seen in the container of the runner, looked at ten times a second.",
    ]
