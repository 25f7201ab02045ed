"""`make plots`: draws the plots of the outputs at hand into dvc_plots/index.html."""

from scripts.pipeline import dvc_adapter
from scripts.project import PROJECT, UserError


def main(arguments: list[str]) -> None:
    with dvc_adapter.repository(PROJECT.root) as repo, dvc_adapter.errors():
        page = dvc_adapter.draw_plots(repo, PROJECT.root / "dvc_plots")
    if not page:
        raise UserError("there is nothing to draw; expected the outputs of a run: 'make run' first")
    print(page.as_uri())
