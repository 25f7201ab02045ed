"""What the report of a run costs it: `make run` with the room scripts/report/, against a clone without it."""

import shutil
import statistics
from functools import partial

from benchmarks import pipelines
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample

ROOM = "scripts/report"
WITH, WITHOUT = "with reports", "without"


def full(clone: Clone) -> Sample:
    clone.forget_below(pipelines.MADE)
    return clone.make("run")


def compare(bench: Bench, record: Record) -> None:
    if not (bench.source / ROOM).is_dir():
        record.notes.append(f"{ROOM}/ is not there: nothing is measured.")
        return
    works = pipelines.chain(bench.size(10, 2))
    clones = {WITH: bench.synthetic(works), WITHOUT: Clone.of(bench.source, "without", STAGE_MEMORY="128m")}
    shutil.rmtree(clones[WITHOUT].path / ROOM)
    pipelines.install(clones[WITHOUT], works)
    for clone in clones.values():
        clone.commit("as it is measured")
        clone.make("run")
    measured = [("nothing to do", lambda clone: clone.make("run"), 15, 0.05), ("all stages", full, 7, 0.3)]
    for what, run, times, limit in measured:
        sides = {f"{what}, {which}": partial(run, clone) for which, clone in clones.items()}
        record.alternate(sides, bench.size(times, 1))
        pairs = zip(*(record.measured[name, "s"].values for name in sides), strict=True)
        more = statistics.median(ours - theirs for ours, theirs in pairs)
        record.at_most(f"{what}: a report's time, in s", more, limit)
    record.notes.append(
        f"{len(works)} stages; the median of the differences of two runs, one right after the other. Its time to start "
        "and end a container is in each."
    )
