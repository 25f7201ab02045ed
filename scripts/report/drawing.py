"""Draws the plots of a run as SVG, small, and from no more than is read in a moment."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.pipeline.stage import Pipeline
from scripts.project import Project, UserError
from scripts.registry import plots
from scripts.registry.plots import Chart
from scripts.registry.stage_files import TABLES, Table, read_table
from scripts.report.facts import text

LARGEST_FILE = 500_000  # bytes; `make plots` draws the others
MOST_CHARTS, MOST_CURVES, MOST_POINTS = 12, 8, 200
MOST_CLASSES, MOST_BARS = 12, 20
WIDTH, HEIGHT = 400, 240  # of a drawing, without what is written at its sides
COLOURS = 8


class Curve(NamedTuple):
    label: str
    points: Sequence[tuple[float, float]]  # in the drawing

    @property
    def path(self) -> str:
        return "M" + "L".join(f"{x} {y}" for x, y in self.points)


class Drawing(NamedTuple):
    """A chart's places in a drawing; `x` and `y` are its ends on each axis."""

    chart: Chart
    curves: Sequence[Curve]
    x: tuple[float, float]
    y: tuple[float, float]
    most: float  # of bars or of a matrix, the largest


def drawings(project: Project, pipeline: Pipeline) -> list[Drawing]:
    """Return what can be drawn of dvc.yaml's `plots`."""
    paths = [path for stage in pipeline.stages.values() for path in stage.plots.values()]
    tables = {path: table for path in paths if (table := _table(project.root / path))}
    found = [_drawing(chart) for chart in list(plots.charts(pipeline.plots, tables))[:MOST_CHARTS]]
    return [drawing for drawing in found if drawing.curves or drawing.chart.bars or drawing.chart.matrix]


def _table(path: Path) -> Table | None:
    try:
        small = path.suffix.lower() in TABLES and path.is_file() and path.stat().st_size <= LARGEST_FILE
        return read_table(path) if small else None
    except (UserError, OSError):  # publishing says so
        return None


def _drawing(chart: Chart) -> Drawing:
    curves = [(label, _thinned(list(_finite(xs, ys)))) for label, xs, ys in chart.curves[:MOST_CURVES]]
    x = _ends([x for _, points in curves for x, _ in points])
    y = _ends([y for _, points in curves for _, y in points])
    if chart.identity:
        x = y = _ends([*x, *y])
    placed = [
        Curve(text(label), [(_at(a, x, WIDTH), HEIGHT - _at(b, y, HEIGHT)) for a, b in points])
        for label, points in curves
        if points
    ]
    values = [abs(value) for _, row in chart.matrix for value in row]
    values += [abs(bar.length) + (bar.error or 0) for bar in chart.bars]
    most = max([value for value in values if math.isfinite(value)], default=0) or 1
    cut = chart._replace(
        name=text(chart.name),
        title=text(chart.title),
        x=text(chart.x),
        y=text(chart.y),
        bars=[bar._replace(name=text(bar.name)) for bar in chart.bars[:MOST_BARS]],
        matrix=[(text(name), row) for name, row in chart.matrix] if len(chart.matrix) <= MOST_CLASSES else [],
    )
    return Drawing(cut, placed, x, y, most)


def _finite(xs: Sequence[float], ys: Sequence[float]) -> Iterator[tuple[float, float]]:
    return ((x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y))


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return some of many points, the first and the last one among them."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(place * step)] for place in range(MOST_POINTS)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0, 0)


def _at(value: float, ends: tuple[float, float], length: int) -> float:
    low, high = ends
    return round(length * ((value - low) / (high - low) if high > low else 0.5), 1)
