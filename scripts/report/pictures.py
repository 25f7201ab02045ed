"""The plots of a branch and of its base as pictures, side by side: those that differ."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.pipeline.stage import Pipeline
from scripts.project import UserError, atomic_write
from scripts.registry import plots
from scripts.registry.stage_files import TABLES, Table, files_below, read_table
from scripts.report.facts import text

MOST = 12


def draw(pipeline: Pipeline, now: Path, base: Path, folder: Path) -> list[dict[str, Any]]:
    """Draw what differs of dvc.yaml's `plots` below two roots, as PNG into `folder`, which must be there.

    Return name, title and both pictures' files of each; one that only one side has is None of the other.
    """
    drawn = [dict(plots.draw(pipeline.plots, _tables(pipeline, root))) for root in (now, base)]
    titles = {
        name: look["title"] for name, look in _named(pipeline.plots) if isinstance(look, dict) and "title" in look
    }
    found = []
    for place, name in enumerate(dict.fromkeys([*drawn[0], *drawn[1]])):
        both = [pictures.get(name) for pictures in drawn]
        if both[0] == both[1] or len(found) == MOST:
            continue
        plot: dict[str, Any] = {"name": text(name), "title": text(titles.get(name, name))}
        for side, picture in zip(("now", "base"), both, strict=True):
            file = f"{place + 1}-{re.sub(r'[^A-Za-z0-9]+', '-', name)[-40:].strip('-')}-{side}.png"
            plot[side] = file if picture else None
            if picture:
                atomic_write(folder / file, picture)
        found.append(plot)
    return found


def _named(entries: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(str(name), look) for entry in entries if isinstance(entry, dict) for name, look in entry.items()]


def _tables(pipeline: Pipeline, root: Path) -> dict[str, Table]:
    found = {}
    for path in [path for stage in pipeline.stages.values() for path in stage.plots.values()]:
        try:
            files = [file for file in files_below(root / path) if file.is_file() and file.suffix.lower() in TABLES]
            found |= {file.relative_to(root).as_posix(): read_table(file) for file in files}
        except UserError:  # publishing says so
            continue
    return found
