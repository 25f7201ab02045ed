"""`make report BASE=origin/main`: what this branch changes, as Markdown with pictures; nothing is registered."""

import json
import shutil

from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, UserError, atomic_write
from scripts.recovery import run_lock
from scripts.report import branch, pictures, pull_request
from scripts.validation import is_asked

FOLDER, TEXT, JSON, PLOTS = "branch", "report.md", "report.json", "plots"


def main(arguments: list[str], project: Project = PROJECT) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    as_json, as_markdown = is_asked(given, "JSON", "JSON"), is_asked(given, "MD", "Markdown")
    for word in ("run", "live"):
        if given.get(word):
            raise UserError(f"{word.upper()} is given beside BASE; expected one of them: leave the other out")
    folder = project.local / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / PLOTS).mkdir(parents=True)
    with (
        run_lock.watched(project) as ended_well,
        branch.against(project, given["base"], ended_well=ended_well) as (found, pipeline, base),
    ):
        drawn = pictures.draw(pipeline, project.root, base.root, folder / PLOTS) if base and found["models"] else []
    text, data = (
        pull_request.markdown(found, drawn, PLOTS),
        json.dumps(found | {"plots": drawn}, indent=1, allow_nan=False),
    )
    atomic_write(folder / TEXT, f"{text}\n")
    atomic_write(folder / JSON, f"{data}\n")
    tell(data if as_json else text if as_markdown else str(folder / TEXT))
