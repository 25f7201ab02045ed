"""The results as JSON, as tables and as a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

Results = Mapping[str, Any]
"""By comparison: date, commit, machine, quick, measured, ratios, bounds, notes (see README.md)."""


def read(path: Path) -> dict[str, Any]:
    """The results at `path`; none if there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, results: Results) -> None:
    """Writes results.json, and beside it results.png, each in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(results, indent=2) + "\n")
    part.replace(path)
    part = path.with_name(".results.part.png")
    draw(results, part)
    part.replace(path.with_suffix(".png"))


def value(number: float, unit: str) -> str:
    """A number with as many digits as one reads: 3.21, 214, 1,234,567."""
    return f"{number:,.2f}" if unit == "s" and number < 100 else f"{number:,.0f}"


def tables(results: Results) -> str:
    """What was measured, and how that stands to the bounds."""
    rows = [
        [name, m["name"], *(value(m[key], m["unit"]) for key in ("median", "min", "max")), m["unit"], len(m["values"])]
        for name, result in results.items()
        for m in result["measured"]
    ]
    ratios = [
        [name, what, f"{ratio:.2f}"] for name, result in results.items() for what, ratio in result["ratios"].items()
    ]
    bounds = [
        [name, bound["what"], f"{bound['value']:.2f}", f"{bound['sign']} {bound['limit']:g}", says(bound)]
        for name, result in results.items()
        for bound in result["bounds"]
    ]
    left, right = ("left", "left"), ("right", "right", "right")
    return "\n\n".join(
        table
        for table in (
            _table(rows, ["comparison", "measured", "median", "min", "max", "unit", "times"], (*left, *right, "left")),
            _table(ratios, ["comparison", "ratio of the medians", ""], left),
            _table(bounds, ["comparison", "bound", "found", "wanted", ""], left),
        )
        if table
    )


def _table(rows: list[list[Any]], headers: list[str], align: tuple[str, ...]) -> str:
    if not rows:
        return ""
    return tabulate(rows, headers, colalign=(*align, *["right"] * (len(headers) - len(align))), disable_numparse=True)


def says(bound: Mapping[str, Any]) -> str:
    return "met" if bound["met"] else "NOT MET"


def draw(results: Results, path: Path) -> None:
    """Draws the medians of all times, with their spread, a panel a comparison, into a PNG file."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    times = {name: [m for m in result["measured"] if m["unit"] == "s"] for name, result in results.items()}
    times = {name: measured for name, measured in times.items() if measured}
    wholes = {name: {m["name"]: m["median"] for m in measured} for name, measured in times.items()}
    bars = [(wholes[name], whole, parts) for name in times for whole, parts in results[name].get("parts", {}).items()]
    all_times = [m[key] for measured in times.values() for m in measured for key in ("min", "max") if m[key] > 0]
    heights = [len(measured) + 2 for measured in times.values()] + [7] * len(bars) or [1]
    figure, panels = pyplot.subplots(
        len(heights),
        figsize=(10, 0.2 * sum(heights) + 1),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, (name, measured) in zip(panels[:, 0], times.items(), strict=False):
        draw_panel(panel, name, measured)
        panel.set_xlim(min(all_times) * 0.8, max(all_times) * 1.25)
    for panel, (medians, whole, parts) in zip(panels[len(times) :, 0], bars, strict=False):
        draw_bar(panel, whole, {part: medians[part] for part in parts if part in medians})
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def draw_panel(panel: Any, name: str, measured: list[Mapping[str, Any]]) -> None:
    """The times of one comparison, the first at the top, on a logarithmic axis of seconds."""
    medians = [m["median"] for m in measured]
    spread = [[m["median"] - m["min"] for m in measured], [m["max"] - m["median"] for m in measured]]
    panel.errorbar(medians, range(len(measured)), xerr=spread, fmt="o", markersize=4, capsize=3)
    panel.set(title=name.replace("_", " "), xscale="log", ylim=(len(measured) - 0.5, -0.5))
    panel.set_yticks(range(len(measured)), [m["name"] for m in measured], fontsize=7)
    panel.xaxis.set_major_formatter("{x:g} s")
    panel.tick_params(axis="x", labelbottom=True, labelsize=7)
    panel.grid(alpha=0.3, axis="x")


def draw_bar(panel: Any, whole: str, parts: Mapping[str, float]) -> None:
    """The parts of a whole as one bar, in seconds, each named below with its own."""
    since = 0.0
    for name, seconds in parts.items():
        panel.barh(0, seconds, left=since, label=f"{name} {value(seconds, 's')} s")
        since += seconds
    panel.set(title=f"{whole}: its parts", yticks=[], ylim=(-0.5, 0.5), xlim=(0, since or 1))
    panel.xaxis.set_major_formatter("{x:g} s")
    panel.tick_params(axis="x", labelsize=7)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=4, fontsize=7, frameon=False)
