"""The sampler's container: sealed, it is given what the sweep is and the scores so far, and says what to try next."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from scripts.pipeline import build, images
from scripts.pipeline.images import Image
from scripts.project import Unavailable, UserError
from scripts.sweeps.spec import GRID, Choices, Space, Spec, Value, rounded

HERE = Path(__file__).parent
FILES = ("Dockerfile", "requirements.txt", "sampler.py")
MEMORY = "1g"
LONGEST = 10 << 20  # bytes of a line
Point = dict[str, Value]
"""A value for each parameter."""


def image() -> Image:
    sources = {name: images.read(HERE / name) for name in FILES}
    return Image("sweeps.sampler", f"stages/sweeps.sampler:{images.digest(sources)}", sources)


def ensure_image() -> Image:
    """Build the image if it is not here. Raise UserError if that fails."""
    wanted, here = image(), build.on_this_machine()
    build.claim_present({wanted.name: wanted}, here)
    if wanted.tag not in here:
        build.build(wanted, None)
    return wanted


def command(tag: str) -> list[str]:
    """Return the `docker run` of the sampler, which ends with its standard input."""
    return [
        *("docker", "run", "--rm", "--interactive", "--init", "--pull", "never", "--log-driver", "none"),
        *("--label", f"pipeline.clone={os.environ['CLONE']}", "--label", "pipeline.role=sampler"),
        *("--user", os.environ["STAGE_USER"], "--read-only", "--cap-drop", "ALL", "--network", "none"),
        *("--security-opt", "no-new-privileges", "--memory", MEMORY, "--pids-limit", "64", tag),
    ]


class Sampler:
    """Says which points to try; to be used with `with`, and only there. Raise Unavailable if it ends untimely."""

    def __init__(self, spec: Spec, command: Sequence[str]) -> None:
        self._spec, self._command = spec, command
        self._process: subprocess.Popen[str] | None = None
        self.importance: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._tell(described(self._spec))
        return self

    def __exit__(self, *error: object) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def batch(self) -> list[Point]:
        """Return what to try next; nothing if that was all."""
        if not (line := self._process.stdout.readline(LONGEST)):
            raise self._fault(self._process.stderr.read(2000))
        try:
            said = json.loads(line)
            if "importance" in said:
                self.importance = {name: float(said["importance"].get(name, 0)) for name in self._spec.parameters}
                return []
            return [self._point(point) for point in said["batch"]]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._fault(f"it printed what is no answer ({error})") from None

    def tell(self, scores: Sequence[float | None]) -> None:
        """Say what came of the last batch: a score for each point, None if it failed."""
        self._tell(list(scores))

    def _tell(self, line: Any) -> None:
        with suppress(OSError):  # it has ended: `batch` reads what it said last
            print(json.dumps(line), file=self._process.stdin, flush=True)

    def _point(self, point: Mapping[str, float]) -> Point:
        return {name: value_of(self._spec, name, point[name]) for name in self._spec.parameters}

    def _fault(self, said: str) -> UserError:
        last = " ".join((said.strip().splitlines() or ["nothing"])[-1].split())[:300]
        return Unavailable(f"the sampler of the sweep ended, and said {last}; expected trials: call again")


def value_of(spec: Spec, name: str, said: float) -> Value:
    """Return the value of a parameter that the sampler means. Raise ValueError if it has none."""
    space = spec.parameters[name]
    if isinstance(space, Choices) or spec.sampler == GRID:
        if not isinstance(said, int) or not 0 <= said < len(space.values):
            raise ValueError(f"{name} has no value {said}")
        return space.values[said]
    if not space.low - 1e-9 <= said <= space.high + 1e-9 or (space.whole and not isinstance(said, int)):
        raise ValueError(f"{name} cannot be {said}")
    return min(max(rounded(said), space.low), space.high)


def described(spec: Spec) -> dict[str, Any]:
    """Return what the sampler is told of a sweep: of a list how many values it has, of a grid all as lists."""

    def space_of(space: Space) -> dict[str, Any]:
        if isinstance(space, Choices) or spec.sampler == GRID:
            return {"choices": len(space.values)}
        return space._asdict()

    return {
        "parameters": {name: space_of(space) for name, space in spec.parameters.items()},
        "sampler": spec.sampler,
        "trials": spec.trials,
        "batch": spec.batch,
        "seed": spec.seed,
        "goal": spec.objective.goal,
    }
