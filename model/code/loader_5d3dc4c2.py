"""Loads the model for MLflow, wherever it is served: this file goes into the model's folder, and needs skops alone."""

from pathlib import Path
from typing import Any

import skops.io

TRUSTED_TYPES = ["sklearn.tree._tree.Tree"]
"""Types beyond skops' own list that the file may hold; loading it runs no code."""


def _load_pyfunc(path: str) -> Any:
    """Return the forest in the file `path`. MLflow calls this, and then `predict` with a table of features."""
    return skops.io.load(Path(path), trusted=TRUSTED_TYPES)
