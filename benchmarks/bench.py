"""What the comparisons share: how large, how often, and the clones that they work in."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import pipelines
from benchmarks.clones import Clone
from benchmarks.pipelines import Work


@dataclass(frozen=True)
class Bench:
    """`source` is the copy of the working tree, which clones are made of and lie beside; `quick`: small and once."""

    source: Path
    quick: bool

    def size[T](self, full: T, quick: T) -> T:
        """The size of something: the real one, or a small one that only shows that all works."""
        return quick if self.quick else full

    @property
    def repetitions(self) -> int:
        return self.size(5, 1)

    @cached_property
    def project(self) -> Clone:
        """A clone that has run the project's own pipeline once: images built, MLflow up."""
        clone = Clone.of(self.source, "project")
        clone.make("run")
        clone.commit("a first run")
        return clone

    @cached_property
    def _synthetic(self) -> Clone:
        # A run may not begin more stages at once than the machine has memory for all their limits.
        return Clone.of(self.source, "synthetic", STAGE_MEMORY="128m")

    def synthetic(self, works: list[Work]) -> Clone:
        """A clone whose pipeline is `works` and a model; nothing of it has run, but MLflow is up."""
        pipelines.install(self._synthetic, works)
        self._synthetic.make("ui")
        return self._synthetic
