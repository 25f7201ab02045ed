"""The tables that the stages hand on: a CSV with features, which are numbers, and then the target."""

from pathlib import Path

import pandas as pd


def read(path: Path) -> pd.DataFrame:
    """Return the table in `path`, its target as text: a class 1, true or NA is no number, bool or gap."""
    target = pd.read_csv(path, nrows=0).columns[-1]
    return pd.read_csv(path, dtype={target: str}, keep_default_na=False)
