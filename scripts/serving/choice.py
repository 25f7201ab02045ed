"""Which model and which version a command is about."""

from collections.abc import Mapping
from typing import NamedTuple

from scripts.pipeline import build, images, template
from scripts.pipeline.images import BASE, Image
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import Project, UserError
from scripts.registry import reader, records
from scripts.registry.records import State, Version

PRODUCTION = "production"
PROGRAM = "predict.py"


class Choice(NamedTuple):
    """A model of the pipeline, its scorer, and all images of the code as it is."""

    pipeline: Pipeline
    model: Model
    scorer: Stage
    wanted: Mapping[str, Image]


def choose(given: Mapping[str, str], project: Project) -> Choice:
    """Return the model that is named, or the pipeline's only one. Raise UserError if none can predict."""
    wanted = images.load(project.stages)
    pipeline = template.load(project.root, wanted)
    known = {model.name: model for model in pipeline.models}
    name, *others = reader.names(given)
    if others:
        raise UserError(f"MODEL is empty; expected one of {', '.join(known)}, as in 'MODEL={name}'")
    if name not in known:
        raise UserError(f"{name} is no model of the pipeline; expected one of {', '.join(known)}: correct MODEL")
    scorer = pipeline.stages[known[name].scorer]
    if PROGRAM not in wanted[scorer.block].sources:
        raise UserError(
            f"stages/{scorer.block} has no {PROGRAM}, by which others predict with {name}; expected its functions load "
            "and predict: see Models in stages/README.md"
        )
    return Choice(pipeline, known[name], scorer, wanted)


def ensure_scorer(choice: Choice) -> Image:
    """Return the scorer's image, built if it is not here. Raise UserError if it has no Python."""
    image = choice.wanted[choice.scorer.block]
    build.ensure({name: choice.wanted[name] for name in (BASE, image.name)})
    if not build.has_python(image):
        raise UserError(f"the image of stages/{image.name} has no Python, by which {PROGRAM} could run; expected one")
    return image


def version_of(state: State | None, model: str, which: str) -> Version:
    """Return the version that a number or an alias names; production by the records. Raise UserError if none is."""
    if state is None or not state.versions:
        raise UserError(f"there is no version of {model} in the registry; expected one: 'make run' registers it")
    if (which or PRODUCTION) == PRODUCTION:
        number = records.champion(state)
        if number is None or state.version(number) is None:
            raise UserError(
                f"no version of {model} is in production; expected one: 'make promote VERSION=...' puts one there, or "
                "name one by VERSION="
            )
        return state.version(number)
    return reader.pick(state, which)
