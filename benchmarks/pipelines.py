"""Synthetic pipelines in a clone: chains, fans, diamonds of stages that do next to nothing.

All stages are one image under many names. One of them, `model`, delivers a model that was trained before, so that
`make run` can publish as it always does.
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

MODEL = "model"
STAGE = Path(__file__).parent / "stage"
EXTERNAL, MADE = "data/external", "data/processed"


@dataclass(frozen=True)
class Work:
    """A stage: which others it waits for, and its section of params.yaml (see stage/work.py)."""

    name: str
    needs: tuple[str, ...] = ()
    does: Mapping[str, Any] = field(default_factory=dict)

    @property
    def out(self) -> str:
        """The path of what it makes; git ignores it."""
        return f"{MADE}/{self.name}/out"

    def block(self) -> str:
        """Its block of dvc.yaml.template."""
        inputs = {f"in_{number}": Work(name).out for number, name in enumerate(self.needs)}
        return f"{{{{ stage({json.dumps(self.name)}, inputs={json.dumps(inputs)}, outputs={{'out': '{self.out}'}}) }}}}"


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


def independent(count: int, **does: Any) -> list[Work]:
    """`count` stages that wait for nothing."""
    return [Work(name, does=does) for name in names(count)]


def diamond(**does: Any) -> list[Work]:
    """a, then b and c side by side, which do something, then d."""
    return [Work("a"), Work("b", ("a",), does), Work("c", ("a",), does), Work("d", ("b", "c"))]


def template(works: Iterable[Work]) -> str:
    """The text of dvc.yaml.template: the delivery of the model, and the stages."""
    files = ("model.skops", "model_metadata.json")
    inputs = {f"copy_{number}": f"{EXTERNAL}/{name}" for number, name in enumerate(files)}
    outputs = {f"copied_{number}": f"models/{name}" for number, name in enumerate(files)} | {"out": "models/out"}
    deliver = f"{{{{ stage('{MODEL}', inputs={json.dumps(inputs)}, outputs={json.dumps(outputs)}) }}}}"
    return "\n".join(["stages:", deliver, *(work.block() for work in works), ""])


def install(clone: Clone, works: list[Work]) -> None:
    """Makes the model's delivery and `works` the pipeline of `clone`, of which nothing has run; its images are built.

    Writes dvc.yaml.template, params.yaml, stages/ and data/external/, and commits.
    """
    clone.forget(lock=True)
    for dockerfile in (clone.path / "stages").glob("*/Dockerfile"):
        folder = dockerfile.parent
        if (folder / "work.py").exists():
            shutil.rmtree(folder)
        elif folder.name != images.BASE:
            dockerfile.unlink()  # no image any more; but scripts/ imports its code
    ours = {section: clone.params[section] for section in ("mlflow", "promotion")}
    # Each makes bytes of its own: DVC runs no stage whose output another one has brought into its cache.
    sections = {work.name: {"value": work.name, **work.does} for work in works}
    (clone.path / "params.yaml").write_text(yaml.safe_dump({**ours, **sections}, sort_keys=False))
    (clone.path / "dvc.yaml.template").write_text(template(works))
    _train(clone.path / EXTERNAL)
    _build(clone, [work.name for work in works])
    clone.make("setup-dvc")
    clone.commit("a synthetic pipeline")


def _train(folder: Path) -> None:
    """Writes a small model and its metadata into `folder`, as the stage train makes them."""
    import skops_model
    from stagekit import write_json
    from stages.ingest.ingest import bundled
    from stages.train import train

    if folder.exists():
        return
    folder.mkdir(parents=True)
    rows, frame = folder / "rows.csv", bundled()
    frame.to_csv(rows, index=False)
    paths = {"model": folder / "model.skops", "metadata": folder / "model_metadata.json"}
    numbers = {"n_estimators": 5, "max_depth": 3, "min_samples_leaf": 1, "max_features": 0.5, "seed": 0}
    args = train.TrainArgs(train_csv=rows, test_csv=rows, **paths, **numbers)
    model = train.fit(frame, **args.hyperparameters())
    skops_model.save(model, args.model)
    write_json(args.metadata, train.describe(args, model, frame, frame))


def _build(clone: Clone, stages: list[str]) -> None:
    """Builds one image and gives it the names of all: their folders are alike."""
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
