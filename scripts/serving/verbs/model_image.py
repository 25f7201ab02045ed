"""`make model-image`: an image of server and model that needs nothing else."""

from collections.abc import Sequence

from scripts.pipeline import image_registry
from scripts.pipeline.console import tell
from scripts.project import PROJECT
from scripts.registry import reader
from scripts.serving import model_image


def main(arguments: Sequence[str]) -> None:
    image = model_image.make(reader.parse(arguments), PROJECT)
    tell(model_image.how_to_run(image.tag))
    if image_registry.address():
        tell("push it     make push-image, with the same words")
