"""Keeps some rows of the scorer's test data, as its predict.py gives them: `sample OUT NAME=PATH...`"""

import importlib
import json
import sys
from pathlib import Path

import pandas as pd

ROWS = 20


def spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most ROWS rows, from the first to the last."""
    return (
        frame if len(frame) <= ROWS else frame.iloc[[round(at * (len(frame) - 1) / (ROWS - 1)) for at in range(ROWS)]]
    )


def main(out: str, *words: str) -> None:
    program = importlib.import_module("predict")
    if not hasattr(program, "sample"):
        return
    frame = program.sample(**{name: Path(path) for name, _, path in (word.partition("=") for word in words)})
    Path(out).write_text(json.dumps(json.loads(spread(frame).to_json(orient="records", double_precision=15))))


if __name__ == "__main__":
    main(*sys.argv[1:])
