"""What the border costs a stage: its outputs are looked at and taken over, against DVC's own work on the same files."""

import json
import os
import shlex
import shutil
import statistics
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from scripts.pipeline import takeover
from scripts.pipeline.takeover import Limits
from scripts.project import Project

STAGE = "made"
ONE, MANY, DVC = "one output is taken over", "an output of many files is taken over", "dvc add, the same files"
LIMITS = Limits(size=100 << 30, files=2_000_000)
IN_MEMORY = "3g"
"""A stage's limit. What it wrote last stays in the kernel's memory within that, as what `dvc add` is given does."""
COPY, EMPTY, TOOK = "out/copy", "out/empty", ".local/took"
ADD = f"""
import time
from pathlib import Path
from dvc.cli import main

assert not main(["add", "--quiet", "{EMPTY}"])
began = time.perf_counter()
assert not main(["add", "--quiet", "{COPY}"])
Path("{TOOK}").write_text(str(time.perf_counter() - began))
"""
"""`dvc add` in a process that has added a file before: Python's start and DVC's imports are in no time."""


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


def many_files(bench: Bench, record: Record) -> None:
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


def spans(clone: Clone, stage: str) -> dict[str, float]:
    """Return, by the report of a clone's only run, the seconds of a stage at the border and then in DVC's hands."""
    (report,) = (clone.path / ".local" / "runs").glob("*/run.json")
    (found,) = (each for each in json.loads(report.read_bytes())["stages"] if each["name"] == stage)
    return {span["part"]: span["to"] - span["from"] for span in found["spans"][-2:]}


def large_files(bench: Bench, record: Record, count: int, size: int) -> None:
    """From the end of a stage's `docker run` until DVC has its output, against `dvc add` of the same files."""
    what, work = f"{count} x {size:,} bytes", Work("large", does={"files": count, "size": size})
    border, ours, theirs = f"{what}: at the border", f"{what}: until DVC has them", f"{what}: dvc add"
    clone = bench.synthetic([work])

    def run() -> Sample:
        clone.forget()
        shutil.rmtree(clone.path / ".local" / "runs", ignore_errors=True)
        os.sync()  # what the other side wrote
        clone.make(f"run-{work.name}", STAGE_MEMORY=IN_MEMORY)  # and no model, which would be published meanwhile
        took = spans(clone, work.name)
        record.add(border, took["border"])
        return {"s": took["border"] + took["cache"]}

    def by_dvc() -> Sample:
        os.sync()
        (clone.path / COPY).parent.mkdir(exist_ok=True)
        (clone.path / EMPTY).touch()
        shutil.copytree(clone.path / work.out, clone.path / COPY)
        clone.forget()
        try:
            with clone.shell() as shell:
                shell.run(f"python -c {shlex.quote(ADD)}")
            return {"s": float((clone.path / TOOK).read_text())}
        finally:
            shutil.rmtree((clone.path / COPY).parent)

    record.alternate({ours: run, theirs: by_dvc}, bench.repetitions)
    pairs = zip(record.measured[ours, "s"].values, record.measured[theirs, "s"].values, strict=True)
    record.at_most(f"{what}: the border, in s", record.median(border), 0.2)
    record.at_most(f"{what}: more than dvc add, in s", statistics.median(one - other for one, other in pairs), 0.2)


def compare(bench: Bench, record: Record) -> None:
    many_files(bench, record)
    for count, size in bench.size([(1, 1_000_000_000), (5, 200_000_000)], [(1, 1_000_000)]):
        large_files(bench, record, count, size)
    record.notes.append(
        "Small files: dvc's time has the start of Python in it, half a second. Large files: of a run, by its report, "
        "from the end of the stage's docker run to its entry in dvc.lock; of dvc add, in a process that has added a "
        "file before, a copy of the same files, just written. Either hashes each file once and copies it once, into "
        "DVC's cache; more than dvc add is the median of what a run took more than the dvc add after it. Of a stage "
        "whose memory does not hold what it wrote DVC reads the rest from the disk: with 256 MB for 1 GB 0.8 s more."
    )
