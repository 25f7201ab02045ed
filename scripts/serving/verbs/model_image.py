"""`make model-image`: an image of server and model that needs nothing else."""

import os
from collections.abc import Sequence

from scripts.pipeline.console import tell
from scripts.project import PROJECT
from scripts.registry import reader
from scripts.serving import choice, containers, model_image
from scripts.serving.kept import Kept


def main(arguments: Sequence[str]) -> None:
    given = reader.parse(arguments)
    chosen = choice.choose(given, PROJECT)
    reader.start_server()
    state = reader.look_up(chosen.model.name)
    version = choice.version_of(state, chosen.model.name, given.get("version") or given.get("alias") or "")
    kept = Kept(PROJECT, chosen.model.name)
    about = kept.fetch(version)
    server = containers.image_of(chosen)
    containers.keep_sample(chosen, chosen.wanted[chosen.scorer.block], kept, PROJECT)
    name = model_image.make(about, kept, server)
    lines = [f"run it      docker run --rm --read-only --tmpfs /tmp --publish 127.0.0.1:8080:8080 {name}"]
    if os.environ.get("IMAGE_REGISTRY"):
        lines.append(f"push it     docker push {name}")
    tell("\n".join([f"{name}: {about['model']} version {about['version']}", *lines]))
