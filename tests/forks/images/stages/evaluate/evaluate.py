"""Measures a model on the images for the test: accuracy as JSON, and a score for each image."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stagekit import Args, BadInput, log, run, write_json, writing


class EvaluateArgs(Args):
    model: Path  # a folder
    test_images: Path  # a folder for each shape
    metrics: Path
    rows: Path


def read(path: Path) -> tuple[np.ndarray, list[str], tuple[int, ...]]:
    """Return a model's weights, its shapes, and height and width of its images. Raise BadInput if it is no model."""
    try:
        described = json.loads((path / "model.json").read_text())
        return np.load(path / "weights.npy", allow_pickle=False), described["shapes"], tuple(described["size"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{path} is no model ({error}); expected what train wrote") from None


def hits(model: Path, test_images: Path) -> pd.DataFrame:
    """Return a row for each image, in the order of their names: `score` is 1 if the model names its shape, or else 0.

    Raise BadInput if the model knows other images.
    """
    weights, shapes, size = read(model)
    scores = []
    for file in sorted(test_images.glob("*/*.png")):
        image = np.asarray(Image.open(file)) / 255
        if image.shape != size:
            raise BadInput(f"the model knows images of {size} pixels, {file} has {image.shape}; expected the same")
        named = shapes[int(image.ravel() @ weights[:-1] + weights[-1] > 0)]
        scores.append(int(named == file.parent.name))
    return pd.DataFrame({"score": scores})


def main(args: EvaluateArgs) -> None:
    scores = hits(args.model, args.test_images)
    with writing(args.rows) as part:
        scores.to_csv(part, index=False, lineterminator="\n")
    accuracy = float(scores["score"].mean())
    write_json(args.metrics, {"images": len(scores), "accuracy": accuracy})
    log.info("accuracy %.4f on %d images -> %s", accuracy, len(scores), args.metrics)


if __name__ == "__main__":
    run(main, EvaluateArgs)
