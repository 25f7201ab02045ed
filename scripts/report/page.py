"""The page of a run: one file with no script in it, and no address of another host."""

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.report import facts
from scripts.report.drawing import COLOURS, HEIGHT, WIDTH, Drawing

BOX, GAP = (168, 46), (56, 14)  # of the graph, in pixels: width and height, then what lies between two
MARGIN, ROUND = 4, 56
MOST_ROWS = 200  # of a table; run.json has the rest
LONGEST_NAME = 22  # characters in a box
type Run = Mapping[str, Any]


class Renew:
    """The one script of the page of a run that goes on: it loads the page again, unless somebody holds it still."""

    def __init__(self, seconds: float) -> None:
        self.script = (
            f"setInterval(() => document.getElementById('hold').checked || location.reload(), {seconds * 1000:g})"
        )
        digest = hashlib.sha256(self.script.encode()).digest()
        self.hash = f"sha256-{base64.b64encode(digest).decode()}"


def page(run: Run, drawings: Sequence[Drawing] = (), *, renew: float = 0, moved_to: str = "") -> str:
    """Return the HTML of a run, with its plots.

    If they are given, a browser loads it again each `renew` seconds, or at once what it has `moved_to`.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {
        "seconds": seconds,
        "bytes": size,
        "number": number,
        "change": change,
        "cut": cut,
        "parts": parts_of,
        "when": when,
        "short": short,
        "share": share,
    }
    shown = {"graph": Graph(run["stages"]), "timeline": list(timeline(run)), "ticks": list(ticks(run["seconds"]))}
    parts = [part for part in facts.PARTS if any(stage["parts"][part] for stage in run["stages"])]
    return templates.get_template("report.html.jinja").render(
        run=run,
        drawings=drawings,
        renew=Renew(renew) if renew else None,
        moved_to=moved_to,
        colours=COLOURS,
        size=(WIDTH, HEIGHT),
        parts=parts,
        most=MOST_ROWS,
        is_here=is_here,
        differs=differs,
        params_differ=any(differs(param["value"], param["last"]) for param in run["params"]),
        counted=counted(run["stages"]),
        **shown,
    )


# --- words


def seconds(value: float) -> str:
    if value < 0.0005:
        return "0 s"
    if value < 10:
        return f"{value:.2g} s" if value < 1 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(value: float) -> str:
    """Return a size as Docker's limits have it: 1.5g."""
    for unit in ("b", "k", "m", "g"):
        if value < 1024 or unit == "g":
            return f"{value:.3g}{unit}"
        value /= 1024
    raise AssertionError


def number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def short(value: float) -> str:
    return f"{value:.3g}"


def share(value: float, most: float) -> float:
    """Return how much of the most a value is, in hundredths."""
    return round(100 * abs(value) / most, 1) if math.isfinite(value) else 0


def change(now: Any, before: Any) -> str:
    """Return by how much a number grew; nothing if it did not, or if that cannot be said."""
    if not all(isinstance(value, int | float) for value in (now, before)) or now == before:
        return ""
    return f"{now - before:+.4g}"


def differs(now: Any, before: Any) -> bool:
    return before is not None and now != before


def cut(value: str, most: int) -> str:
    return value if len(value) <= most else f"{value[: most - 1]}…"


def parts_of(name: str) -> list[str]:
    """Return the parts of a name between which a narrow column may break it: behind dots, dashes and slashes, but not
    before a short rest, such as a file's ending."""
    return re.split(r"(?<=[._/:-])(?=\w{5})", name)


def when(text: str) -> str:
    """Return a time as people read it; any other text as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\+00:00", text)
    return f"{found[1]} {found[2]} UTC" if found else text


def counted(stages: Sequence[Run]) -> str:
    """Return how many stages ended how: `2 ran, 1 restored`."""
    results = [stage["result"] for stage in stages]
    return ", ".join(f"{results.count(result)} {result}" for result in dict.fromkeys(results))


def is_here(address: str | None) -> bool:
    """Return whether an address is one of this machine."""
    return address is not None and urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")


# --- the graph


class Box(NamedTuple):
    stage: Run
    x: int
    y: int


class Graph:
    """Stages in columns, each to the right of all that it needs."""

    def __init__(self, stages: Sequence[Run]) -> None:
        self._by_name = {stage["name"]: stage for stage in stages}
        columns: dict[str, int] = {}
        for stage in stages:  # each stands after all that it needs
            columns[stage["name"]] = 1 + max((columns.get(need, 0) for need in stage["needs"]), default=0)
        rows: dict[int, int] = {}
        self.boxes: list[Box] = []
        for stage in stages:
            column = columns[stage["name"]]
            row = rows[column] = rows.get(column, -1) + 1
            x, y = MARGIN + (column - 1) * (BOX[0] + GAP[0]), MARGIN + row * (BOX[1] + GAP[1])
            self.boxes.append(Box(stage, x, y))
        self.width = max([box.x for box in self.boxes], default=0) + BOX[0] + MARGIN
        self.height = max([box.y for box in self.boxes], default=0) + BOX[1] + MARGIN + ROUND // 2
        self.box_width, self.box_height, self.longest = *BOX, LONGEST_NAME

    @property
    def edges(self) -> Iterator[str]:
        """Yield a curve from each stage to each one that needs it, as an SVG path."""
        places = {box.stage["name"]: box for box in self.boxes}
        for box in self.boxes:
            for need in (places[name] for name in box.stage["needs"] if name in places):
                x, y = need.x + BOX[0], need.y + BOX[1] // 2
                to_x, to_y = box.x, box.y + BOX[1] // 2
                bend, way = GAP[0] // 2 + (to_x - x - GAP[0]) // 4, 0
                if to_x - x > BOX[0]:  # around the boxes between the two
                    bend, way = GAP[0], ROUND
                yield f"M{x} {y}C{x + bend} {y + way} {to_x - bend} {to_y + way} {to_x} {to_y}"


# --- the timeline


class Bar(NamedTuple):
    """A part of a stage's time: `x` and `width` are thousandths of the run's time."""

    part: str
    x: float
    width: float
    seconds: float


class Row(NamedTuple):
    stage: Run
    bars: Sequence[Bar]


def timeline(run: Run) -> Iterator[Row]:
    total = run["seconds"] or 1
    for stage in run["stages"]:
        if stage["spans"]:
            bars = []
            for span in stage["spans"]:
                took = span["to"] - span["from"]
                bars.append(Bar(span["part"], 1000 * span["from"] / total, max(1000 * took / total, 0.5), took))
            yield Row(stage, [bar._replace(x=round(bar.x, 2), width=round(bar.width, 2)) for bar in bars])


def ticks(total: float) -> Iterator[tuple[float, str]]:
    """Yield some round times within the run: where they are, in thousandths, and what they are."""
    if total <= 0:
        return
    rough = total / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    for count in range(1 + int(total / step)):
        at = count * step
        yield round(1000 * at / total, 2), f"{at:g} s" if total < 60 else seconds(at)
