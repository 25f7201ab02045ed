"""More data: rows through the four stages of the example, and folders of many files as an output. No bound."""

import csv

import numpy as np

from benchmarks import watch
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from scripts.pipeline import images

TREES = 10  # with 1e6 rows, a hundred would take five minutes
SOURCE = "data/external/rows.csv"
MADE = "data/raw/iris.csv"


def write_rows(clone: Clone, count: int) -> None:
    """Write a CSV file of `count` rows like those that the first stage made: drawn again, lengths with some noise."""
    with (clone.path / MADE).open(newline="") as file:
        header, *given = csv.reader(file)
    random = np.random.default_rng(count)
    path = clone.path / SOURCE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for index in random.integers(len(given), size=count):
            *lengths, species = given[index]
            noise = random.normal(0, 0.1, len(lengths))
            moved = (float(length) + shift for length, shift in zip(lengths, noise, strict=True))
            writer.writerow([*(f"{min(max(length, 0.01), 100):.3f}" for length in moved), species])


def of_stages(clone: Clone) -> dict[str, Sample]:
    """Runs all from nothing; of each stage's container the seconds and the most memory, of all together the seconds."""
    clone.forget()
    with watch.watching(clone.label) as seen:
        whole = clone.make("run", STAGE_MEMORY="6g")
    stages = [name for name in seen.names.values() if name in images.stage_names(clone.path / "stages")]
    return {"make run": whole} | {name: seen.of(name) for name in stages}


def rows(bench: Bench, record: Record) -> None:
    clone = bench.project
    clone.set("ingest", source=SOURCE)
    clone.set("train", n_estimators=TREES)
    for count in bench.size([10_000, 100_000, 1_000_000], [1000]):
        write_rows(clone, count)
        for _ in range(bench.size(3, 1)):
            for name, sample in of_stages(clone).items():
                for unit, value in sample.items():
                    record.add(f"{count:,} rows: {name}", value, unit)
    (clone.path / SOURCE).unlink()
    clone.restore()


def folders(bench: Bench, record: Record) -> None:
    for count in bench.size([10, 1000, 20_000], [10]):
        clone = bench.synthetic([Work("files", does={"files": count, "size": 100})])
        clone.make("run")

        def full(clone: Clone = clone) -> Sample:
            clone.forget()
            return clone.make("run")

        what = f"an output of {count:,} files"
        both = {f"{what}: full": full, f"{what}: nothing to do": lambda clone=clone: clone.make("run")}
        record.alternate(both, bench.repetitions)


def compare(bench: Bench, record: Record) -> None:
    rows(bench, record)
    folders(bench, record)
    record.notes.append(
        f"Rows: {TREES} trees, each size three times; seconds and memory are those of the stage's container. "
        "An output of many files: a stage that writes them into its folder, 100 bytes each."
    )
