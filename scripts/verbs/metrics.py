"""`make metrics`: the numbers of the outputs at hand, as `dvc metrics show` prints them."""

import os

from scripts.pipeline import template
from scripts.project import PROJECT, UserError


def main(arguments: list[str]) -> None:
    paths = [path for stage in template.load().stages.values() for path in stage.metrics.values()]
    if not any((PROJECT.root / path).exists() for path in paths):
        raise UserError(f"there are no metrics; expected {' or '.join(paths) or 'a stage with some'}: 'make run' first")
    os.execvp("dvc", ["dvc", "metrics", "show", *arguments])
