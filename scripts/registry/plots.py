"""Draws the plots that dvc.yaml defines as PNG, for MLflow's pages, which show no DVC plots.

It knows DVC's simple forms: a path alone, `x` and `y` as columns or as {file: columns}, and the templates of DRAWINGS.
Anything else is left out, and said in a line: no picture is worth a publication.
"""

import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from scripts.pipeline.console import printable
from scripts.registry.stage_files import Table, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (6, 4.5), 120  # inches; a picture of 720 x 540
MOST_POINTS = 10_000  # of a curve
MOST_GROUPS = 20  # curves of one column
MOST_CLASSES, CLASSES_WITH_NUMBERS = 100, 20
MOST_BARS = 50
STD = "_std"
MOST_TICKS = 12  # texts below a picture
LONGEST_TEXT, LONGEST_GROUP = 60, 30
IDENTITY = "scatter_identity"
SCATTERED = ("scatter", IDENTITY)
LARGEST = 1e100  # what lies beyond is no point: axes would overflow


UNDRAWN = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, AttributeError)
"""What only matplotlib knows; no picture is worth a publication."""


class CannotDraw(Exception):
    """Why a plot is left out, in a few words."""


class Series(NamedTuple):
    """Two columns of a table; no `x`: the rows are counted, no `y`: the last column."""

    path: str
    table: Table
    x: Sequence[str] | None
    x_name: str
    y_name: str

    @property
    def y(self) -> list[str]:
        return self.table.column(self.y_name)


@dataclass(frozen=True)
class Plot:
    """An entry of dvc.yaml's `plots`: what it is called there, and how it looks."""

    name: str
    look: Mapping[str, Any]

    @property
    def template(self) -> str:
        return str(self.look.get("template") or "linear")


def draw(
    entries: Iterable[Any], tables: Mapping[str, Table], form: str = "png", *, drawn: dict[str, bytes] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield name and picture of each entry of dvc.yaml's `plots` that shows one of `tables`, which are by path.

    `form` is png or svg. `drawn` keeps the pictures that were drawn, by what they show: none is drawn twice.
    """
    for plot in _plots(entries, tables):
        try:
            if series := _series(plot, tables):
                yield plot.name, _picture(plot, series, form) if drawn is None else _once(drawn, plot, series, form)
        except CannotDraw as error:
            print(f"not drawn: {printable(plot.name)} {printable(error)}", flush=True)
        except UNDRAWN as error:
            why = f"{type(error).__name__}: {printable(error)[:200]}"
            print(f"not drawn: {printable(plot.name)} ({why})", flush=True)


class Bar(NamedTuple):
    """A bar's name, its length, and how far it may be off on each side, if that is known."""

    name: str
    length: float
    error: float | None = None


class Chart(NamedTuple):
    """What a plot shows, for who draws it without matplotlib: curves, or else bars or the rows of a matrix, by name."""

    name: str
    title: str
    x: str
    y: str
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]] = ()  # label, x and y
    points: bool = False  # whether the curves are points, without lines
    identity: bool = False  # whether a line shows where x and y are equal
    bars: Sequence[Bar] = ()
    matrix: Sequence[tuple[str, Sequence[float]]] = ()


def charts(entries: Iterable[Any], tables: Mapping[str, Table]) -> Iterator[Chart]:
    """Yield what each entry of dvc.yaml's `plots` shows of `tables`, but what `draw` says that it cannot draw."""
    for plot in _plots(entries, tables):
        with suppress(CannotDraw):
            if series := _series(plot, tables):
                yield _chart(plot, series)


def _chart(plot: Plot, series: Sequence[Series]) -> Chart:
    names = {one.y_name for one in series}
    y = names.pop() if len(names) == 1 else ""
    title = printable(plot.look.get("title") or plot.name)
    chart = Chart(
        plot.name, title, str(plot.look.get("x_label") or series[0].x_name), str(plot.look.get("y_label") or y)
    )
    if plot.template in ("bar_horizontal", "bar_horizontal_sorted"):
        bars = _lengths(series[0])
        return chart._replace(bars=(bars if plot.template == "bar_horizontal" else _sorted_bars(bars))[:MOST_BARS])
    if plot.template in ("confusion", "confusion_normalized"):
        classes, matrix = _matrix(series[0], normalized=plot.template == "confusion_normalized")
        return chart._replace(matrix=list(zip(classes, matrix, strict=True)))
    if plot.template not in DRAWINGS:
        raise CannotDraw(f"has the template {plot.template}")
    columns = [one.x or [str(row) for row in range(len(one.table.rows))] for one in series]
    curves = _curves_at(series, [_numbers(column, "x") for column in columns])
    return chart._replace(
        curves=[(label or "", xs, ys) for label, xs, ys in curves],
        points=plot.template in SCATTERED,
        identity=plot.template == IDENTITY,
    )


