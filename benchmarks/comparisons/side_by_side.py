"""Independent stages one after the other and side by side: `make run JOBS=1` against JOBS=n."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks import pipelines
from benchmarks.bench import Bench
from benchmarks.comparisons import overhead
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from benchmarks.stage import work

SLEEP = 3.0  # seconds of a stage that sleeps


def jobs(bench: Bench, record: Record, what: str, works: list[Work], most: int) -> float:
    """Measures the pipeline with one job and with `most`; how many times faster the second is."""
    clone = bench.synthetic(works)
    clone.make("run")

    def with_jobs(number: int) -> Sample:
        clone.forget_below(pipelines.MADE)
        return clone.make("run", f"JOBS={number}")

    one, many = f"{what}, JOBS=1", f"{what}, JOBS={most}"
    record.alternate({one: lambda: with_jobs(1), many: lambda: with_jobs(most)}, bench.repetitions)
    return record.ratio(one, many)


def rounds_in(seconds: float) -> int:
    """How many rounds of stage/work.py's loop take that long on this machine."""
    sample = 2_000_000
    started = time.perf_counter()
    work.compute(sample)
    return int(sample * seconds / (time.perf_counter() - started))


def machine_itself(bench: Bench, record: Record, rounds: int) -> None:
    """The same computations as plain processes: what this machine's two cores can give at all."""
    clone, command = bench.synthetic([]), f"python /app/work.py --out /tmp/out --rounds {rounds}"
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        shells = [stack.enter_context(overhead.container(clone, bench.source.parent)) for _ in range(2)]

        def in_turn() -> Sample:
            return {"s": sum(shell.run(command)["s"] for shell in shells)}

        def at_once() -> Sample:
            return {"s": max(sample["s"] for sample in pool.map(lambda shell: shell.run(command), shells))}

        one, two = "two computations as plain processes, in turn", "two computations as plain processes, at once"
        record.alternate({one: in_turn, two: at_once}, bench.repetitions)
    record.ratio(one, two)


def compare(bench: Bench, record: Record) -> None:
    sleep = bench.size(SLEEP, 0.1)
    fan = jobs(bench, record, "8 stages that sleep", pipelines.independent(bench.size(8, 2), seconds=sleep), 8)
    record.at_least("8 stages that sleep 3 s, JOBS=8, times faster", fan, 3.5)
    jobs(bench, record, "diamond", pipelines.diamond(seconds=sleep), 2)
    rounds = rounds_in(bench.size(20.0, 0.1))
    cores = jobs(bench, record, "2 stages that compute", pipelines.independent(2, rounds=rounds), 2)
    record.at_least("2 stages that compute, JOBS=2, times faster", cores, 1.8)
    machine_itself(bench, record, rounds // 2)
    record.notes.append("Whole times of make run, with its start; a stage that computes does so for about 20 s.")
