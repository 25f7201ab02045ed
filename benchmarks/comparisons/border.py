"""What the border costs a stage: its outputs are looked at and taken over, against DVC's own work on the same files."""

import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measure import Record, Sample
from scripts.pipeline import takeover
from scripts.pipeline.takeover import Limits
from scripts.project import Project

STAGE = "made"
ONE, MANY, DVC = "one output is taken over", "an output of many files is taken over", "dvc add, the same files"
LIMITS = Limits(size=100 << 30, files=2_000_000)


def output(count: int) -> str:
    """Return the output of so many files: each has a folder of its own, for it takes the place of what was there."""
    return f"out/of-{count}"


def write(project: Project, count: int) -> None:
    """Write what a stage would leave: so many files of 100 bytes."""
    folder = project.work / STAGE / output(count)
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(number.to_bytes(4, "big") * 25)


def taking_over(project: Project, count: int) -> Sample:
    write(project, count)
    began = time.perf_counter()
    takeover.take_over(project, STAGE, [output(count)], LIMITS)
    return {"s": time.perf_counter() - began}


def compare(bench: Bench, record: Record) -> None:
    clone, count = bench.project, bench.size(20_000, 100)
    project = Project(clone.path)
    with clone.shell() as shell:

        def by_dvc() -> Sample:
            for path in (f"{output(count)}.dvc", "out/.gitignore"):
                Path(clone.path, path).unlink(missing_ok=True)
            clone.forget()
            return shell.run(f"dvc add --quiet {output(count)}")

        sides = {ONE: lambda: taking_over(project, 1), MANY: lambda: taking_over(project, count), DVC: by_dvc}
        record.alternate(sides, bench.repetitions)
    record.at_most("the border, one output, in s", record.median(ONE), 0.03)
    record.at_most(f"the border, {count:,} files, ratio to dvc add", record.ratio(MANY, DVC), 0.1)
    record.notes.append("dvc's time has the start of Python in it, half a second.")
