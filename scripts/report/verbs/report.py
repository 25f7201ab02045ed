"""`make report`: prints where the report of a run is; or what is known of it, as JSON or as Markdown."""

import json

from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, atomic_write
from scripts.report import history, live, markdown, page
from scripts.validation import is_asked


def main(arguments: list[str], project: Project = PROJECT) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    as_json, as_markdown = is_asked(given, "JSON", "JSON"), is_asked(given, "MD", "Markdown")
    if is_asked(given, "LIVE", "the page of the run that goes on"):
        folder = live.folder(project)
        tell((folder / live.PAGE).as_uri())
        tell(live.follow(folder, project))
        return
    run = history.named(project, given.get("run", ""))
    if as_json or as_markdown:
        tell(json.dumps(run, indent=1, allow_nan=False) if as_json else markdown.markdown(run))
        return
    place = history.folder(project) / run["id"] / history.PAGE
    if not (place.parent / history.RUN).exists():  # it goes on, or was killed
        atomic_write(place, page.page(run))
    tell(place.as_uri())
