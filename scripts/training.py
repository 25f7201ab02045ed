"""Trains and publishes what is not up to date. It imports DVC, which takes longer than a run with nothing to do."""

import os
from collections.abc import Mapping, Sequence

from scripts import mlflow_server, places, settings
from scripts.pipeline import execution, images, rooms, template
from scripts.pipeline.at_rest import Look
from scripts.pipeline.console import tell
from scripts.pipeline.stage import Model, Pipeline
from scripts.project import PROJECT, UserError
from scripts.registry import publish, receipts
from scripts.registry.publisher import Publisher, sentence
from scripts.registry.receipts import Published, not_published


def train(targets: Sequence[str], look: Look) -> tuple[list[str], list[Published]]:
    """Bring `targets` (none: all stages) up to date, and publish their models; return the stages that ran, and the
    models. Note it if no stage had anything to do: the next run asks the registry itself. Raise UserError."""
    wanted = images.load()
    pipeline = template.load(images=wanted)
    if template.write(pipeline):
        print("dvc.yaml: rendered", flush=True)
    places.check_paths(pipeline.paths, os.environ)
    models = pipeline.models_of(targets)
    with rooms.hearing(PROJECT, pipeline, targets) as heard:
        ran, published = _train_and_publish(targets, pipeline, wanted, models, heard, look)
    if look.found_nothing_to_do:
        look.note([receipts.noted(publish.on_disk(PROJECT, pipeline, model)) for model in models])
    return ran, published


def _train_and_publish(
    targets: Sequence[str],
    pipeline: Pipeline,
    wanted: Mapping[str, images.Image],
    models: Sequence[Model],
    heard: rooms.Heard,
    look: Look,
) -> tuple[list[str], list[Published]]:
    """Run the stages, and publish each model as soon as it is scored."""
    local = settings.is_local(os.environ)
    comes_up, problem = _start_server() if local else (False, None)
    with Publisher(PROJECT, pipeline, [] if problem else models, wanted) as publisher:
        try:
            ran = execution.reproduce(
                PROJECT,
                pipeline,
                wanted,
                pipeline.with_scorers(targets),
                listener=heard.and_by(publisher),
                before_mlflow=mlflow_server.wait if comes_up else None,
                look=look,
            )
        except UserError:
            _publish_what_is_scored(publisher, heard)
            raise
        if comes_up and models and not publisher.has_begun:
            mlflow_server.wait()
        if problem and models:
            raise UserError("\nerror: ".join(str(not_published(model, str(problem))) for model in models))
        published = publisher.publish_all()
    heard.fact("published", models=[each._asdict() for each in published])
    if local and any(each.news for each in published):
        mlflow_server.back_up()
    return ran, published


def _start_server() -> tuple[bool, UserError | None]:
    """Start the local server; return whether to wait for it, and why it did not start: that keeps no stage waiting."""
    try:
        return mlflow_server.start(), None
    except UserError as error:
        tell(f"note: {error}")
        return False, error


def _publish_what_is_scored(publisher: Publisher, heard: rooms.Heard) -> None:
    """Publish the models that were scored before another stage failed; say what could not be."""
    if not publisher.has_begun:
        return
    try:
        published = publisher.finish(well=False)
        heard.fact("published", models=[each._asdict() for each in published])
        for each in published:
            tell(sentence(each))
    except UserError as error:
        tell(f"note: {error}")
