"""Pipelines of 10 to 1,000 stages, and a large cache: `make run` against `dvc repro` of the same."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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


def measure_very_many(bench: Bench, record: Record, count: int) -> None:
    """Measure a fan of so many stages that a full run would take an hour: all count as run, and the last ones run."""
    works = pipelines.open_fan(count - 2)
    clone = bench.synthetic(works)
    changed = [work.name for work in works[-LAST:]]
    changes = iter(range(1, 1_000_000))

    def change(some: list[str]) -> Callable[[], None]:
        return lambda: [clone.set(name, value=next(changes)) for name in some] and None

    with clone.shell() as shell:
        shell.run("python -m benchmarks.settle")
        clone.make("run")  # publishes, and notes that there is nothing to do
        for name, prepare in (
            ("nothing", lambda: None),
            ("last", change(changed[-1:])),
            (f"last {LAST}", change(changed)),
        ):
            what = f"fan of {count:,}, {name}"
            record.alternate(sides(clone, shell, what, Action(prepare)), 1)
            record.ratio(f"{what}: make run", f"{what}: dvc repro")
    for side in ("make run", "dvc repro"):
        many, one = (record.median(f"fan of {count:,}, {name}: {side}") for name in (f"last {LAST}", "last"))
        record.add(f"fan of {count:,}, a stage: {side}", (many - one) / (len(changed) - 1))
    ratio = record.ratio(*(f"fan of {count:,}, a stage: {side}" for side in ("make run", "dvc repro")))
    record.at_most(f"time a stage at {count:,} stages, ratio to dvc repro", ratio, 1.1)
    nothing = record.ratios[f"fan of {count:,}, nothing: make run / fan of {count:,}, nothing: dvc repro"]
    record.at_most(f"nothing to do at {count:,} stages, ratio to dvc repro", nothing, 1.1)
    record.at_most(f"memory of the runner at {count:,} stages, in MB", record.largest("MB", "make run"), 600)


def fill_cache(clone: Clone, files: int, entries: int) -> None:
    """Give DVC's cache so many more files, and so many more results of runs, as a project of some years has them."""
    cache = clone.path / ".dvc" / "cache"
    for digest in digests("file", files, "md5"):
        write(cache / "files" / "md5" / digest[:2] / digest[2:], "x")
    results = [path for path in (cache / "runs").rglob("*") if path.is_file()]
    text = results[0].read_text()
    for key, value in zip(digests("key", entries, "sha256"), digests("value", entries, "sha256"), strict=True):
        write(cache / "runs" / key[:2] / key / value, text)


def digests(what: str, count: int, kind: str) -> Iterator[str]:
    return (hashlib.new(kind, f"{what} {number}".encode()).hexdigest() for number in range(count))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o444)


def measure_cache(bench: Bench, record: Record, files: int, entries: int) -> None:
    """Measure ten stages with DVC's cache as it is, and with many files and results in it besides."""
    works = pipelines.chain(8)
    clone = bench.synthetic(works)
    clone.make("run")
    for cache in ("a small cache", "a large cache"):
        with clone.shell() as shell:
            clone.make("run")
            for name in ("nothing", "last"):
                action = actions(clone, works, last=False)[name]
                record.alternate(sides(clone, shell, f"{cache}, {name}", action), bench.repetitions)
        if cache == "a small cache":
            fill_cache(clone, files, entries)
    for name in ("nothing", "last"):
        ratio = record.ratio(*(f"{cache}, {name}: make run" for cache in ("a large cache", "a small cache")))
        record.at_most(f"{name}: {files:,} files and {entries:,} results in the cache, to none", ratio, 1.2)


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
    measure_cache(bench, record, *bench.size((100_000, 10_000), (100, 10)))
    measure_very_many(bench, record, bench.size(1000, 12))
    record.notes += [
        f"Full runs are done five times at 10 stages, and once at 50 and 200. The time a stage is ({MANY} - "
        f"{NONE}) / {LAST}, by medians: {ours:.2f} s of make run, {dvc:.2f} s of dvc repro.",
        "Full and last: make run publishes as well. Last: the last stage's parameter was changed.",
        "1,000 stages: benchmarks/settle.py lets all count as run, without running them. Then 20 of them run, and one; "
        "the time a stage is the difference, by 19. make run runs two at once. Once each: dvc repro takes minutes.",
        "A large cache: 100,000 more files and 10,000 more entries of the run-cache than the ten stages made.",
        "Memory: the most that was seen in the container of the runner, looked at ten times a second.",
    ]