def warm_up() -> None:
    """Draw a picture for nobody: matplotlib's first one (fonts, layout) takes as long as three more."""
    table = Table(["x", "y"], [["0", "0"], ["1", "1"]])
    list(draw(["warm-up"], {"warm-up": table}))


# --- what dvc.yaml says


def _plots(entries: Iterable[Any], tables: Mapping[str, Table]) -> Iterator[Plot]:
    for entry in entries:
        named = entry if isinstance(entry, Mapping) else {str(entry): None}
        for name, look in named.items():
            look = look if isinstance(look, Mapping) else {}
            inside = [path for path in tables if PurePosixPath(path).is_relative_to(str(name)) and path != name]
            for path in inside or [str(name)]:  # a folder stands for each table in it
                yield Plot(path, look)


def _series(plot: Plot, tables: Mapping[str, Table]) -> list[Series]:
    """Return the columns that a plot shows of `tables`; none if it is about other files."""
    y = plot.look.get("y")
    columns = y if isinstance(y, Mapping) else {plot.name: y}
    wanted = [(str(path), name) for path, names in columns.items() for name in _listed(names)]
    return [_one(plot, path, name, tables) for path, name in wanted if path in tables]


def _listed(names: Any) -> list[str | None]:
    return [str(name) for name in names] if isinstance(names, list) else [None if names is None else str(names)]


def _one(plot: Plot, path: str, y: str | None, tables: Mapping[str, Table]) -> Series:
    x, table = plot.look.get("x"), tables[path]
    of_x = path
    if isinstance(x, Mapping):
        of_x = path if path in x else str(next(iter(x), path))
        x = x.get(of_x)
    if not table.columns:
        raise CannotDraw(f"shows {path}, which has no column; expected one")
    y = table.columns[-1] if y is None else y
    _check_column(path, table, y)
    if x is None:
        return Series(path, table, None, "step", y)
    if not isinstance(x, str) or of_x not in tables:
        raise CannotDraw("has an x that is no column of a stage's file; expected one")
    _check_column(of_x, tables[of_x], x)
    if len(tables[of_x].rows) != len(table.rows):
        raise CannotDraw(f"has x in {of_x} and y in {path}, of another length; expected as many rows")
    return Series(path, table, tables[of_x].column(x), x, y)


def _check_column(path: str, table: Table, name: str) -> None:
    if name not in table.columns:
        raise CannotDraw(f"needs the column {name} of {path}; expected one of {', '.join(table.columns)[:200]}")


# --- pictures


def _once(drawn: dict[str, bytes], plot: Plot, series: Sequence[Series], form: str) -> bytes:
    """Return the picture that was drawn of the same before, or draw it."""
    shown = sha256(repr((plot, series, form)).encode()).hexdigest()
    if shown not in drawn:
        drawn[shown] = _picture(plot, series, form)
    return drawn[shown]


