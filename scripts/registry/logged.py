"""What a model's run in MLflow gets from the stages that led to it: parameters, metrics, curves, files, pictures."""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from scripts.pipeline.console import printable
from scripts.pipeline.params import as_written
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.registry import plots
from scripts.registry.records import LONGEST_PARAM, clean_names
from scripts.registry.stage_files import (
    DEPTH,
    TABLE_BYTES,
    TABLES,
    Refused,
    Table,
    as_float,
    check_regular,
    files_below,
    is_number,
    kind_of,
    number,
    read_table,
    read_value,
    shown,
)

FOLDER = "evaluation"
"""Where below a run's artifacts the stages' files are."""
STEP, SCORE = "step", "score"
"""The columns that make a table one of curves, and that a model's rows must have."""
MOST_NUMBERS = 1_000  # in a metrics file
MOST_VALUES = 100_000  # of any kind in a metrics file
MOST_POINTS = 100_000  # in all curves of a run
LONGEST_KEY = 1_000  # characters; a name in MLflow is shorter
MOST_TOLD = 5  # names in a line
MOST_BYTES_OF_A_NAME = 240  # a file's can have 255, and an ending is added
LAST_STEP = 2**63 - 1  # what MLflow's database can hold

type Point = tuple[str, int, float]
"""A value of a curve: its metric's name, the step, the value."""


class Logged(NamedTuple):
    """What a run gets; `artifacts` maps a path below the run's artifacts to a file, or to its bytes."""

    params: dict[str, str]
    metrics: dict[str, float]
    steps: list[Point]
    artifacts: dict[str, bytes | Path]


def collect(pipeline: Pipeline, model: Model, root: Path, drawn: dict[str, bytes] | None = None) -> Logged:
    """Return what the run of `model` gets from the stages' files below `root`; `drawn` is as for `plots.draw`.

    A file that is not what it should be is left out, and said in a line; so is what MLflow does not take as it is.
    Raise UserError if a file cannot be looked at.
    """
    stages = [pipeline.stages[name] for name in pipeline.leading_to(model.scorer)]
    contents = {stage.name: read(_shown_of(stage, model), root) for stage in stages}
    found = numbers(contents)
    params, renamed = _params(pipeline, model)
    _tell_what_differs(renamed | found.renamed, [name for name, value in params.items() if len(value) > LONGEST_PARAM])
    artifacts = _artifacts(stages, contents, root)
    tables = {path: table for content in contents.values() for path, table in content.tables.items()}
    pictures = _pictures(plots.draw(pipeline.plots, tables, drawn=drawn), artifacts)
    named: dict[str, bytes | Path] = {f"{FOLDER}/{name}": root / path for path, name in artifacts.items()}
    named |= {f"{FOLDER}/{name}": picture for name, picture in pictures.items()}
    return Logged(params, found.metrics, found.steps, named)


def _shown_of(stage: Stage, model: Model) -> "Made":
    rows = [model.rows] if model.rows and stage.name == model.scorer else []
    return Made([*stage.metrics.values()], [*stage.plots.values()], rows)


# --- parameters


def params_of(pipeline: Pipeline, model: Model) -> dict[str, str]:
    """Return the parameters of all stages that lead to `model`, as text; `train.seed` if two stages have a `seed`."""
    return _params(pipeline, model)[0]


def _params(pipeline: Pipeline, model: Model) -> tuple[dict[str, str], dict[str, str]]:
    """Return the parameters, and of those that have another name in MLflow that name."""
    sections = {name: dict(leaves(pipeline.stages[name].section or {})) for name in pipeline.leading_to(model.scorer)}
    names = in_front(sections)
    clean = clean_names(names)
    found = {
        clean[stage, name]: as_written(value) for stage, section in sections.items() for name, value in section.items()
    }
    return found, _renamed(names, clean)


