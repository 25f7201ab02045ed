"""Gives a model and its experiment other names, wherever these stand as such, and changes nothing that runs.

A place is changed only if the pipeline is the same then, but for the name: in a path or a parameter of a stage, the
same word means something else, and another one would run that stage again.
"""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ruamel.yaml

from scripts.pipeline import images, template
from scripts.pipeline.images import Image
from scripts.pipeline.params import parse
from scripts.pipeline.stage import Model, Pipeline
from scripts.pipeline.template import TEMPLATE, check_model_name, is_experiment
from scripts.project import UserError
from scripts.scaffold.changes import Changes
from scripts.scaffold.text import BYTES, lines_of
from scripts.yaml12 import load_yaml

PARAMS, README = "params.yaml", "README.md"
HAVE_THEIR_OWN = ("tests", "benchmarks", "dvc.yaml", "dvc.lock")
"""What is not looked through for the old name: the machinery's tests name a model of theirs, and two are generated."""
SHOWN = {"title", "x_label", "y_label"}
"""The words of a plot that mean nothing but what is read in it."""
MOST = 10  # places with the old name that are listed
Texts = dict[str, str]
Models = list[Model]


def rename(root: Path, new: str, experiment: str = "", old: str = "") -> list[str]:
    """Call the model `old` (by default the only one) `new`, and its experiment `experiment`; return what to tell.

    By default the experiment is called like the model, if it is of no other model. Raise UserError, and change nothing,
    for names that cannot be, or that are put together from others.
    """
    known = images.load(root / "stages")
    before = template.load(root, known)
    model = _chosen(before, old)
    experiment = experiment or (new if len(before.models) == 1 else model.experiment)
    _check(new, experiment, model, before)
    seen = {path: (root / path).read_bytes() for path in (PARAMS, TEMPLATE)}
    texts = {path: content.decode() for path, content in seen.items()}
    texts = _renamed(texts, model.name, new, known, root, lambda then, now: now in (then, _called(then, model, new)))
    texts = _renamed(
        texts, model.experiment, experiment, known, root,
        lambda then, now: now != then and _alike(now, then, model.experiment, experiment),
    )  # fmt: skip
    found = [each for each in _pipeline(texts, known, root).models if each.name == new]
    if not found or found[0].experiment != experiment:
        what = f"model's name {model.name}" if not found else f"experiment's name {model.experiment}"
        raise UserError(
            f"the {what} is put together in {TEMPLATE}, or means something else as well; expected it as a word in "
            f"{PARAMS} or {TEMPLATE}: edit them by hand; nothing was changed"
        )
    if (root / README).is_file():
        seen[README] = (root / README).read_bytes()
        texts[README] = _in_prose(seen[README].decode(errors=BYTES), model.name, new)
    changes = Changes(root)
    for path, text in texts.items():
        if (content := text.encode(errors=BYTES)) != seen[path]:
            changes.write(path, content, seen=seen[path])
    changes.apply(lambda: template.write(template.load(root), root))
    return list(
        _told(model, found[0], {path: seen[path].decode(errors=BYTES) for path in changes.written}, texts, root)
    )


def _chosen(pipeline: Pipeline, name: str) -> Model:
    models = {model.name: model for model in pipeline.models}
    if not models:
        raise UserError(f"{TEMPLATE} has no model; expected a line {{{{ model(...) }}}}: there is nothing to rename")
    if not name and len(models) > 1:
        raise UserError(f"FROM is empty; expected one of {', '.join(models)}, as in 'FROM={next(iter(models))}'")
    if name and name not in models:
        raise UserError(f"FROM is {name[:100]!r}, which is no model of {TEMPLATE}; expected one of {', '.join(models)}")
    return models[name] if name else next(iter(models.values()))


def _check(new: str, experiment: str, model: Model, pipeline: Pipeline) -> None:
    if not new:
        raise UserError(
            "MODEL is empty; expected the new name of the model, as in 'make rename MODEL=tumor-classifier'"
        )
    try:
        check_model_name(new)
    except UserError as error:
        raise UserError(f"MODEL is {new[:100]!r}: {error}") from None
    if new != model.name and new in {each.name for each in pipeline.models}:
        raise UserError(f"MODEL is {new}, as another model is called; expected a name of its own: choose another one")
    if (new, experiment) == (model.name, model.experiment):
        raise UserError(f"the model is called {new} already, and its experiment {experiment}; expected another name")
    if not is_experiment(experiment) or '"' in experiment or "\\" in experiment:
        raise UserError(
            f"EXPERIMENT is {experiment[:100]!r}; expected a name of at most 250 characters, without quotation marks, "
            "backslashes and spaces at its ends: correct it"
        )
    for variable, name in (("MODEL", new), ("EXPERIMENT", experiment)):
        if not _is_plain(name):
            raise UserError(
                f"{variable} is {name[:100]!r}, which YAML does not read as this text; expected a name that needs no "
                "quotation marks: choose another one"
            )


