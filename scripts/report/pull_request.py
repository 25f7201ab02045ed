"""What a branch changes, as Markdown: for a pull request, or the summary of a job of CI."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.markdown import escaped
from scripts.report import facts
from scripts.report.markdown import MOST_ROWS, table
from scripts.report.page import change, number

type Change = Mapping[str, Any]


def markdown(found: Change, plots: Sequence[Change] = (), folder: str = "plots") -> str:
    """Return the text, whose first line says the most important; pictures are links into `folder`."""
    base = found["base"]["name"]
    parts = [_words(found["words"]), _what(found)]
    gate = [f"- {escaped(model['model'])}: {_long(said)}" for model in found["models"] for said in model["gate"]]
    parts.append("\n".join(["### The gate", "", *gate[:MOST_ROWS]]) if gate else "")
    stages = [(stage["name"], "; ".join(stage["why"])) for stage in found["stages"]]
    parts.append(table("Stages that change", ("stage", "what differs"), stages))
    params = [(each["name"], _or_none(each["base"]), _or_none(each["value"])) for each in found["params"]]
    parts.append(table("Parameters that change", ("parameter", escaped(base), "here"), params))
    metrics = [
        (
            each["name"],
            _with(each["base"], each["base_interval"]),
            _with(each["value"], each["interval"]),
            change(each["value"], each["base"]),
        )
        for each in found["metrics"]
    ]
    parts.append(table("Metrics", ("metric", escaped(base), "here", "change"), metrics))
    if any(each["interval"] or each["base_interval"] for each in found["metrics"]):
        parts.append("In brackets: the 95 % interval, from the scores of the rows.")
    if found["left_out"]:
        parts.append("\n".join(["### Left out", "", *(f"- {_long(each)}" for each in found["left_out"][:MOST_ROWS])]))
    parts.append(_pictures(plots, base, folder))  # last: where none can be shown, it is cut off
    return "\n\n".join(filter(None, parts))


def _words(words: Sequence[Change]) -> str:
    return "  \n".join(f"**{word['word']}**: {_long(word['why'])}" for word in words[:MOST_ROWS])


def _long(value: str) -> str:
    """Return a sentence as text, which may be longer than a cell."""
    return escaped(value, facts.LONGEST)


def _what(found: Change) -> str:
    base, lineage = found["base"], found["lineage"]
    if not base["commit"]:
        return ""
    here = f"{lineage['commit'][:12]}{' and what is not committed' if lineage['changed'] else ''}"
    line = f"{here} beside {escaped(base['name'])} ({base['commit'][:12]})"
    if base["behind"]:
        line += f", which has {base['behind']} commits that are not here: what they changed is in the tables too"
    return line


def _or_none(value: str | None) -> str:
    return "none" if value is None else value


def _with(value: Any, interval: Sequence[float] | None) -> str:
    return number(value) + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


def _pictures(plots: Sequence[Change], base: str, folder: str) -> str:
    if not plots:
        return ""
    lines = ["### Plots that change", "", f"| {escaped(base)} | here |", "| --- | --- |"]
    for plot in plots:
        cells = [
            f"![{escaped(plot['title'])}]({folder}/{plot[side]})" if plot[side] else "none" for side in ("base", "now")
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
