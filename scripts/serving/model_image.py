"""An image of server and model that needs nothing else: no registry, no credentials, no clone."""

import json
import re
from collections.abc import Mapping

from scripts.digests import sha256
from scripts.pipeline import build, images
from scripts.pipeline.console import tell
from scripts.pipeline.images import Image, Source
from scripts.project import Project, UserError
from scripts.registry import reader
from scripts.serving import choice, containers
from scripts.serving.kept import SAMPLE, WANTED, About, Kept

LARGEST = 2 << 30
"""Bytes of a model that gets into an image this way."""
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY state /state
USER 65534:65534
EXPOSE 8080
LABEL model=%s model.version=%d model.sha256=%s
"""


def name_of(model: str, version: int, digest: str) -> str:
    """Return the image's name, as Docker takes it: `iris-classifier:2-1a2b3c4d5e6f`."""
    clean = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"
    return f"{clean}:{version}-{digest[:12]}"


def image_of(about: About, kept: Kept, server: Image) -> Image:
    """Return the image of a version that is kept, on the server's. Raise UserError for a model that is too large."""
    file = kept.folder / about["file"]
    files = sorted(path for path in file.rglob("*") if path.is_file()) if file.is_dir() else [file]
    if sum(path.stat().st_size for path in files) > LARGEST:
        raise UserError(f"the model has more than {LARGEST >> 30} GB; expected less for an image: mount it instead")
    wanted = {"current": about, "shadow": None, "registry": {"ok": True, "why": "", "answered": None}}
    sources = {
        images.DOCKERFILE: Source(
            (DOCKERFILE % (json.dumps(about["model"]), about["version"], about["sha256"])).encode()
        ),
        f"state/{WANTED}": Source(json.dumps(wanted).encode()),
        **{f"state/{path.relative_to(kept.folder)}": Source(path.read_bytes()) for path in files},
    }
    if (kept.folder / SAMPLE).is_file():
        sources[f"state/{SAMPLE}"] = Source((kept.folder / SAMPLE).read_bytes())
    if sha256(file) != about["sha256"]:
        raise UserError("the model's file has changed meanwhile; expected it to stay: call again")
    return Image(f"model.{server.name}", name_of(about["model"], about["version"], about["sha256"]), sources)


def make(given: Mapping[str, str], project: Project) -> Image:
    """Build the image of the version that a command names, and say what was built."""
    chosen = choice.choose(given, project)
    reader.start_server()
    state = reader.look_up(chosen.model.name)
    version = choice.version_of(state, chosen.model.name, given.get("version") or given.get("alias") or "")
    kept = Kept(project, chosen.model.name)
    about = kept.fetch(version)
    server = containers.image_of(chosen)
    containers.keep_sample(chosen, chosen.wanted[chosen.scorer.block], kept, project)
    image = image_of(about, kept, server)
    build.build(image, server)
    tell(f"{image.tag}: {about['model']} version {about['version']}")
    return image


def how_to_run(name: str) -> str:
    """Return the line with which the image of this name runs on a machine."""
    return f"run it      docker run --rm --read-only --tmpfs /tmp --publish 127.0.0.1:8080:8080 {name}"