def leaves(section: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each value in nested mappings, by its name with dots: the first MOST_VALUES, to a depth of DEPTH."""
    for keys, value in itertools.islice(walk(section), MOST_VALUES):
        if not (isinstance(value, Mapping) and value):
            yield ".".join(keys), value


def walk(section: Mapping[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each value in nested mappings, the inner mappings themselves too, with the keys that lead to it.

    The keys are one more than DEPTH where it goes deeper than that: in YAML a mapping may even hold itself.
    """
    for key, value in section.items():
        keys = (*above, printable(key)[:LONGEST_KEY])
        yield keys, value
        if isinstance(value, Mapping) and len(keys) <= DEPTH:
            yield from walk(value, keys)


# --- names


def in_front(names: Mapping[str, Iterable[str]], by: str = ".") -> dict[tuple[str, str], str]:
    """Return the name of each (stage, name): the stage's comes in front if another stage has the same one."""
    users = Counter(name for of_stage in names.values() for name in set(of_stage))
    return {
        (stage, name): f"{stage}{by}{name}" if users[name] > 1 else name
        for stage, of_stage in names.items()
        for name in of_stage
    }


def _renamed[K](names: Mapping[K, str], clean: Mapping[K, str]) -> dict[str, str]:
    return {name: clean[key] for key, name in names.items() if clean[key] != name}


def _tell_what_differs(renamed: Mapping[str, str], cut: Sequence[str]) -> None:
    """Print a line for the names, and one for the parameters, that are not in MLflow as the stages have them."""
    if renamed:
        pairs = [f"{printable(name)[:60] or 'the empty name'} is {clean[:60]}" for name, clean in renamed.items()]
        print(f"note: in MLflow {_listed(pairs)}: names there have letters, digits, spaces and ._-/ alone", flush=True)
    if cut:
        what = f"at {LONGEST_PARAM} characters: pipeline/params.yaml of its run has all of it"
        print(f"note: in MLflow {_listed([f'the parameter {name[:60]}' for name in cut])} ends {what}", flush=True)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:MOST_TOLD]) + (f" and {len(words) - MOST_TOLD} more" if len(words) > MOST_TOLD else "")


# --- what the files hold


class Made(NamedTuple):
    """The files and folders that one stage wrote, relative to the project, by what they are to a run."""

    metrics: Sequence[str] = ()
    plots: Sequence[str] = ()
    others: Sequence[str] = ()  # to be looked at, but not read


class Content(NamedTuple):
    """What can be taken from the files of one stage, by path."""

    metrics: Mapping[str, Mapping[str, float]]
    tables: Mapping[str, Table]
    files: Sequence[str]


def read(made: Made, root: Path) -> Content:
    """Return what the files hold; one that is refused is left out, and said in a line.

    Raise UserError if one cannot be looked at.
    """
    files = [*_expanded(made.metrics, root), *made.others, *_expanded(made.plots, root)]
    files = [path for path in dict.fromkeys(files) if _taken(functools.partial(_check, root), Path(path))]
    metrics = {path: _taken(_told_metrics, root / path) for path in files if _is_below(path, made.metrics)}
    plotted = [path for path in files if _is_below(path, made.plots) and PurePosixPath(path).suffix.lower() in TABLES]
    tables = {path: _taken(read_table, root / path) for path in plotted}
    return Content(
        {path: found for path, found in metrics.items() if found is not None},
        {path: found for path, found in tables.items() if found is not None},
        files,
    )


def _expanded(paths: Sequence[str], root: Path) -> list[str]:
    found = [file for path in paths for file in _taken(files_below, root / path) or []]
    return [path.relative_to(root).as_posix() for path in found]


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


def _check(root: Path, path: Path) -> bool:
    check_regular(root / path, TABLE_BYTES)
    if not re.fullmatch(r"[\w./ +=@-]+", str(path)):
        raise Refused(
            f"{shown(root / path)} has a name that a server may not take; expected letters, digits and ._+=@-"
        )
    return True


def _taken[T](function: Callable[[Path], T], path: Path) -> T | None:
    try:
        return function(path)
    except Refused as error:
        print(f"not logged: {printable(error)}", flush=True)
        return None


def read_metrics(path: Path) -> dict[str, float]:
    """Return the numbers of a metrics file (JSON, TOML or YAML), nested ones by names with dots: `per_class.a.f1`.

    The number that is all of a file is there by the file's name. Raise Refused, a UserError, if it holds neither, or
    too much, or lies too deep.
    """
    return _metrics(path)[0]


def _told_metrics(path: Path) -> dict[str, float]:
    """Return the numbers of a metrics file; say what else DVC shows of it. Raise Refused as `read_metrics` does."""
    found, others = _metrics(path)
    if others:
        print(f"not logged: {_listed(others)} of {printable(shown(path))}; expected numbers", flush=True)
    return found


def _metrics(path: Path) -> tuple[dict[str, float], list[str]]:
    """Return the numbers of a metrics file, and what else `dvc metrics show` shows of it, which are texts and Booleans:
    each by its name, with what it is."""
    value = read_value(path)
    if is_number(value):
        return {printable(path.stem): as_float(value)}, []
    if not isinstance(value, Mapping):
        raise Refused(
            f"{shown(path)} holds {kind_of(value)}; expected a number, or an object with a number by each name: "
            "correct the stage that writes it"
        )
    found, others = {}, []
    for visited, (keys, inner) in enumerate(walk(value), 1):
        if is_number(inner):
            found[".".join(keys)] = as_float(inner)
        elif isinstance(inner, str | bool):
            others.append(f"{'.'.join(keys)[:60]} ({kind_of(inner)})")
        if len(keys) > DEPTH or visited > MOST_VALUES or len(found) > MOST_NUMBERS:
            raise Refused(
                f"{shown(path)} has more than {MOST_NUMBERS} numbers, {MOST_VALUES} values or {DEPTH} levels; expected "
                "no more: let its stage write less into it"
            )
    return found, others


