"""What the Docker engine tells of containers and images: how long, how much memory, how many bytes."""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import docker

PERIOD = 0.1  # seconds between two looks at the memory


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


@contextmanager
def lifetimes(label: str) -> Iterator[dict[str, float]]:
    """While the block runs, listens to the containers of a clone's stages: the seconds from start to end, by stage."""
    found: dict[str, float] = {}
    # Listened to as they come: of what is over the engine remembers the last 256 events of all containers.
    filters = {"label": [label, "pipeline.stage"], "event": ["start", "die"]}
    events = docker.from_env().events(filters=filters, decode=True)
    thread = threading.Thread(target=_add_up, args=(events, found), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        time.sleep(PERIOD)  # for the last one to arrive
        events.close()
        thread.join()


def _add_up(events: Iterable[Mapping[str, Any]], found: dict[str, float]) -> None:
    started: dict[str, int] = {}
    for event in events:
        about = event["Actor"]
        if event["Action"] == "start":
            started[about["ID"]] = event["timeNano"]
        elif about["ID"] in started:
            found[about["Attributes"]["pipeline.stage"]] = (event["timeNano"] - started[about["ID"]]) / 1e9


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
