"""What the Docker engine tells of its machine, and of the images on it."""

from typing import Any, NamedTuple

import docker


def machine() -> dict[str, Any]:
    """What the results depend on: cores, memory, engine."""
    about = docker.from_env().info()
    return {
        "cores": about["NCPU"],
        "memory_gb": round(about["MemTotal"] / 1e9, 1),
        "engine": about["ServerVersion"],
        "storage": about["Driver"],
    }


class Layers(NamedTuple):
    """An image as far as disk space goes: its layers, the lowest first, and the bytes of all of them."""

    digests: tuple[str, ...]
    size: int


def layers(name: str) -> Layers:
    """The layers of an image of this machine, by its name."""
    about = docker.from_env().images.get(name).attrs
    return Layers(tuple(about["RootFS"]["Layers"]), about["Size"])


def unique_bytes(images: list[Layers]) -> int:
    """Bytes on disk of these images together; what one has from another of them is counted once.

    What two have in common that is not a whole image of them counts twice: never too little.
    """
    distinct = set(images)
    below = {image: [other for other in distinct if _starts_with(image, other)] for image in distinct}
    return sum(image.size - max((other.size for other in below[image]), default=0) for image in distinct)


def _starts_with(image: Layers, other: Layers) -> bool:
    return len(other.digests) < len(image.digests) and image.digests[: len(other.digests)] == other.digests
