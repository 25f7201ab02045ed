"""Loads the model for MLflow, wherever it is served: this file goes into the model's folder, and needs NumPy alone."""

import json
from pathlib import Path

import numpy as np


class Model:
    """The shapes that the folder `path` knows, by logistic regression."""

    def __init__(self, path: Path) -> None:
        self.shapes = np.array(json.loads((path / "model.json").read_text())["shapes"])
        self._weights = np.load(path / "weights.npy", allow_pickle=False)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the name of a shape for each image (shape: images, height, width; in [0, 1])."""
        return self.shapes[(images.reshape(len(images), -1) @ self._weights[:-1] + self._weights[-1] > 0).astype(int)]


def _load_pyfunc(path: str) -> Model:
    return Model(Path(path))
