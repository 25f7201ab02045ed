"""What the Docker engine tells of containers and images: how long, how much memory, how many bytes."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import docker

PERIOD = 0.25  # seconds between two looks at the memory


def machine() -> dict[str, Any]:
    """What the results depend on: cores, memory, engine."""
    about = docker.from_env().info()
    return {
        "cores": about["NCPU"],
        "memory_gb": round(about["MemTotal"] / 1e9, 1),
        "engine": about["ServerVersion"],
        "storage": about["Driver"],
    }


# --- containers


@contextmanager
def peaks(label: str) -> Iterator[dict[str, float]]:
    """While the block runs, looks at the containers of a clone; the most memory of each, in MB, by `who` it is.

    Memory is what no other use can take away: without the files that the kernel keeps at hand.
    """
    found: dict[str, float] = {}
    done = threading.Event()
    thread = threading.Thread(target=_look, args=(label, found, done), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _look(label: str, found: dict[str, float], done: threading.Event) -> None:
    engine = docker.APIClient()
    while not done.wait(PERIOD):
        for container in engine.containers(filters={"label": label}):
            try:
                stats = engine.stats(container["Id"], stream=False, one_shot=True)
            except docker.errors.NotFound:
                continue
            name = who(container["Labels"], container["Command"])
            found[name] = max(found.get(name, 0), anonymous(stats["memory_stats"].get("stats", {})) / 1e6)


def who(labels: Mapping[str, str], command: str) -> str:
    """A container by its stage, or by the verb that a runner was started with; else empty."""
    verb = re.search(r"-m scripts (\w+)", command)
    return labels.get("pipeline.stage") or (verb[1] if verb else "")


def anonymous(stats: Mapping[str, int]) -> int:
    """Bytes of memory that stand for no file, by the engine's statistics of cgroup 1 or 2."""
    return stats.get("total_rss", stats.get("anon", 0))


def seconds_of_stages(label: str, since: float, until: float) -> dict[str, float]:
    """How long each stage's container ran that started and ended between two moments (seconds since 1970)."""
    found: dict[str, float] = {}
    filters = {"label": [label, "pipeline.stage"], "event": ["start", "die"]}
    for event in docker.from_env().events(since=since, until=until, filters=filters, decode=True):
        stage = event["Actor"]["Attributes"]["pipeline.stage"]
        sign = 1 if event["Action"] == "die" else -1
        found[stage] = found.get(stage, 0) + sign * event["timeNano"] / 1e9
    return found


# --- images


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