def _is_plain(name: str) -> bool:
    try:
        return ruamel.yaml.YAML(typ="safe").load(f"name: {name} # a name\n") == {"name": name}
    except (ruamel.yaml.error.YAMLError, ValueError):
        return False


# --- params.yaml and the template


def _renamed(
    texts: Texts, old: str, new: str, known: Mapping[str, Image], root: Path, right: Callable[[Models, Models], bool]
) -> Texts:
    """Return the texts with `new` for `old` wherever the models before and after it are `right`, and all else the same.

    Each place is judged by itself, from the last to the first, so that those before it stay where they are.
    """
    if old == new:
        return texts
    for path in texts:
        for place in reversed(list(_word(old).finditer(texts[path]))):
            text = texts[path]
            edited = {**texts, path: text[: place.start()] + new + text[place.end() :]}
            then = _pipeline(texts, known, root)
            try:
                now = _pipeline(edited, known, root)
            except UserError:
                continue
            if _without_names(now) == _without_names(then) and right(list(then.models), list(now.models)):
                texts = edited
    return texts


def _pipeline(texts: Texts, known: Mapping[str, Image], root: Path) -> Pipeline:
    return template.render(texts[TEMPLATE], parse(texts[PARAMS]), known, root)


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")


def _without_names(pipeline: Pipeline) -> Any:
    """Return all that a pipeline is but for its models, and the titles of plots."""

    def untitled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: untitled(each) for key, each in value.items() if key not in SHOWN}
        return [untitled(each) for each in value] if isinstance(value, list) else value

    read = {key: untitled(value) for key, value in load_yaml(pipeline.text).items() if key != "artifacts"}
    return list(pipeline.stages.items()), read


def _called(models: Models, model: Model, new: str) -> Models:
    return [replace(each, name=new) if each.name == model.name else each for each in models]


def _alike(now: Models, then: Models, old: str, new: str) -> bool:
    """Return whether models differ in nothing but that `new` is the experiment of some that had `old`."""
    names = {old: new}
    return len(now) == len(then) and all(
        each in (other, replace(other, experiment=names.get(other.experiment, other.experiment)))
        for each, other in zip(now, then, strict=True)
    )


# --- the rest


def _in_prose(text: str, old: str, new: str) -> str:
    """Return a text with the model's new name: as a word, and in MLflow's addresses, but in no other path."""
    name = re.escape(old)
    return re.sub(rf"(?:(?<=#/models/)|(?<=models:/)){name}(?![\w-])|(?<![\w/.-]){name}(?![\w/-]|\.\w)", new, text)


def _told(old: Model, new: Model, before: Texts, texts: Texts, root: Path) -> Iterator[str]:
    if old.name != new.name:
        yield f"model       {old.name} -> {new.name}"
    if old.experiment != new.experiment:
        yield f"experiment  {old.experiment} -> {new.experiment}"
    for path in before:
        pairs = zip(lines_of(before[path]), lines_of(texts[path]), strict=True)
        lines = [str(number) for number, (was, now) in enumerate(pairs, 1) if was != now]
        yield f"{path}: line{'s' if len(lines) > 1 else ''} {', '.join(lines)}"
    yield "dvc.yaml: rendered"
    if old.name == new.name:
        yield f"the runs so far stay in the experiment {old.experiment}; those of new versions go to {new.experiment}"
        return
    if left := list(_left(old.name, root)):
        yield f"still {old.name}, since it is no name there, or is code: edit it if you want; a stage may run again"
        yield from (f"  {place}" for place in left[:MOST])
        if len(left) > MOST:
            yield f"  and {len(left) - MOST} more"
    yield f"versions registered as {old.name} stay so, and keep their runs; new ones are not compared with them"
    yield f"the next 'make run' publishes the model as {new.name}, and runs no stage for it"


def _left(name: str, root: Path) -> Iterator[str]:
    """Yield where the old name still stands in what git tracks, as `file, line n`."""
    command = ["git", "-C", str(root), "grep", "--no-color", "-n", "-I", "-z", "-F", "-e", name, "--", "."]
    found = subprocess.run([*command, *(f":!{path}" for path in HAVE_THEIR_OWN)], capture_output=True)
    for line in found.stdout.decode(errors="replace").split("\n"):
        match = re.match(r"([^\0]*)\0(\d+)[:\0](.*)", line)
        if match and _word(name).search(match[3]):
            yield f"{match[1]}, line {match[2]}"