def _picture(plot: Plot, series: Sequence[Series], form: str) -> bytes:
    if plot.template not in DRAWINGS:
        raise CannotDraw(f"has the template {plot.template}; expected one of {', '.join(DRAWINGS)}")
    import warnings

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    DRAWINGS[plot.template](axes, series, plot)
    axes.set_title(_text(plot.look.get("title") or plot.name), wrap=True)
    for axis, label in (("x", plot.look.get("x_label")), ("y", plot.look.get("y_label"))):
        if label:
            axes.set(**{f"{axis}label": _text(label)})
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks
        # Twice the same plot is twice the same picture: names in it are no random ones, and it bears no date.
        with rc_context({"svg.hashsalt": "plots"}):
            figure.savefig(file, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def _text(text: Any) -> str:
    """Return a text as matplotlib draws it letter by letter: $ would begin a formula."""
    return _cut(printable(text), LONGEST_TEXT).replace("$", r"\$")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def _numbers(cells: Sequence[str], name: str) -> list[float]:
    found = numbers(cells)
    if found is None:
        raise CannotDraw(f"needs numbers in the column {name}")
    return [value if abs(value) < LARGEST else math.nan for value in found]


# --- curves and points


def _lines(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    for label, xs, ys in _curves(axes, series):
        axes.plot(xs, ys, label=label, alpha=0.8, marker="o" if len(xs) == 1 else None)
    _describe(axes, series)


def _smooth(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    for label, xs, ys in _curves(axes, series):
        (line,) = axes.plot(xs, _mean_around(ys), label=label)
        axes.plot(xs, ys, color=line.get_color(), alpha=0.25)
    _describe(axes, series)


def _scatter(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    for label, xs, ys in _curves(axes, series):
        axes.scatter(xs, ys, label=label, alpha=0.6, s=16)
    _describe(axes, series)


def _scatter_identity(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    """Draw points, and the line on which x and y are equal, over all that either of them reaches."""
    _scatter(axes, series, plot)
    limits = [*axes.get_xlim(), *axes.get_ylim()]
    ends = min(limits), max(limits)
    axes.plot(ends, ends, linestyle="--", linewidth=1, color="#767676", zorder=0)
    axes.set(xlim=ends, ylim=ends)


def _mean_around(values: Sequence[float]) -> list[float]:
    """Return for each value the mean of the tenth of all values that lies around it, and less at the ends."""
    reach = max(1, len(values) // 20)
    found = []
    for place in range(len(values)):
        near = min(reach, place, len(values) - 1 - place)
        around = [value for value in values[place - near : place + near + 1] if not math.isnan(value)]
        found.append(sum(around) / len(around) if around else math.nan)
    return found


def _curves(axes: "Axes", series: Sequence[Series]) -> Iterator[tuple[str | None, list[float], list[float]]]:
    for label, xs, ys in _curves_at(series, _places(axes, series)):
        yield _text(label) or None, xs, ys


def _curves_at(
    series: Sequence[Series], places: Sequence[Sequence[float]]
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield label, x and y of each curve: a series, or of a single one each group of its rows."""
    for one, xs in zip(series, places, strict=True):
        ys = _numbers(one.y, one.y_name)
        groups = _groups(one) or [""] * len(ys)
        for group in dict.fromkeys(groups):
            rows = [row for row, of_row in enumerate(groups) if of_row == group]
            rows = rows[:: max(1, len(rows) // MOST_POINTS)]
            label = " ".join(
                filter(None, [_label(one, series), _cut(group, LONGEST_GROUP), _constants(one, group, rows)])
            )
            yield label, [xs[row] for row in rows], [ys[row] for row in rows]


def _places(axes: "Axes", series: Sequence[Series]) -> list[list[float]]:
    """Return the x of each series: numbers, or places in a row where they are texts."""
    columns = [one.x or [str(row) for row in range(len(one.table.rows))] for one in series]
    if all(numbers(column) is not None for column in columns):
        return [_numbers(column, "x") for column in columns]
    texts = {text: place for place, text in enumerate(dict.fromkeys(cell for column in columns for cell in column))}
    shown = list(texts)[:: max(1, math.ceil(len(texts) / MOST_TICKS))]
    axes.set_xticks([texts[text] for text in shown], [_text(text) for text in shown], rotation=45, ha="right")
    return [[texts[cell] for cell in column] for column in columns]


def _grouping(one: Series) -> str | None:
    """Return the column that tells curves in one table apart: a remaining one with few texts or whole numbers.

    Whole numbers tell apart only where an x comes several times; else they are measured values.
    """
    for name in one.table.columns:
        if name in (one.x_name, one.y_name):
            continue
        values = set(one.table.column(name))
        if not 1 <= len(values) <= MOST_GROUPS or len(values) == len(one.table.rows) > 1:
            continue
        found = one.table.numbers(name)
        repeated = one.x is not None and len(set(one.x)) < len(one.x)
        if found is None or (repeated and all(number.is_integer() for number in found)):
            return name
    return None


def _groups(one: Series) -> list[str] | None:
    name = _grouping(one)
    return one.table.column(name) if name else None


def _constants(one: Series, group: str, rows: Sequence[int]) -> str:
    """Return what the other columns say of a curve as a whole, such as the area below it: `(auc 0.98)`."""
    others = [name for name in one.table.columns if name not in (one.x_name, one.y_name, _grouping(one))]
    found = []
    for name in others if group else ():
        column = one.table.column(name)
        cells = {column[row] for row in rows}
        if len(cells) == 1 < len(rows) and (value := numbers([*cells])):
            found.append(f"{name} {value[0]:.4g}")
    return f"({', '.join(found)})" if found else ""


def _label(one: Series, series: Sequence[Series]) -> str:
    """Return what tells a series apart from the others: its column, or its file, or both."""
    columns, files = {other.y_name for other in series}, {other.path for other in series}
    parts = [PurePosixPath(one.path).stem if len(files) > 1 else "", one.y_name if len(columns) > 1 else ""]
    return " ".join(filter(None, parts))


def _describe(axes: "Axes", series: Sequence[Series]) -> None:
    columns = {one.y_name for one in series}
    axes.set(xlabel=_text(series[0].x_name), ylabel=_text(columns.pop()) if len(columns) == 1 else "")
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        group = _grouping(series[0]) if len(series) == 1 else None
        few = sum(len(one.table.rows) for one in series) <= MOST_POINTS  # the best place is searched for point by point
        axes.legend(handles, labels, title=_text(group) if group else None, loc="best" if few else "upper right")


# --- bars and matrices


def _bars(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    _draw_bars(axes, series[0], _lengths(series[0]))


def _bars_sorted(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    _draw_bars(axes, series[0], _sorted_bars(_lengths(series[0])))


def _sorted_bars(bars: Sequence[Bar]) -> list[Bar]:
    return sorted(bars, key=lambda bar: (math.isnan(bar.length), -bar.length))


def _lengths(one: Series) -> list[Bar]:
    """Return the bars; a column that is called like theirs, with STD behind it, has their standard deviations."""
    lengths, std = _numbers(_x(one), one.x_name), f"{one.x_name}{STD}"
    errors = _numbers(one.table.column(std), std) if std in one.table.columns else [math.nan] * len(lengths)
    return [
        Bar(name, length, error if error >= 0 else None)
        for name, length, error in zip(one.y, lengths, errors, strict=True)
    ]


def _x(one: Series) -> Sequence[str]:
    if one.x is None:
        raise CannotDraw("names no x; expected a column")
    return one.x


def _draw_bars(axes: "Axes", one: Series, bars: Sequence[Bar]) -> None:
    """Draw the first bars, the first one on top, in a picture that grows with them."""
    bars = bars[:MOST_BARS]
    places = range(len(bars))
    errors = [math.nan if bar.error is None else bar.error for bar in bars]
    known = {"xerr": errors, "capsize": 3, "ecolor": "#333333"} if any(bar.error is not None for bar in bars) else {}
    axes.barh(places, [bar.length for bar in bars], **known)
    axes.set_yticks(places, [_text(bar.name) for bar in bars])
    axes.invert_yaxis()
    axes.set_xlabel(_text(one.x_name))
    figure: Figure = axes.get_figure()
    figure.set_figheight(max(SIZE[1], 1 + 0.25 * len(bars)))


def _confusion(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    _draw_matrix(axes, series[0], normalized=False)


def _confusion_normalized(axes: "Axes", series: Sequence[Series], plot: Plot) -> None:
    _draw_matrix(axes, series[0], normalized=True)


def _draw_matrix(axes: "Axes", one: Series, *, normalized: bool) -> None:
    classes, matrix = _matrix(one, normalized=normalized)
    axes.imshow(matrix, cmap="Blues", vmin=0)
    places, names = range(len(classes)), [_text(name) for name in classes]
    slanted = {"rotation": 45, "ha": "right"} if len(classes) * max(map(len, names)) > 50 else {}
    axes.set_xticks(places, names, **slanted)
    axes.set_yticks(places, names)
    axes.set(xlabel=_text(one.y_name), ylabel=_text(one.x_name))
    if len(classes) <= CLASSES_WITH_NUMBERS:
        _write_numbers(axes, matrix, ".2f" if normalized else ".0f")


def _matrix(one: Series, *, normalized: bool) -> tuple[list[str], list[list[float]]]:
    """Return how often a row's class (`x`, the truth) was taken for a column's (`y`); normalized: shares of a row."""
    pairs = Counter(zip(_x(one), one.y, strict=True))
    classes = _sorted({name for pair in pairs for name in pair})
    if not 0 < len(classes) <= MOST_CLASSES:
        raise CannotDraw(f"has {len(classes)} classes; expected 1 to {MOST_CLASSES}")
    matrix = [[float(pairs[truth, taken]) for taken in classes] for truth in classes]
    if normalized:
        matrix = [[value / (sum(row) or 1) for value in row] for row in matrix]
    return classes, matrix


def _write_numbers(axes: "Axes", matrix: Sequence[Sequence[float]], look: str) -> None:
    most, size = max(map(max, matrix)), min(10, 100 / len(matrix))
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            color = "white" if value > most / 2 else "#08306b"
            axes.text(column, row, format(value, look), ha="center", va="center", color=color, size=size)


def _sorted(names: Iterable[str]) -> list[str]:
    """Sort classes as numbers if all are, else as texts."""
    names = sorted(names)
    found = numbers(names)
    return names if found is None else [name for _, name in sorted(zip(found, names, strict=True))]


DRAWINGS = {
    "linear": _lines,
    "simple": _lines,
    "smooth": _smooth,
    "scatter": _scatter,
    IDENTITY: _scatter_identity,
    "confusion": _confusion,
    "confusion_normalized": _confusion_normalized,
    "bar_horizontal": _bars,
    "bar_horizontal_sorted": _bars_sorted,
}
"""By the name of DVC's template; that of IDENTITY is our own, in .dvc/plots/."""
