"""Independent stages one after the other and side by side: `make run JOBS=1` against JOBS=n."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from benchmarks import pipelines
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.comparisons import overhead
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from benchmarks.stage import work

PLAIN = "2 computations as plain processes"


def runs(clone: Clone, what: str, most: int) -> dict[str, Callable[[], Sample]]:
    """`make run` of the clone's pipeline with one job and with `most`, in this order and by their names."""

    def with_jobs(number: int) -> Sample:
        clone.forget_below(pipelines.MADE)
        return clone.make("run", f"JOBS={number}")

    return {f"{what}, JOBS={number}": partial(with_jobs, number) for number in (1, most)}


def sleeping(bench: Bench, record: Record, what: str, works: list[Work], most: int) -> float:
    """Measures a pipeline that sleeps; how many times faster it is with `most` jobs than with one."""
    clone = bench.synthetic(works)
    clone.make("run")
    sides = runs(clone, what, most)
    record.alternate(sides, bench.repetitions)
    return record.ratio(*sides)


def computing(bench: Bench, record: Record, seconds: float) -> float:
    """As `sleeping`, of two stages that compute for `seconds`; with what this machine's two cores can give at all."""
    rounds = rounds_in(seconds)
    clone = bench.synthetic(pipelines.independent(2, rounds=rounds))
    clone.make("run")
    sides = runs(clone, "2 stages that compute", 2)
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        shells = [stack.enter_context(overhead.container(clone, bench.source.parent)) for _ in range(2)]
        command = f"python /app/work.py --out /tmp/out --rounds {rounds // 3}"

        def in_turn() -> Sample:
            return {"s": sum(shell.run(command)["s"] for shell in shells)}

        def at_once() -> Sample:
            return {"s": max(sample["s"] for sample in pool.map(lambda shell: shell.run(command), shells))}

        plain = {f"{PLAIN}, in turn": in_turn, f"{PLAIN}, at once": at_once}
        record.alternate(sides | plain, bench.repetitions)
    record.ratio(*plain)
    return record.ratio(*sides)


def rounds_in(seconds: float) -> int:
    """How many rounds of stage/work.py's loop take that long on this machine."""
    sample = 20_000_000
    started = time.perf_counter()
    work.compute(sample)
    return int(sample * seconds / (time.perf_counter() - started))


def compare(bench: Bench, record: Record) -> None:
    sleep, compute = bench.size(3.0, 0.1), bench.size(45.0, 0.1)  # seconds
    fan = sleeping(bench, record, "8 stages that sleep", pipelines.independent(bench.size(8, 2), seconds=sleep), 8)
    record.at_least("8 stages that sleep 3 s, JOBS=8, times faster", fan, 4)
    sleeping(bench, record, "diamond", pipelines.diamond(seconds=sleep), 2)
    record.at_least("2 stages that compute, JOBS=2, times faster", computing(bench, record, compute), 1.8)
    record.notes.append(
        f"Whole times of make run, with its start; a stage that computes does so for about {compute:.0f} s, a plain "
        "process for a third of that, and tells what the cores of this machine give."
    )
