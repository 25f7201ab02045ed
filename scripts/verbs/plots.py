"""`make plots`: draws the plots of the outputs at hand into dvc_plots/index.html."""

from scripts.pipeline import template
from scripts.project import PROJECT, UserError
from scripts.registry import plots_page


def main(arguments: list[str]) -> None:
    pipeline = template.load()
    paths = [path for stage in pipeline.stages.values() for path in stage.plots.values()]
    if paths and not any((PROJECT.root / path).exists() for path in paths):
        raise UserError(f"there is nothing to draw; expected {' or '.join(paths)}: 'make run' first")
    page = plots_page.draw(pipeline, PROJECT.root, PROJECT.root / "dvc_plots")
    if not page:
        raise UserError("there is nothing to draw; expected a stage with plots: add some to its block")
    print(page.as_uri())
