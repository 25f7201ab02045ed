"""A run as Markdown, for who pastes it: into a pull request, or the summary of a job of CI."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.markdown import escaped
from scripts.report import facts
from scripts.report.page import change, counted, differs, number, seconds

MOST_ROWS = 50  # of a table: all of them stay below what GitHub takes

type Run = Mapping[str, Any]


def markdown(run: Run) -> str:
    """Return the text; its first line says what is most important."""
    parts = [
        _headline(run),
        f"{escaped(run['command'])}, {seconds(run['seconds'])}: {counted(run['stages']) or 'no stage'}",
    ]
    moved = [stage for stage in run["stages"] if stage["result"] not in (facts.UP_TO_DATE, "unchanged")]
    rows = [(stage["name"], stage["result"], stage["sentence"] or "; ".join(stage["why"])) for stage in moved]
    parts.append(table("Stages", ("stage", "what happened", "why"), rows))
    params = [
        (each["name"], each["last"], each["value"]) for each in run["params"] if differs(each["value"], each["last"])
    ]
    parts.append(table("Parameters that differ from the last run's", ("parameter", "last run", "now"), params))
    metrics = [
        (
            metric["name"],
            number(metric["value"]),
            number(metric["last"]),
            change(metric["value"], metric["last"]),
            number(metric["production"]),
            change(metric["value"], metric["production"]),
        )
        for metric in run["metrics"]
    ]
    columns = ("metric", "now", "last run", "change", "compared with", "change")
    parts.append(table("Metrics", columns, metrics))
    return "\n\n".join(filter(None, parts))


def _headline(run: Run) -> str:
    if run["outcome"] != facts.WELL:
        return f"**{run['outcome']}**" + (f": {escaped(run['error'])}" if run["error"] else "")
    if not run["models"]:
        return "**well**: no model was published"
    return "\n".join(
        f"**{escaped(model['model'])} version {escaped(model['version'])}: {escaped(model['stage'])}**: "
        f"{escaped(model['reason'])}"
        for model in run["models"][:MOST_ROWS]
    )


def table(title: str, columns: Sequence[str], rows: Sequence[Iterable[object]]) -> str:
    """Return a table below its title; nothing if it has no row."""
    if not rows:
        return ""
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows[:MOST_ROWS]]
    more = [f"\n{len(rows) - MOST_ROWS} more are in run\\.json\\."] if len(rows) > MOST_ROWS else []
    return "\n".join([*lines, *more])
