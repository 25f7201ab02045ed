"""Splits the raw table into a training set and a test set, each with the classes in the same proportion."""

import csv
import random
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stagekit import Args, BadInput, log, run, writing

TARGET = "species"
BALLAST = 32 << 20
"""Bytes that the stage uses for nothing, so that a test can set a limit of memory that it exceeds."""


class PreprocessArgs(Args):
    raw: Path
    train_csv: Path
    test_csv: Path
    test_size: Annotated[float, Field(gt=0, lt=1)]  # share of the rows
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def split(rows: list[dict[str, str]], test_size: float, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return training and test rows. Raise BadInput if a class would be missing from one of the two."""
    draw, train, test = random.Random(seed), [], []
    for label in sorted({row[TARGET] for row in rows}, reverse=True):
        of_class = [row for row in rows if row[TARGET] == label]
        draw.shuffle(of_class)
        size = round(len(of_class) * test_size)
        if not 0 < size < len(of_class):
            raise BadInput(
                f"{len(rows)} rows cannot be split with test_size {test_size}: {size} of {len(of_class)} rows of "
                f"{label} would be in the test set; expected each class in both sets: change preprocess.test_size"
            )
        test += of_class[:size]
        train += of_class[size:]
    return train, test


def main(args: PreprocessArgs) -> None:
    _ = b"x" * BALLAST
    with args.raw.open(newline="") as file:
        train, test = split(list(csv.DictReader(file)), args.test_size, args.seed)
    for rows, path in ((train, args.train_csv), (test, args.test_csv)):
        with writing(path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        log.info("%d rows -> %s", len(rows), path)


if __name__ == "__main__":
    run(main, PreprocessArgs)
