"""`make plots`: draws the plots of the outputs at hand into dvc_plots/index.html."""

from scripts.pipeline import dvc_adapter, template
from scripts.project import PROJECT, UserError


def main(arguments: list[str]) -> None:
    paths = [path for stage in template.load().stages.values() for path in stage.plots.values()]
    if paths and not any((PROJECT.root / path).exists() for path in paths):
        raise UserError(f"there is nothing to draw; expected {' or '.join(paths)}: 'make run' first")
    with dvc_adapter.repository(PROJECT.root) as repo, dvc_adapter.errors():
        page = dvc_adapter.draw_plots(repo, PROJECT.root / "dvc_plots")
    if not page:
        raise UserError("there is nothing to draw; expected a stage with plots: add some to its block")
    print(page.as_uri())
