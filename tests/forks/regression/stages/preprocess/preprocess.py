"""Splits the raw data into a training set and a test set."""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field
from sklearn.model_selection import train_test_split

from stagekit import Args, log, run, writing


class PreprocessArgs(Args):
    raw: Path
    train_csv: Path
    test_csv: Path
    test_size: Annotated[float, Field(gt=0, lt=1)]  # share of the rows
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def main(args: PreprocessArgs) -> None:
    train, test = train_test_split(pd.read_csv(args.raw), test_size=args.test_size, random_state=args.seed)
    for frame, path in ((train, args.train_csv), (test, args.test_csv)):
        with writing(path) as part:
            frame.to_csv(part, index=False, lineterminator="\n")
        log.info("%d rows -> %s", len(frame), path)


if __name__ == "__main__":
    run(main, PreprocessArgs)
