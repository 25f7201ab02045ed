"""`make push-images`: sends the stage images to the registry that IMAGE_REGISTRY names; builds what is missing here."""

from scripts.pipeline import build, image_registry, images


def main(arguments: list[str]) -> None:
    wanted = images.load()
    image_registry.required()  # before anything is built
    build.ensure(wanted)
    build.renew(wanted)
    image_registry.push(wanted.values())
    print(f"{len(wanted)} images are in {image_registry.address()}")
