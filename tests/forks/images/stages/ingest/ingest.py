"""Draws noisy circles and squares: a PNG file each, in a folder for each shape."""

from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from stagekit import Args, log, run, writing

SHAPES = ("circle", "square")


class IngestArgs(Args):
    images: Path  # a folder
    count: Annotated[int, Field(ge=20)]  # images
    size: Annotated[int, Field(ge=8, le=256)]  # pixels: width and height
    noise: Annotated[float, Field(ge=0, le=255)]  # standard deviation, in grey levels
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def draw(shape: str, size: int, noise: float, random: np.random.Generator) -> Image.Image:
    """Return a grey image of the shape, anywhere in it."""
    image = Image.new("L", (size, size))
    width = random.integers(size // 2, size)
    left, top = random.integers(0, size - width, size=2, endpoint=True)
    box = (left, top, left + width - 1, top + width - 1)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=160)
    noisy = np.asarray(image) + random.normal(0, noise, (size, size))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main(args: IngestArgs) -> None:
    random = np.random.default_rng(args.seed)
    for number in range(args.count):
        shape = SHAPES[number % len(SHAPES)]
        with writing(args.images / shape / f"{number:04}.png") as part:
            draw(shape, args.size, args.noise, random).save(part, "PNG")
    log.info("%d images -> %s", args.count, args.images)


if __name__ == "__main__":
    run(main, IngestArgs)
