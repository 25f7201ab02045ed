"""The numbers of the metrics files: as they are, as the commit that is checked out has them, and the change."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from scripts.pipeline.stage import Pipeline
from scripts.project import Project, UserError
from scripts.registry import earlier
from scripts.registry.logged import read_metrics
from scripts.registry.stage_files import files_below
from scripts.tables import Table


class Metric(NamedTuple):
    """A number of a metrics file; None where there is none."""

    file: str
    name: str
    now: float | None
    head: float | None


def metrics(pipeline: Pipeline, project: Project) -> Iterator[Metric]:
    """Yield the numbers of all metrics files. Raise UserError for a file that cannot be read."""
    paths = [path for stage in pipeline.stages.values() for path in stage.metrics.values()]
    found = [
        (path, file) for path in paths if (project.root / path).exists() for file in files_below(project.root / path)
    ]
    before = at_head(paths, project)
    for path, file in found:
        inside = file.relative_to(project.root / path).as_posix().removeprefix(".")
        now, head = read_metrics(file), before.get(path, {}).get(inside, {})
        for name in dict.fromkeys([*now, *head]):
            yield Metric(file.relative_to(project.root).as_posix(), name, now.get(name), head.get(name))


def at_head(paths: Sequence[str], project: Project) -> dict[str, dict[str, dict[str, float]]]:
    """Return the numbers that HEAD's dvc.lock names and DVC's cache has: by path, and by the path in a folder."""
    with TemporaryDirectory() as folder:
        list(earlier.lay_out(paths, earlier.lock_at("HEAD", project), Path(folder), project))
        return {path: _below(Path(folder, path)) for path in paths if Path(folder, path).exists()}


def _below(place: Path) -> dict[str, dict[str, float]]:
    found = {}
    for file in [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]:
        with suppress(UserError):  # it was no file of metrics then
            found[file.relative_to(place).as_posix().removeprefix(".")] = read_metrics(file)
    return found


# --- as they are shown


def parts(found: Sequence[Metric]) -> list[Table]:
    """Return a row for each metric; a table a file."""
    return [
        Table(
            (file, "now", "HEAD", "change"),
            [(metric.name, metric.now, metric.head, change(metric.head, metric.now)) for metric in of_file],
            right={1, 2, 3},
        )
        for file, of_file in ((file, list(some)) for file, some in groupby(found, attrgetter("file")))
    ]


def change(before: float | None, now: float | None) -> str:
    """Return by how much a number grew, with its sign; nothing if it did not, or is new."""
    if before is None or now is None or before == now or not (math.isfinite(before) and math.isfinite(now)):
        return ""
    return f"{now - before:+.4g}"
