"""What takes longer in a registry of 1,000 versions than in one of 10: looking, nothing to do, both promotions."""

import itertools
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import docker

from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample

FILL = Path(__file__).parents[1] / "registry" / "fill.py"
ACTIONS = ("make models", "make run, nothing to do", "make promote", "make run, a new model")


def clone_with(bench: Bench, count: int) -> Clone:
    """Return a clone that has run the project's own pipeline, whose model has `count` versions then."""
    clone = Clone.of(bench.source, f"registry-{count}")
    clone.make("run")
    (server,) = docker.from_env().containers.list(filters={"label": [clone.label, "com.docker.compose.service=mlflow"]})
    model = clone.params["mlflow"]["model"]
    command = ["docker", "exec", "--interactive", server.id, "python", "-", model, str(count)]
    subprocess.run(command, input=FILL.read_bytes(), check=True)
    clone.commit("a first run")
    clone.make("run")  # with nothing to do, which the next run then knows
    return clone


def actions(clone: Clone, count: int) -> dict[str, Callable[[], Sample]]:
    """Return what is measured in a clone, by name."""
    versions, seeds = itertools.cycle([1, count]), itertools.count(1000)

    def promote() -> Sample:
        return clone.make("promote", f"VERSION={next(versions)}")

    def new_model() -> Sample:
        clone.set("train", seed=next(seeds))
        clone.commit("another seed")
        return clone.make("run")

    return dict(
        zip(ACTIONS, (partial(clone.make, "models"), partial(clone.make, "run"), promote, new_model), strict=True)
    )


def compare(bench: Bench, record: Record) -> None:
    few, many = bench.size((10, 1000), (10, 20))
    sides = {count: actions(clone_with(bench, count), count) for count in (few, many)}
    for action in ACTIONS:
        names = {count: f"{action}, {count:,} versions" for count in sides}
        record.alternate({names[count]: sides[count][action] for count in sides}, bench.size(7, 1))
        record.at_most(f"{action}: {many:,} versions to {few}", record.ratio(names[many], names[few]), 2)
    record.notes += [
        "Two clones of the project, each with its local MLflow server. The versions beyond the first are copies of it, "
        "which benchmarks/registry/fill.py writes into the server's database by MLflow's own store.",
        "make promote: to and fro between the first version and the last. A new model: train and evaluate run, and it "
        "is registered, decided on, and put where it belongs.",
    ]