def read_rows(path: Path) -> tuple[float, ...]:
    """Return the scores of a model's rows: the column `score` of a CSV file, NaN and infinity among them.

    Raise Refused, a UserError, if it has no such column, or one with anything but numbers.
    """
    table = read_table(path)
    if SCORE not in table.columns:
        columns = printable(", ".join(table.columns))[:200]
        raise Refused(f"{shown(path)} has the columns {columns}; expected one named {SCORE}")
    cells = table.column(SCORE)
    found = [number(cell) for cell in cells]
    if None in found:
        place = found.index(None)
        raise Refused(f"{shown(path)}, row {place + 1}, has the score {cells[place][:60]!r}; expected a number")
    return tuple(found)


# --- numbers


class Numbers(NamedTuple):
    """Metrics, each once, and the points of curves; of those that have another name in MLflow that name."""

    metrics: dict[str, float]
    steps: list[Point]
    renamed: dict[str, str]


def numbers(contents: Mapping[str, Content]) -> Numbers:
    """Return the metrics and curves of stages, by the names that they have in MLflow."""
    found = {stage: _by_name(content) for stage, content in contents.items()}
    names = in_front(found)
    clean = clean_names(names)
    each = [(clean[stage, name], value) for stage, of_stage in found.items() for name, value in of_stage.items()]
    metrics = {name: value for name, value in each if isinstance(value, float)}
    curves = [(name, curve) for name, curve in each if not isinstance(curve, float)]
    every = math.ceil(sum(len(curve) for _, curve in curves) / MOST_POINTS)
    steps = [(name, *point) for name, curve in curves for point in _thinned(curve, every)]
    return Numbers(metrics, steps, _renamed(names, clean))


type _Curve = list[tuple[int, float]]


def _by_name(content: Content) -> dict[str, float | _Curve]:
    """Return metrics and curves by name; of a name in two files the later one's gets its file or folder in front."""
    found: dict[str, float | _Curve] = {}
    tables = {path: dict(_curves(path, table)) for path, table in content.tables.items()}
    for path, values in [*content.metrics.items(), *tables.items()]:
        for name, value in values.items():
            found[next(free for free in _names(PurePosixPath(path), name) if free not in found)] = value
    return found


def _names(path: PurePosixPath, name: str) -> Iterator[str]:
    yield name
    yield from (f"{part}.{name}" for part in (path.stem, path.parent.name) if part != name)
    yield from (f"{path}.{name}.{number}" for number in itertools.count(2))


def _curves(path: str, table: Table) -> Iterator[tuple[str, _Curve]]:
    if STEP not in table.columns:
        return
    steps = [number(cell) for cell in table.column(STEP)]
    if not all(step is not None and step.is_integer() and 0 <= step <= LAST_STEP for step in steps):
        print(f"not logged as curves: {path} has a {STEP} that is no whole number from 0", flush=True)
        return
    for name in dict.fromkeys(table.columns):
        cells = [(int(step), cell) for step, cell in zip(steps, table.column(name), strict=True) if cell]
        curve = [(step, number(cell)) for step, cell in cells]
        if name != STEP and curve and all(value is not None for _, value in curve):
            yield printable(name)[:LONGEST_KEY], curve


def _thinned(curve: _Curve, every: int) -> _Curve:
    """Return one point in `every`, the last one among them."""
    return curve[::-1][:: max(every, 1)][::-1]


# --- files and pictures


def _artifacts(stages: Sequence[Stage], contents: Mapping[str, Content], root: Path) -> dict[str, str]:
    """Return the names below FOLDER, by path: the path below the stage's own folder."""
    paths = {
        stage.name: {
            PurePosixPath(path).relative_to(stage.folder).as_posix(): path for path in contents[stage.name].files
        }
        for stage in stages
    }
    names = in_front(paths, "/")
    return {path: names[stage, name] for stage, files in paths.items() for name, path in files.items()}


def _pictures(drawn: Iterable[tuple[str, bytes]], artifacts: Mapping[str, str]) -> dict[str, bytes]:
    """Return pictures by name: as the file that is drawn, or as dvc.yaml calls the plot, and no name twice."""
    taken, found = set(artifacts.values()), {}
    for plot, picture in drawn:
        name = PurePosixPath(artifacts.get(plot) or re.sub(r"[^\w. +=@-]", "_", plot).strip(".") or "plot")
        name = name.with_name(name.name.encode()[:MOST_BYTES_OF_A_NAME].decode(errors="ignore"))
        wanted = name.with_suffix(".png") if plot in artifacts else f"{name}.png"
        choices = (str(wanted), f"{name}.png", *(f"{name}-{number}.png" for number in range(2, 1000)))
        free = next((choice for choice in choices if choice not in taken), None)
        if free:
            taken.add(free)
            found[free] = picture
    return found
