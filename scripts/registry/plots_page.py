"""The page of `make plots`: each plot once, drawn as in MLflow, in one file that needs no script and no network."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader

from scripts.pipeline.console import printable
from scripts.pipeline.stage import Pipeline
from scripts.project import UserError, atomic_write
from scripts.registry import plots
from scripts.registry.stage_files import TABLES, Refused, Table, files_below, read_table

LARGEST_SVG = 200_000
"""Bytes of a drawing; one with more is shown as a picture of dots, whose size does not grow with its points."""
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")


class Picture(NamedTuple):
    """A plot's name, its title, and where a browser finds it."""

    name: str
    title: str
    source: str


def draw(pipeline: Pipeline, root: Path, folder: Path) -> Path | None:
    """Draw the plots of dvc.yaml, and the plots of stages that it does not name, into `folder`/index.html.

    Return its path, None if there is nothing to draw. What cannot be drawn is left out, and said in a line.
    """
    entries = {name: look for each in pipeline.plots for name, look in _named(each).items()}
    made = [path for stage in pipeline.stages.values() for path in stage.plots.values()]
    named = {path for name, look in entries.items() for path in (name, *_files_of(look))}
    files = _files(root, [*made, *(path for path in named if _is_inside(path))])
    tables = {path: table for path in files if path.endswith(TABLES) and (table := _table(root, path))}
    others = [path for path in made if path not in named]
    pictures = [*_drawn([*entries.items(), *((path, None) for path in others)], tables), *_images(files, root, folder)]
    if not pictures:
        return None
    folder.mkdir(exist_ok=True)
    page = folder / "index.html"
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    atomic_write(page, templates.get_template("plots.html.jinja").render(pictures=pictures))
    return page


def _named(entry: Any) -> Mapping[str, Any]:
    found = entry if isinstance(entry, Mapping) else {entry: None}
    return {str(name): look for name, look in found.items()}


def _files_of(look: Any) -> list[str]:
    """Return the files whose columns a plot shows."""
    of_axes = [look.get(axis) for axis in ("x", "y")] if isinstance(look, Mapping) else []
    return [str(path) for columns in of_axes if isinstance(columns, Mapping) for path in columns]


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and parts.suffix.lower() in (*TABLES, *IMAGES)


def _files(root: Path, paths: list[str]) -> list[str]:
    """Return the files of which there are plots; of a folder those in it."""
    found: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            found += [each.relative_to(root).as_posix() for each in files_below(root / path) if each.is_file()]
        except Refused as error:
            _leave_out(error)
    return list(dict.fromkeys(found))


def _table(root: Path, path: str) -> Table | None:
    try:
        return read_table(root / path)
    except UserError as error:
        return _leave_out(error)


def _leave_out(why: object) -> None:
    print(f"not drawn: {printable(why)}", flush=True)


def _drawn(entries: list[tuple[str, Any]], tables: Mapping[str, Table]) -> Iterator[Picture]:
    for name, look in entries:
        title = look.get("title") if isinstance(look, Mapping) else None
        for drawn, image in plots.draw([{name: look}], tables, form="svg"):
            kind = "svg+xml"
            if len(image) > LARGEST_SVG:
                kind, image = "png", dict(plots.draw([{name: look}], tables))[drawn]
            source = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
            yield Picture(printable(drawn), printable(title or drawn), source)


def _images(files: list[str], root: Path, folder: Path) -> Iterator[Picture]:
    """Yield the pictures that stages drew, which stay where they are."""
    for path in files:
        if path.lower().endswith(IMAGES):
            place = (root / path).relative_to(folder, walk_up=True)
            yield Picture(printable(path), printable(path), quote(place.as_posix()))
