"""Loads the model for MLflow: this file goes into the model's folder, and needs Python alone."""

import json
from collections import Counter
from pathlib import Path
from typing import Any


class Model:
    """The voters in a file; `predict` takes a table of features (pandas) and returns a class for each row."""

    def __init__(self, path: Path) -> None:
        self._model = json.loads(path.read_text())

    def predict(self, frame: Any) -> list[str]:
        rows = frame[self._model["features"]].to_numpy().tolist()
        return [Counter(vote(voter, row) for voter in self._model["voters"]).most_common(1)[0][0] for row in rows]


def vote(voter: dict[str, Any], row: list[float]) -> str:
    seen = [row[column] for column in voter["columns"]]
    return min(
        voter["centers"],
        key=lambda label: sum((a - b) ** 2 for a, b in zip(seen, voter["centers"][label], strict=True)),
    )


def _load_pyfunc(path: str) -> Model:
    return Model(Path(path))
