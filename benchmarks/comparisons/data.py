"""More data: rows through the four stages of the example, and folders of many files as an output."""

import csv

import numpy as np

from benchmarks import watch
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from scripts.pipeline import images

TREES = 2  # and two for each of five folds: with 1e7 rows, a hundred would take hours
LIMIT = 2 * (1 << 30) / 1e6  # MB: STAGE_MEMORY of .env.example
SOURCE = "data/external/rows.csv"
MADE = "data/raw/iris.csv"
AT_ONCE = 100_000  # rows


def write_rows(clone: Clone, count: int) -> None:
    """Write a CSV file of `count` rows like those that the first stage made: drawn again, lengths with some noise."""
    with (clone.path / MADE).open(newline="") as file:
        header, *given = csv.reader(file)
    lengths, species = np.array([row[:-1] for row in given], float), [row[-1] for row in given]
    line = ",".join(["%.3f"] * lengths.shape[1] + ["%s\n"])
    random = np.random.default_rng(count)
    path = clone.path / SOURCE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write(f"{','.join(header)}\n")
        for start in range(0, count, AT_ONCE):
            drawn = random.integers(len(given), size=min(AT_ONCE, count - start))
            noisy = lengths[drawn] + random.normal(0, 0.1, (len(drawn), lengths.shape[1]))
            rows = zip(noisy.clip(0.01, 100).tolist(), drawn.tolist(), strict=True)
            file.writelines(line % (*moved, species[index]) for moved, index in rows)


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
    sizes = bench.size({10_000: 3, 100_000: 3, 1_000_000: 3, 10_000_000: 1}, {1000: 1, 2000: 1})
    for count, times in sizes.items():
        write_rows(clone, count)
        for _ in range(times):
            for name, sample in of_stages(clone).items():
                for unit, value in sample.items():
                    record.add(f"{count:,} rows: {name}", value, unit)
    (clone.path / SOURCE).unlink()
    clone.restore()
    *_, fewer, most = sizes
    for stage in images.stage_names(clone.path / "stages"):
        many, few = f"{most:,} rows: {stage}", f"{fewer:,} rows: {stage}"
        record.at_most(f"{many}, in MB", record.median(many, "MB"), LIMIT)
        record.at_most(f"{many}: time a row, ratio to {fewer:,}", record.ratio(many, few) * fewer / most, 1)


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
        f"Rows: {TREES} trees and as many for each fold; each size three times, the largest once. Seconds and memory "
        "are those of the stage's container; the bound on memory is what .env.example gives a stage. A forest sorts "
        "its rows: by n log n alone, its time a row is 1.17 times that of a tenth of them. "
        "An output of many files: a stage that writes them into its folder, 100 bytes each."
    )
