"""`make log`: the runs of this clone, the last one first; with A= and B=, two of them side by side."""

import json

from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, UserError
from scripts.report import history, log
from scripts.validation import is_asked


def main(arguments: list[str], project: Project = PROJECT) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    as_json = is_asked(given, "JSON", "JSON")
    if given.get("b") and not given.get("a"):
        raise UserError("B is given without A; expected two runs, as in 'make log A=2026-11-26 B=2026-11-27'")
    if given.get("a"):
        both = [history.named(project, given.get(name, "")) for name in ("a", "b")]
        tell(json.dumps(log.differences(*both), indent=1) if as_json else log.side_by_side(*both))
        return
    found = history.runs(project)[::-1]
    if not found and not as_json:
        raise UserError("there is no run here yet; expected one that did something: 'make run' first")
    tell(json.dumps({"runs": found}, indent=1, allow_nan=False) if as_json else "\n\n".join(map(log.entry, found)))
