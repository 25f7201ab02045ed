"""The page of a sweep: one file with no script in it, and no address of another host."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.pipeline.console import printable
from scripts.pipeline.params import as_written
from scripts.project import Project, atomic_write
from scripts.sweeps import study
from scripts.sweeps.spec import MAXIMIZE
from scripts.sweeps.study import DONE, FAILED, SAME, Study, Trial

MOST_ROWS = 1000  # of the table; sweep.json has the rest
COLOURS = 6  # from the worst to the best
AXIS, HEIGHT, MARGIN = 170, 300, 90  # of the parallel coordinates: between two axes, from top to bottom, at the sides
CURVE = (640, 220)  # of the best so far, without what is written at its sides
LONGEST = 24  # characters of a value at an axis
MOST_TICKS = 12


class Tick(NamedTuple):
    y: float
    label: str


class Axis(NamedTuple):
    """A parameter, or the score: its place, and what is written beside it."""

    name: str
    x: int
    ticks: Sequence[Tick]


class Line(NamedTuple):
    """A trial: its way over the axes, and how good it is, from 0 to COLOURS - 1."""

    trial: Trial
    path: str
    colour: int


def write(found: Study, project: Project) -> None:
    """Write the page of a sweep; a disk that is full keeps no sweep from ending."""
    with suppress(OSError):
        atomic_write(study.folder(project, found.id) / study.PAGE, page(found))


def page(found: Study) -> str:
    """Return the HTML of a sweep."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {"shown": as_written, "cut": cut, "number": number}
    scored = [trial for trial in found.trials if trial.score is not None]
    return templates.get_template("sweep.html.jinja").render(
        study=found,
        counted={state: found.counted(state) for state in (DONE, SAME, FAILED)},
        axes=list(axes(found, scored)),
        lines=list(lines(found, scored)),
        curve=curve(found),
        importance=sorted(found.importance.items(), key=lambda item: -item[1]),
        colours=COLOURS,
        height=HEIGHT,
        margin=MARGIN,
        width=2 * MARGIN + AXIS * len(found.parameters),
        curve_size=CURVE,
        rows=ranked(found)[:MOST_ROWS],
        most=MOST_ROWS,
    )


def cut(value: object, most: int) -> str:
    text = printable(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def ranked(found: Study) -> list[Trial]:
    """Return the trials, the best first, those without a score last."""
    sign = -1 if found.goal == MAXIMIZE else 1
    return sorted(found.trials, key=lambda t: (t.score is None, sign * (t.score or 0), t.number))


# --- parallel coordinates


def axes(found: Study, scored: Sequence[Trial]) -> Iterator[Axis]:
    for place, name in enumerate(found.parameters):
        yield Axis(name, MARGIN + place * AXIS, _ticks(found, name))
    low, high = _ends([trial.score for trial in scored])
    ends = [Tick(HEIGHT, number(low)), Tick(0, number(high))] if scored else []
    yield Axis(found.metric, MARGIN + len(found.parameters) * AXIS, ends)


def _ticks(found: Study, name: str) -> list[Tick]:
    space = found.spec["parameters"][name]
    if "values" in space:
        listed = space["values"]
        step = math.ceil(len(listed) / MOST_TICKS)
        return [Tick(_place(space, value), cut(as_written(value), LONGEST)) for value in listed[::step]]
    return [Tick(_place(space, space[end]), number(space[end])) for end in ("low", "high")]


def _place(space: dict[str, Any], value: Any) -> float:
    """Return where a value is on its axis, from HEIGHT at the bottom to 0."""
    if "values" in space:
        listed = [as_written(each) for each in space["values"]]
        share = (listed.index(as_written(value)) + 0.5) / len(listed)
    else:
        scale = math.log if space["log"] else float
        share = (scale(value) - scale(space["low"])) / (scale(space["high"]) - scale(space["low"]))
    return round(HEIGHT * (1 - share), 1)


def lines(found: Study, scored: Sequence[Trial]) -> Iterator[Line]:
    """Yield a line for each trial that was run and has a score, the best last, so that it is on top."""
    low, high = _ends([trial.score for trial in scored])
    for trial in reversed([trial for trial in ranked(found) if trial.score is not None and trial.same_as is None]):
        share = (trial.score - low) / (high - low) if high > low else 0.5
        good = share if found.goal == MAXIMIZE else 1 - share
        spaces = found.spec["parameters"]
        ys = [*(_place(spaces[name], trial.values[name]) for name in found.parameters), round(HEIGHT * (1 - share), 1)]
        path = "M" + "L".join(f"{MARGIN + place * AXIS} {y}" for place, y in enumerate(ys))
        yield Line(trial, path, min(int(good * COLOURS), COLOURS - 1))


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 0.0)


# --- the best so far


def curve(found: Study) -> dict[str, Any]:
    """Return the scores as points, and the best so far as a path, over the number of the trial."""
    scored = [trial for trial in found.trials if trial.score is not None]
    if not scored:
        return {}
    low, high = _ends([trial.score for trial in scored])
    last = max(len(found.trials), 2)

    def at(trial: Trial, score: float) -> tuple[float, float]:
        share = (score - low) / (high - low) if high > low else 0.5
        return round(CURVE[0] * (trial.number - 1) / (last - 1), 1), round(CURVE[1] * (1 - share), 1)

    best = accumulate((trial.score for trial in scored), max if found.goal == MAXIMIZE else min)
    steps = [at(trial, score) for trial, score in zip(scored, best, strict=True)]
    path = f"M{steps[0][0]} {steps[0][1]}" + "".join(f"H{x}V{y}" for x, y in steps[1:])
    return {
        "points": [(*at(trial, trial.score), trial) for trial in scored],
        "path": f"{path}H{CURVE[0]}",
        "low": low,
        "high": high,
        "last": len(found.trials),
    }
