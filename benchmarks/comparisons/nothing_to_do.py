"""A run of the four stages with nothing to do, against `dvc repro` in a runner that is running already."""

from benchmarks.bench import Bench
from benchmarks.measure import Record

RUN = "make run, nothing to do, 4 stages"
DVC = "dvc repro, nothing to do, 4 stages"


def compare(bench: Bench, record: Record) -> None:
    clone = bench.project
    clone.make("run")
    with clone.shell() as shell:
        sides = {RUN: lambda: clone.make("run"), DVC: lambda: shell.run("dvc repro")}
        record.alternate(sides, bench.size(10, 1))
    record.at_most("nothing to do at 4 stages, ratio to dvc repro", record.ratio(RUN, DVC), 1.6)
    record.notes.append("dvc's time has no start of a container in it. At 200 stages: see growth.")
