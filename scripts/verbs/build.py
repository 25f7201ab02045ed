"""`make build`: builds the images that are missing."""

from scripts.pipeline import build, images


def main(arguments: list[str]) -> None:
    wanted = images.load()
    built = build.ensure(wanted)
    print(f"{len(wanted)} images are here, {len(built)} of them built now")
