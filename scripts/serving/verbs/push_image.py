"""`make push-image`: makes the image of server and model, and sends it to the registry that IMAGE_REGISTRY names."""

from collections.abc import Sequence

from scripts.pipeline import image_registry
from scripts.pipeline.console import tell
from scripts.project import PROJECT
from scripts.registry import reader
from scripts.serving import model_image


def main(arguments: Sequence[str]) -> None:
    registry = image_registry.required()  # before anything is built
    image = model_image.make(reader.parse(arguments), PROJECT)
    image_registry.push([image])
    tell(model_image.how_to_run(f"{registry}/{image.tag}"))
