"""Synthetic pipelines in a clone: chains, fans, diamonds of stages that do next to nothing.

All stages are one image under many names. One of them, `model`, writes a model and another one, `score`, scores it, so
that `make run` publishes as it always does.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import yaml

from benchmarks.clones import Clone
from scripts.pipeline import images

MODEL, SCORE = "model", "score"
STAGE = Path(__file__).parent / "stage"
MADE = "data/processed"
FILE, METRICS = "models/out", "metrics/metrics.json"
PUBLISHING = {
    "mlflow": {"experiment": "bench", "model": "bench"},
    "promotion": {"metric": "score", "higher_is_better": True},
}
"""The sections of params.yaml for the model."""


@dataclass(frozen=True)
class Work:
    """A stage: which others it waits for, its section of params.yaml (see stage/work.py), and whether it `measures`."""

    name: str
    needs: tuple[str, ...] = ()
    does: Mapping[str, Any] = field(default_factory=dict)
    measures: bool = False

    @property
    def out(self) -> str:
        """The path of what it makes; git ignores it."""
        return f"{MADE}/{self.name}/out"

    @property
    def metrics(self) -> str:
        """The path of the score that it writes, if it does."""
        return f"{MADE}/{self.name}/score.json"

    def block(self) -> str:
        """Its block of dvc.yaml.template."""
        inputs = {f"in_{number}": Work(name).out for number, name in enumerate(self.needs)}
        files = f"inputs={json.dumps(inputs)}, outputs={{'out': '{self.out}'}}"
        metrics = f", metrics={{'metrics': '{self.metrics}'}}" if self.measures else ""
        return f"{{{{ stage({json.dumps(self.name)}, {files}{metrics}) }}}}"


def names(count: int) -> list[str]:
    """s001, s002 ..."""
    return [f"s{number:03}" for number in range(1, count + 1)]


def chain(count: int) -> list[Work]:
    """`count` stages, each of which waits for the one before it."""
    found = names(count)
    return [Work(name, tuple(found[max(0, number - 1) : number])) for number, name in enumerate(found)]


def fan(count: int) -> list[Work]:
    """One stage, then `count` - 2 side by side, then one that waits for all of these."""
    first, *middle, last = names(count)
    return [Work(first), *(Work(name, (first,)) for name in middle), Work(last, tuple(middle))]


def open_fan(count: int) -> list[Work]:
    """One stage, then all others side by side: a command that reads the files of all would be too long."""
    first, *others = names(count)
    return [Work(first), *(Work(name, (first,)) for name in others)]


def independent(count: int, **does: Any) -> list[Work]:
    """`count` stages that wait for nothing."""
    return [Work(name, does=does) for name in names(count)]


def diamond(**does: Any) -> list[Work]:
    """a, then b and c side by side, which do something, then d."""
    return [Work("a"), Work("b", ("a",), does), Work("c", ("a",), does), Work("d", ("b", "c"))]


def template(works: Iterable[Work]) -> str:
    """Return the text of dvc.yaml.template: the model's two stages, the others, and the model."""
    made, scored = {"out": FILE}, {"out": "metrics/out"}
    model = f"{{{{ stage('{MODEL}', outputs={json.dumps(made)}) }}}}"
    score = (
        f"{{{{ stage('{SCORE}', inputs={json.dumps({'in_0': FILE})}, outputs={json.dumps(scored)}, "
        f"metrics={json.dumps({'metrics': METRICS})}) }}}}"
    )
    artifact = f"{{{{ model(params.mlflow.model, file='{FILE}', metrics='{METRICS}') }}}}"
    return "\n".join(["stages:", model, score, *(work.block() for work in works), "artifacts:", artifact, ""])


def install(clone: Clone, works: list[Work]) -> None:
    """Make a model and `works` the pipeline of `clone`, of which nothing has run; build its images.

    Writes dvc.yaml.template, params.yaml and stages/, and commits.
    """
    clone.forget(lock=True)
    for folder in (clone.path / "stages").iterdir():
        if folder.is_dir() and folder.name != images.BASE:
            shutil.rmtree(folder)
    # Each makes bytes of its own: DVC runs no stage whose output another one has brought into its cache. And each has a
    # parameter: of one with neither inputs nor parameters DVC keeps no result.
    sections = {work.name: {"value": work.name, **work.does} for work in (Work(MODEL), *works)}
    (clone.path / "params.yaml").write_text(yaml.safe_dump({**PUBLISHING, **sections}, sort_keys=False))
    (clone.path / "dvc.yaml.template").write_text(template(works))
    _build(clone, [SCORE, *(work.name for work in works)])
    clone.make("setup-dvc")
    clone.commit("a synthetic pipeline")


def _build(clone: Clone, stages: list[str]) -> None:
    """Build one image and give it the names of all: their folders are alike."""
    for name in [MODEL, *stages]:
        folder = clone.path / "stages" / name
        folder.mkdir()
        for path in STAGE.iterdir():
            if path.is_file():
                shutil.copy(path, folder)
        if name == MODEL:
            clone.make("build")
    wanted = images.load(clone.path / "stages")
    built = docker.from_env().images.get(wanted[MODEL].tag)
    for name in stages:
        for tag in (wanted[name].tag, f"stages/clone-{clone.id}:{name}"):
            built.tag(tag)
