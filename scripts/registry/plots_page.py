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
LARGEST_IMAGE = 5_000_000
"""Bytes of an image of the base that a page holds."""
KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp", ".svg": "svg+xml"}
IMAGES = tuple(KINDS)


class Picture(NamedTuple):
    """A plot's name, its title, and where a browser finds it."""

    name: str
    title: str
    source: str


class Base(NamedTuple):
    """What the plots are put beside: what it is called, and the folder that has its files by their paths."""

    name: str
    root: Path


class Pair(NamedTuple):
    """A plot as it is, and as it was; None where there is none. `is_same` if the two look alike."""

    now: Picture | None
    base: Picture | None

    @property
    def is_same(self) -> bool:
        return bool(self.now and self.base) and self.now.source == self.base.source


def draw(pipeline: Pipeline, root: Path, folder: Path, base: Base | None = None) -> Path | None:
    """Draw the plots of dvc.yaml, and the plots of stages that it does not name, into `folder`/index.html.

    Return its path, None if there is nothing to draw. What cannot be drawn is left out, and said in a line. Of `base`
    the same plots are drawn, from its files, beside them.
    """
    now = {picture.name: picture for picture in _pictures(pipeline, root, folder)}
    before = {picture.name: picture for picture in _pictures(pipeline, base.root)} if base else {}
    if not now:
        return None
    folder.mkdir(exist_ok=True)
    page = folder / "index.html"
    pairs = [Pair(now.get(name), before.get(name)) for name in dict.fromkeys([*now, *before])]
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    shown = {"pairs": pairs, "base": printable(base.name) if base else ""}
    atomic_write(page, templates.get_template("plots.html.jinja").render(shown))
    return page


def paths_of(pipeline: Pipeline) -> list[str]:
    """Return the paths of all files and folders of which there are plots."""
    entries = [(name, look) for each in pipeline.plots for name, look in _named(each).items()]
    made = [path for stage in pipeline.stages.values() for path in stage.plots.values()]
    named = [path for name, look in entries for path in (name, *_files_of(look))]
    return list(dict.fromkeys([*made, *(path for path in named if _is_inside(path))]))


def _pictures(pipeline: Pipeline, root: Path, folder: Path | None = None) -> Iterator[Picture]:
    """Yield the plots of the files below `root`; pictures that stages drew stay there, as seen from `folder`."""
    entries = {name: look for each in pipeline.plots for name, look in _named(each).items()}
    named = {path for name, look in entries.items() for path in (name, *_files_of(look))}
    files = _files(root, paths_of(pipeline))
    tables = {path: table for path in files if path.endswith(TABLES) and (table := _table(root, path))}
    others = [path for stage in pipeline.stages.values() for path in stage.plots.values() if path not in named]
    yield from _drawn([*entries.items(), *((path, None) for path in others)], tables)
    for path in files:
        if path.lower().endswith(IMAGES) and (source := _source(root / path, folder)):
            yield Picture(printable(path), printable(path), source)


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
            yield Picture(printable(drawn), printable(title or drawn), _data(image, kind))


def _source(image: Path, folder: Path | None) -> str | None:
    """Return where a page in `folder` finds an image; without one, the image itself, if it is not too large."""
    if folder:
        return quote(image.relative_to(folder, walk_up=True).as_posix())
    return _data(image.read_bytes(), KINDS[image.suffix.lower()]) if image.stat().st_size <= LARGEST_IMAGE else None


def _data(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
