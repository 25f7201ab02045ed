"""`make metrics`: the numbers of the outputs at hand, a line each, beside those of the commit that is checked out."""

from scripts import tables
from scripts.pipeline import template
from scripts.pipeline.console import tell
from scripts.project import PROJECT, UserError
from scripts.registry import metrics


def main(arguments: list[str]) -> None:
    form = tables.form(dict(each.split("=", 1) for each in arguments))
    pipeline = template.load()
    paths = [path for stage in pipeline.stages.values() for path in stage.metrics.values()]
    if not any((PROJECT.root / path).exists() for path in paths):
        raise UserError(f"there are no metrics; expected {' or '.join(paths) or 'a stage with some'}: 'make run' first")
    found = list(metrics.metrics(pipeline, PROJECT))
    tell(tables.written(form, {"metrics": [metric._asdict() for metric in found]}, metrics.parts(found)))
