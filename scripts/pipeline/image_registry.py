"""The registry of images that IMAGE_REGISTRY names: stage images are pulled from there before they are built.

On this machine their tags are plain, with or without it. Who writes to a registry may be anybody: an image is taken
only if it says of itself that it was built as the one that is wanted, from the same Python image, for this processor.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from typing import Any

from scripts.pipeline.console import harmless
from scripts.pipeline.containers import docker
from scripts.pipeline.images import Image
from scripts.project import Unavailable, UserError

SETTING = "IMAGE_REGISTRY"
ADDRESS = re.compile(r"(?=[^/]*[.:]|localhost/)[\w-]+(\.[\w-]+)*(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
"""`host:port/path`. Docker takes a first word without a dot or a port for a user of Docker Hub, who has no folders."""
REFUSED = re.compile(r"denied|unauthorized|authentication|no basic auth", re.IGNORECASE)
LACKING = re.compile(r"manifest unknown|not found|name unknown|does not exist", re.IGNORECASE)
LONGEST = 3600  # seconds of one pull or push; ten times the longest ever seen
OURS, ANY = ("pipeline.", "com.docker."), "pipeline.source"
"""The labels by which containers are found here, who take over those of their images; and one of the Python image."""


def address() -> str:
    """Return the registry's address, empty if there is none. Raise UserError if it is no address."""
    given = os.environ.get(SETTING, "").strip().rstrip("/")
    if given and not ADDRESS.fullmatch(given):
        raise UserError(
            f"{SETTING} is {given[:200]!r}; expected one like registry.example.org:5000/team, without https:// and in "
            "lower case: correct it in .env"
        )
    return given


def required() -> str:
    """Return the registry's address. Raise UserError if there is none, or if it is no address."""
    if registry := address():
        return registry
    raise UserError(f"{SETTING} is empty; expected the address of a registry of images: set it in .env")


def pull(wanted: Iterable[Image]) -> Iterator[Image]:
    """Yield those of `wanted` that the registry has, as soon as each is here under its own tag.

    Say in a line why another one is not taken. A registry that is away is asked once.
    """
    registry = address()
    for image in wanted if registry else ():
        name, began = f"{registry}/{image.tag}", time.monotonic()
        said = _call("pull", name)
        if LACKING.search(said) and not REFUSED.search(said):
            continue
        if said:
            _tell(f"{SETTING}: {registry} did not give {image.tag} ({said}); images are built here")
            return
        if wrong := _take(name, image):
            _tell(f"{SETTING}: {name} is not taken: {wrong}; it is built here")
            continue
        _tell(f"pulled {image.tag} in {time.monotonic() - began:.0f} s")
        yield image


def push(wanted: Iterable[Image]) -> None:
    """Send images that are here to the registry. Raise UserError if there is none, Unavailable if it takes one not."""
    registry = required()
    for image in wanted:
        if found := fault(image.tag, image):
            raise UserError(f"{image.tag} would not be taken by other machines: {found}: correct its Dockerfile")
        name = f"{registry}/{image.tag}"
        docker("tag", image.tag, name)
        said = _call("push", name)
        _forget(name)
        if said:
            raise Unavailable(
                f"{image.tag} is not in {registry}: {said}; expected a registry that takes it ('docker login' in 'make "
                "shell' gives a password): call again once that works"
            )
        _tell(f"pushed {image.tag}")


def _call(verb: str, name: str) -> str:
    """Pull or push an image. Return nothing, or why that failed."""
    try:
        done = subprocess.run(["docker", verb, "--quiet", name], capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return f"it took more than {LONGEST} s"
    return " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}" if done.returncode else ""


def _take(name: str, image: Image) -> str:
    """Give an image that was pulled its own tag, unless there is something wrong with it; return that."""
    try:
        wrong = fault(name, image)
        if not wrong:
            docker("tag", name, image.tag)
    except Unavailable as error:  # another clone may have pulled it too, and forgotten its long name first
        wrong = str(error)
    _forget(name)
    return wrong


def fault(name: str, image: Image) -> str:
    """Return why the image here of this name is not the one that is wanted; nothing if it is."""
    found, python = json.loads(docker("image", "inspect", name, os.environ["PYTHON_IMAGE"]))
    labels = {label: value for label, value in _labels(found).items() if label.startswith(OURS) and label != ANY}
    expected = image.labels(os.environ["PYTHON_IMAGE"])
    for label in sorted({*labels, *expected}):
        if labels.get(label) != expected.get(label):
            is_now, wanted = (repr(each[label])[:100] if label in each else "none" for each in (labels, expected))
            return f"its label {label} is {is_now}; expected {wanted}"
    built, here = ([each["Os"], each["Architecture"]] for each in (found, python))
    return "" if built == here else f"it is for {'/'.join(built)[:50]}; expected {'/'.join(here)}"


def _labels(found: dict[str, Any]) -> dict[str, str]:
    return (found.get("Config") or {}).get("Labels") or {}


def _forget(name: str) -> None:
    subprocess.run(["docker", "image", "rm", name], capture_output=True)


def _tell(text: str) -> None:
    print(f"{harmless(text)}\n", end="", flush=True)  # in one piece: others print too
