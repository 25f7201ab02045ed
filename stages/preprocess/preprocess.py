"""Splits the raw data into a training set and a test set, each with the classes in the same proportion."""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field
from sklearn.model_selection import train_test_split

import tables
from stagekit import Args, BadInput, log, run, writing


class PreprocessArgs(Args):
    raw: Path
    train_csv: Path
    test_csv: Path
    test_size: Annotated[float, Field(gt=0, lt=1)]  # share of the rows
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def split(frame: pd.DataFrame, test_size: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and test rows of `frame` (features, then the target), stratified by class, drawn with `seed`.

    Raise BadInput if a class would be missing from one of the two.
    """
    classes = frame.iloc[:, -1]
    try:
        train, test = train_test_split(frame, test_size=test_size, random_state=seed, stratify=classes)
    except ValueError as error:  # which names the class or the size at fault
        raise _no_split(frame, test_size, str(error)) from None
    for name, part in (("training", train), ("test", test)):
        if lost := sorted(set(classes) - set(part.iloc[:, -1])):
            raise _no_split(frame, test_size, f"the class {lost[0]} would be missing from the {name} set")
    return train, test


def _no_split(frame: pd.DataFrame, test_size: float, why: str) -> BadInput:
    return BadInput(
        f"{len(frame)} rows cannot be split with test_size {test_size}: {why}; expected each class in both sets: "
        "change preprocess.test_size or the data"
    )


def main(args: PreprocessArgs) -> None:
    train, test = split(tables.read(args.raw), args.test_size, args.seed)
    for frame, path in ((train, args.train_csv), (test, args.test_csv)):
        with writing(path) as part:
            frame.to_csv(part, index=False, lineterminator="\n")
        log.info("%d rows -> %s", len(frame), path)


if __name__ == "__main__":
    run(main, PreprocessArgs)
