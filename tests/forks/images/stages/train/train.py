"""Fits a logistic regression on pixels by gradient descent, and shows the loss epoch by epoch."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from stagekit import Args, log, log_metric, rounded, run, write_json, writing


class TrainArgs(Args):
    train_images: Path  # a folder for each shape
    model: Path  # a folder
    signature: Path
    training: Path
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    learning_rate: Annotated[float, Field(gt=0)]


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the images (shape: images, height, width; in [0, 1]), the number of each one's shape, and the shapes."""
    shapes = sorted(path.name for path in folder.iterdir())
    files = sorted(folder.glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file)) / 255 for file in files])
    return images, np.array([shapes.index(file.parent.name) for file in files]), shapes


def fit(images: np.ndarray, truth: np.ndarray, epochs: int, learning_rate: float) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the weight of each pixel and, last, the bias; and the loss by epoch (`step`, `train_loss`, in nats)."""
    pixels = np.column_stack([images.reshape(len(images), -1), np.ones(len(images))])
    weights, growth = np.zeros(pixels.shape[1]), []
    for epoch in range(1, epochs + 1):
        predicted = 1 / (1 + np.exp(-pixels @ weights))
        loss = -np.log(np.where(truth == 1, predicted, 1 - predicted)).mean()
        growth.append({"step": epoch, "train_loss": float(loss)})
        log_metric(**growth[-1])
        weights -= learning_rate * pixels.T @ (predicted - truth) / len(pixels)
    return weights, pd.DataFrame(growth)


def main(args: TrainArgs) -> None:
    images, truth, shapes = read(args.train_images)
    weights, growth = fit(images, truth, args.epochs, args.learning_rate)
    with writing(args.model / "weights.npy") as part, part.open("wb") as file:
        np.save(file, weights.round(6))  # to which processors agree
    write_json(args.model / "model.json", {"shapes": shapes, "size": images.shape[1:]})
    tensors = {
        "inputs": {"dtype": "float64", "shape": [-1, *images.shape[1:]]},
        "outputs": {"dtype": "str", "shape": [-1]},
    }
    written = {name: json.dumps([{"type": "tensor", "tensor-spec": spec}]) for name, spec in tensors.items()}
    write_json(args.signature, written)
    with writing(args.training) as part:
        growth.map(rounded).to_csv(part, index=False, lineterminator="\n")
    log.info("%d epochs on %d images -> %s", args.epochs, len(images), args.model)


if __name__ == "__main__":
    run(main, TrainArgs)
