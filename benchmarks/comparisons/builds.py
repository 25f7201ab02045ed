"""Builds of images: all stages from nothing, one edit of code, one new requirement; and the bytes of all on disk."""

import itertools
import os

from benchmarks import engine
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample
from scripts.pipeline import images

ALL, CODE, REQUIREMENT = "all stage images from nothing", "after an edit of code", "after a new requirement"
NEW = "tomli-w==1.2.0\n"
"""A requirement that no stage has: a small one, so that building is measured, and not the network."""


def append(clone: Clone, name: str, text: str) -> None:
    path = clone.path / "stages" / name
    path.write_text((path.read_text() if path.exists() else "") + text)


def downloaded(clone: Clone, stage: str) -> bool:
    """Whether the last build of a stage's image installed anything, by its log."""
    log = (clone.path / ".local" / "logs" / f"build-{stage}.log").read_text()
    return "Downloading" in log or "Prepared" in log or "Installed" in log


def disk_bytes(clone: Clone) -> int:
    """Unique bytes of the images that this clone needs: Python, runner, base, stages."""
    wanted = [image.tag for image in images.load(clone.path / "stages").values()]
    names = [os.environ["PYTHON_IMAGE"], os.environ["RUNNER_IMAGE"], *wanted]
    return engine.unique_bytes([engine.layers(name) for name in names])


def compare(bench: Bench, record: Record) -> None:
    clone, number = bench.project, itertools.count(1)
    stage, installed = images.stage_names(clone.path / "stages")[-1], []

    # A new comment makes new layers of all that follows it: the engine has none of them at hand.
    def everything() -> Sample:
        comment = f"# {next(number)} {clone.id}\n"
        for name in images.stage_names(clone.path / "stages"):
            append(clone, f"{name}/requirements.txt", comment)
        return clone.make("build")

    def code() -> Sample:
        append(clone, f"{stage}/{stage}.py", f"# {next(number)} {clone.id}\n")
        sample = clone.make("build")
        installed.append(downloaded(clone, stage))
        return sample

    def requirement() -> Sample:
        append(clone, f"{stage}/requirements.txt", f"# {next(number)} {clone.id}\n")
        if NEW not in (clone.path / "stages" / stage / "requirements.txt").read_text():
            append(clone, f"{stage}/requirements.txt", NEW)
        return clone.make("build")

    record.add("images on disk", disk_bytes(clone), "bytes")
    record.alternate({ALL: everything, CODE: code, REQUIREMENT: requirement}, bench.repetitions)
    clone.restore()
    record.at_most("unique bytes of all images, in GB", record.median("images on disk", "bytes") / 1e9, 2.5)
    record.at_most("build after an edit of code, in s", record.median(CODE), 3)
    record.at_most("builds after an edit of code that installed or downloaded", sum(installed), 0)
    record.notes.append(
        "Whole times of make build, with its start; the base image is at hand, and so are the packages that uv has "
        "downloaded before. Bytes: the Python image, runner, base and stages, each layer once."
    )
