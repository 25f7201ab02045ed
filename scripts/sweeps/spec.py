"""sweep.yaml: which parameters to try, how many times, how they are chosen, and what is best. SWEEPS.md explains it."""

import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from voluptuous import Invalid, Required, Schema

from scripts.pipeline import params, template
from scripts.pipeline.images import Image
from scripts.pipeline.stage import Pipeline
from scripts.project import Project, UserError
from scripts.registry.logged import leaves, read_metrics
from scripts.validation import number, true_or_false, validated

FILE = "sweep.yaml"
GRID, RANDOM, TPE = "grid", "random", "tpe"
SAMPLERS = (GRID, RANDOM, TPE)
MAXIMIZE, MINIMIZE = "maximize", "minimize"
MOST_TRIALS = 10_000
DEFAULT_BATCH = 4
Value = str | int | float | bool | None


class Choices(NamedTuple):
    """The values of a list."""

    values: tuple[Value, ...]


class Span(NamedTuple):
    """Numbers from `low` to `high`, both among them: whole ones if both are. `step` is the distance of two that may be
    chosen; with `log` each order of magnitude is as likely."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int)

    @property
    def values(self) -> tuple[Value, ...]:
        """All numbers, if there is a step between them."""
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(rounded(self.low + place * self.step) for place in range(count))


Space = Choices | Span


class Objective(NamedTuple):
    """The number that is to be as large, or as small, as it can be; `file` is where a stage writes it, if given."""

    metric: str
    goal: str
    file: str | None = None


@dataclass(frozen=True)
class Spec:
    """What sweep.yaml says. `parameters` are by their name in params.yaml, with dots: `fit.depth`."""

    parameters: Mapping[str, Space]
    sampler: str
    trials: int
    batch: int  # that are chosen before the results of any of them are known
    seed: int
    objective: Objective


class Target(NamedTuple):
    """The file that has the objective's number, the stage that writes it, and why that stage is no fair judge, if so.

    `test_data` are the files by which the pipeline's models are scored that the stage reads, or what comes of them.
    """

    file: str
    stage: str
    test_data: tuple[str, ...] = ()


def rounded(value: float) -> float:
    """Return a number to six digits, as a person would type it; a whole one as it is."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


# --- the file


def read(path: Path) -> Spec:
    """Return what the file says. Raise UserError if it is not there, or not a sweep."""
    if not path.is_file():
        raise UserError(f"there is no {path.name}; expected a description of the sweep, as SWEEPS.md shows: write it")
    return parse(params.text_of(path), path.name)


def parse(text: str, name: str = FILE) -> Spec:
    """Return what the text of a file `name` says. Raise UserError for the first thing that is wrong."""
    found = params.load(text, name)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"{name} holds no 'key: value' lines; expected those that SWEEPS.md shows: correct it")
    given = validated(_SCHEMA, found, "sweep", name)
    spaces = given["parameters"]
    if given["sampler"] == GRID:
        _check_grid(spaces, name)
        size = prod(len(space.values) for space in spaces.values())
        if "trials" not in given and size > MOST_TRIALS:
            raise UserError(f"the grid of {name} has {size} points; expected at most {MOST_TRIALS}: try fewer values")
        given["trials"] = min(given.get("trials", size), size)
    elif "trials" not in given:
        raise UserError(f"sweep.trials is missing; expected how many there are to be: correct it in {name}")
    objective = Objective(**given.pop("objective"))
    return Spec(**{"batch": DEFAULT_BATCH, "seed": 0, **given, "objective": objective})


def _check_grid(spaces: Mapping[str, Space], name: str) -> None:
    for parameter, space in spaces.items():
        if isinstance(space, Span) and space.step is None:
            raise UserError(
                f"sweep.parameters.{parameter} has no step, but a grid has a point for each value; expected "
                f"a list, or a step between low and high: correct it in {name}"
            )


def _parameters(value: Any) -> dict[str, Space]:
    if not isinstance(value, dict) or not value:
        raise Invalid("at least one parameter, as in 'fit.depth: [2, 4, 8]'")
    if wrong := next((key for key in value if not isinstance(key, str) or "." not in key), None):
        raise Invalid(f"names with their section, as 'fit.depth', and not {str(wrong)[:60]!r}")
    return {name: _space(space, name) for name, space in value.items()}


def _space(value: Any, name: str) -> Space:
    try:
        return _choices(value) if isinstance(value, list) else _span(value)
    except Invalid as error:
        error.prepend([name])
        raise


def _span(value: Any) -> Span:
    if not isinstance(value, dict) or not {"low", "high"} <= {*value} <= {"low", "high", "step", "log"}:
        raise Invalid("a list of values, or low and high, with step or log if you like")
    ends = [value[key] for key in ("low", "high", "step") if value.get(key) is not None]
    for each in ends:
        number(each)
    low, high, step, log = value["low"], value["high"], value.get("step"), true_or_false(value.get("log", False))
    if not low < high:
        raise Invalid("a low that is below high")
    if log and (step is not None or low <= 0):
        raise Invalid("with log a low above 0, and no step")
    if step is not None and not 0 < step <= high - low:
        raise Invalid("a step above 0 that is no larger than high - low")
    kind = int if all(isinstance(each, int) for each in ends) else float
    return Span(kind(low), kind(high), None if step is None else kind(step), log)


