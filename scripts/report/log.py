"""How `make log` says what runs were: lines of at most 80 columns."""

from collections.abc import Mapping
from typing import Any

from scripts.report.page import change, counted, number, seconds
from scripts.tables import WIDTH, Table, text, wrapped

INDENT = 4  # spaces before a line, two more before what goes on below
type Run = Mapping[str, Any]


def entry(run: Run) -> str:
    """Return the lines of a run, in the manner of `git log`."""
    lines = [f"run {run['id']}  ({run['outcome']}, {seconds(run['seconds'])})"]
    commit = run["lineage"].get("commit")
    if commit:
        lines.append(f"Commit: {commit[:12]}{' and changes' if run['lineage'].get('changed') else ''}")
    lines.append("")
    lines += _wrapped(f"{run['command']}: {counted(run['stages']) or 'no stage was looked at'}")
    if run["error"]:
        lines += _wrapped(run["error"])
    for stage in run["stages"]:
        for why in stage["why"] if stage["result"] == "ran" else []:
            lines += _wrapped(f"{stage['name']}: {why}")
    for model in run["models"]:
        score = "" if model["score"] is None else f", {model['metric']} {number(model['score'])}"
        lines += _wrapped(f"{model['model']} version {model['version']}: {model['stage']}{score}: {model['reason']}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    first, *others = wrapped(text, WIDTH - INDENT - 2)
    return [f"{'':{INDENT}}{first}", *(f"{'':{INDENT + 2}}{line}" for line in others)]


def _facts(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"outcome": run["outcome"], "seconds": run["seconds"]}
    found |= {"commit": run["lineage"].get("commit", "unknown")[:12]}
    found |= {f"stage {stage['name']}": stage["result"] for stage in run["stages"]}
    found |= {f"image {stage['name']}": stage["image"] for stage in run["stages"]}
    found |= {f"param {param['name']}": param["value"] for param in run["params"]}
    found |= {f"metric {metric['name']}": metric["value"] for metric in run["metrics"]}
    found |= {f"model {model['model']}": f"{model['version']}, {model['stage']}" for model in run["models"]}
    return found


def differences(a: Run, b: Run) -> dict[str, Any]:
    """Return what differs between two runs, by name."""
    ours, theirs = _facts(a), _facts(b)
    names = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    return {"a": a["id"], "b": b["id"], "differs": {name: [ours.get(name), theirs.get(name)] for name in names}}


def side_by_side(a: Run, b: Run) -> str:
    """Return a row for each thing that differs between two runs."""
    differs = differences(a, b)["differs"]
    if not differs:
        return f"{a['id']} and {b['id']} do not differ"
    rows = [(name, _shown(old), _shown(new), change(new, old)) for name, (old, new) in differs.items()]
    return text(Table(("", a["id"], b["id"], "change"), rows, right={1, 2, 3}))


def _shown(value: float | str | None) -> str:
    return value if isinstance(value, str) else number(value)
