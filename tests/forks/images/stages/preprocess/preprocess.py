"""Shares the images out to a folder for training and one for the test, which gets the last ones of each shape."""

import shutil
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stagekit import Args, BadInput, log, run, writing


class PreprocessArgs(Args):
    images: Path  # folders, all of them, with a folder for each shape
    train_images: Path
    test_images: Path
    test_size: Annotated[float, Field(gt=0, lt=1)]  # share of the images of each shape


def main(args: PreprocessArgs) -> None:
    for folder in sorted(args.images.iterdir()):
        files = sorted(folder.glob("*.png"))
        train = len(files) - round(len(files) * args.test_size)
        if not 0 < train < len(files):
            found = f"of {len(files)} images of a {folder.name}, {train} would be for training"
            raise BadInput(f"{found}; expected some for training and some for the test: change preprocess.test_size")
        for number, file in enumerate(files):
            target = args.train_images if number < train else args.test_images
            with writing(target / folder.name / file.name) as part:
                shutil.copyfile(file, part)
        log.info("%s: %d for training, %d for the test", folder.name, train, len(files) - train)


if __name__ == "__main__":
    run(main, PreprocessArgs)
