"""`make publish`: publishes the models as they are on disk; runs no stage."""

import os

from scripts import mlflow_server, settings
from scripts.pipeline import dvc_adapter, images, template
from scripts.pipeline.console import tell
from scripts.project import PROJECT, UserError
from scripts.registry import summary
from scripts.registry.publisher import Publisher


def check_up_to_date(scorers: list[str]) -> None:
    """Raise UserError if a model's stages have changed since they ran: its file is not what the pipeline describes."""
    with dvc_adapter.errors(), dvc_adapter.repository(PROJECT.root) as repo:
        changed = dvc_adapter.changed(repo, dvc_adapter.plan(repo, scorers))
    if changed.stages:
        raise UserError(
            f"{', '.join(changed.stages)} changed since the last run; expected models that are up to date: 'make run'"
        )


def main(arguments: list[str]) -> None:
    wanted = images.load()
    pipeline = template.load(images=wanted)
    template.write(pipeline)
    if not pipeline.models:
        raise UserError(f"there is no model to publish; expected a line {{{{ model(...) }}}} in {template.TEMPLATE}")
    check_up_to_date([model.scorer for model in pipeline.models])
    local = settings.is_local(os.environ)
    if local and mlflow_server.start():
        mlflow_server.wait()
    with Publisher(PROJECT, pipeline, pipeline.models, wanted) as publisher:
        published = publisher.publish_all()
    if local and any(each.news for each in published):
        mlflow_server.back_up()
    tell("\n".join(summary.lines(published)))
