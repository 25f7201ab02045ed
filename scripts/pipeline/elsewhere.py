"""Runs stages elsewhere than on this machine, if there is an optional room that can: one with a jobs.py.

Its `place(project, pipeline)` returns a Place. Whoever wants one names the room; the core names none.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, ROOT, Project, UserError

MODULE = "jobs"


class Job(NamedTuple):
    """A stage that is to run with another text of params.yaml, by a name for people. DVC's remote, from which it gets
    what the stages before it made, gets its result."""

    name: str
    stage: str
    params: str


class Ended(NamedTuple):
    """How a job ended: its number in the list, its seconds, and the `sentence` that says why it failed.

    `passing` is whether that was no fault of the stage, which may end well the next time.
    """

    number: int
    seconds: float
    sentence: str = ""
    passing: bool = False


class Place(Protocol):
    """Where jobs run."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        """Run the jobs side by side; yield how each ended when it has, and None now and then.

        To be closed if it is not followed to its end: what runs is then stopped. Raise Unavailable if the place is
        away, UserError if it takes no such jobs.
        """


def place(name: str, pipeline: Pipeline, project: Project = PROJECT, root: Path = ROOT) -> Place:
    """Return where the room `scripts/NAME/` runs jobs. Raise UserError if there is no such room."""
    rooms = sorted(path.parent.name for path in root.glob(f"scripts/*/{MODULE}.py"))
    if name not in rooms:
        raise UserError(
            f"ON is {name[:60]!r}, and no room scripts/{name[:60]}/ runs stages elsewhere; expected "
            f"{' or '.join([*rooms, 'nothing, for this machine'])}: correct it, or leave it out"
        )
    return import_module(f"scripts.{name}.{MODULE}").place(project, pipeline)