def _choices(values: list[Any]) -> Choices:
    if not values or not all(each is None or isinstance(each, str | int | float) for each in values):
        raise Invalid("plain values: numbers, texts, true, false or null")
    for each in values:
        if isinstance(each, float):
            number(each)
    if len({(type(each), each) for each in values}) < len(values):
        raise Invalid("each value once")
    return Choices(tuple(values))


def _whole(least: int, most: int) -> Any:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Invalid(f"a whole number from {least} to {most}")
        return value

    return check


def _one_of(*words: str) -> Any:
    def check(value: Any) -> str:
        if value not in words:
            raise Invalid(f"one of {', '.join(words)}")
        return value

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        raise Invalid("a name")
    return value


_SCHEMA = Schema(
    {
        Required("parameters"): _parameters,
        Required("sampler"): _one_of(*SAMPLERS),
        "trials": _whole(1, MOST_TRIALS),
        "batch": _whole(1, 1000),
        "seed": _whole(0, 2**32 - 1),
        Required("objective"): {
            Required("metric"): _text,
            Required("goal"): _one_of(MAXIMIZE, MINIMIZE),
            "file": _text,
        },
    }
)


# --- the file and the pipeline


def target_of(spec: Spec, pipeline: Pipeline, project: Project) -> Target:
    """Return where the objective is measured: in the file that is named; else in the one file here that has such a
    number; else in the one that is measured without test data. Raise UserError if that is no single one."""
    files = {path: stage.name for stage in pipeline.stages.values() for path in stage.metrics.values()}
    file, metric = spec.objective.file, spec.objective.metric
    if file is not None and file not in files:
        raise UserError(
            f"no stage measures {metric} in {file}; expected a metrics file of dvc.yaml.template, one of "
            f"{', '.join(files) or 'none'}: correct objective.file"
        )
    fair = [path for path, stage in files.items() if not test_data_of(stage, pipeline)]
    having = [path for path in files if metric in _numbers(project.root / path)]
    found = [file] if file else having if len(having) == 1 else fair
    if len(found) != 1:
        which = f"one of {', '.join(found)}: name it in objective.file" if found else (
            "a stage with a metrics file that reads no data by which a model is scored, as a cross-validated score: "
            f"SWEEPS.md shows one (to choose by the test data all the same, name {', '.join(files) or 'its file'} in "
            "objective.file)"
        )  # fmt: skip
        raise UserError(f"it is not clear which stage measures {metric}; expected {which}")
    return Target(found[0], files[found[0]], test_data_of(files[found[0]], pipeline))


def _numbers(path: Path) -> Mapping[str, float]:
    try:
        return read_metrics(path) if path.is_file() else {}
    except UserError:
        return {}


def test_data_of(name: str, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the files that a model is scored on which a stage reads, or a scorer's files from which it reads."""
    before = [pipeline.stages[each] for each in pipeline.leading_to(name)]
    scorers = {model.scorer for model in pipeline.models}
    models = {model.file for model in pipeline.models}
    data = {path for each in scorers for path in pipeline.stages[each].inputs.values()} - models
    own = pipeline.stages[name].inputs.values()
    of_scorers = (path for stage in before if stage.name in scorers for path in stage.inputs.values())
    return tuple(dict.fromkeys(path for path in (*own, *of_scorers) if path in data))


def check(
    spec: Spec, target: Target, pipeline: Pipeline, values: Mapping[str, Any], wanted: Mapping[str, Image], root: Path
) -> None:
    """Raise UserError if a parameter is none of the pipeline's, or cannot change what `target` measures.

    `values` is params.yaml.
    """
    known = {f"{name}.{key}": value for name, section in values.items() for key, value in leaves(section)}
    blocks = {pipeline.stages[name].block for name in pipeline.leading_to(target.stage)}
    arguments = [name for name in known if name.partition(".")[0] in blocks]
    for name in spec.parameters:
        if name not in known:
            near = difflib.get_close_matches(name, arguments, n=1)
            meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(arguments)}"
            raise UserError(f"sweep.parameters has {name}, which params.yaml does not have; {meant}")
        if name not in arguments:
            raise UserError(
                f"sweep.parameters has {name}, which changes nothing that {target.stage} measures; expected one of "
                f"{', '.join(arguments)}: take it out"
            )
        if isinstance(known[name], list | Mapping):
            raise UserError(f"{name} is {known[name]!r} in params.yaml; expected a single value there: take it out")
    text = params.text_of(root / template.TEMPLATE)
    for name, value in _ends(spec):
        there = template.render(text, with_values(values, {name: value}), wanted, root)
        if there.text != pipeline.text:
            raise UserError(
                f"{name} {value!r} makes another pipeline, since {template.TEMPLATE} reads it; expected a parameter "
                "that is an argument of a stage and no more: take it out"
            )


def _ends(spec: Spec) -> Iterator[tuple[str, Value]]:
    """Yield each parameter with each value of its list, or the ends of its range."""
    for name, space in spec.parameters.items():
        yield from itertools.product([name], space.values if isinstance(space, Choices) else (space.low, space.high))


def with_values(values: Mapping[str, Any], chosen: Mapping[str, Value]) -> dict[str, Any]:
    """Return params.yaml's sections with other values, by their names with dots."""
    found = {name: dict(section) for name, section in values.items()}
    for name, value in chosen.items():
        *above, last = name.split(".")
        section: dict[str, Any] = found
        for key in above:
            section[key] = dict(section[key])
            section = section[key]
        section[last] = value
    return found
