"""`make plots`: draws the plots of the outputs at hand into dvc_plots/index.html; BASE= a commit's beside them."""

from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.pipeline import template
from scripts.pipeline.console import tell
from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, Project, UserError
from scripts.registry import earlier, plots_page


def main(arguments: list[str], project: Project = PROJECT) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    pipeline = template.load(project.root)
    paths = [path for stage in pipeline.stages.values() for path in stage.plots.values()]
    if paths and not any((project.root / path).exists() for path in paths):
        raise UserError(f"there is nothing to draw; expected {' or '.join(paths)}: 'make run' first")
    with TemporaryDirectory() as folder:
        base = _base(given["base"], pipeline, Path(folder), project) if given.get("base") else None
        page = plots_page.draw(pipeline, project.root, project.root / "dvc_plots", base)
    if not page:
        raise UserError("there is nothing to draw; expected a stage with plots: add some to its block")
    print(page.as_uri())


def _base(name: str, pipeline: Pipeline, folder: Path, project: Project) -> plots_page.Base:
    """Put the files of a commit's plots that DVC's cache has into a folder; say which ones it has not."""
    commit = earlier.commit_of(name, project)
    lock = earlier.lock_at(commit, project)
    if missing := list(earlier.lay_out(plots_page.paths_of(pipeline), lock, folder, project)):
        hint = "'dvc fetch --all-commits', in 'make shell', brings what was pushed"
        tell(f"note: DVC's cache lacks {', '.join(missing)} of {name}: {hint}")
    return plots_page.Base(name if commit.startswith(name) else f"{name} ({commit[:8]})", folder)
