"""dvc.yaml's plots become pictures; what cannot be drawn is said in a line and keeps nothing else from being drawn."""

import re
import struct
import subprocess
import sys

import pytest

from scripts.project import ROOT
from scripts.registry import plots
from scripts.registry.stage_files import Table

CURVE = Table(["step", "loss", "accuracy"], [["0", "1.5", "0.1"], ["1", "0.5", "0.7"], ["2", "", "nan"]])
ROC = Table(["class", "fpr", "tpr"], [[name, str(x / 4), str(x / 5)] for name in "ab" for x in range(5)])
GUESSES = Table(["actual", "predicted"], [["a", "a"], ["a", "b"], ["b", "b"], ["10", "9"]])
BARS = Table(["feature", "gain"], [["x", "0.5"], ["y", "2"], ["z", "-1"]])
TABLES = {"m/curve.csv": CURVE, "m/roc.csv": ROC, "m/guesses.csv": GUESSES, "m/bars.csv": BARS}


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the pictures that are drawn, to look at what is on them."""
    from matplotlib.figure import Figure

    figures, subplots = [], Figure.subplots

    def remember(figure, *arguments, **options):
        axes = subplots(figure, *arguments, **options)
        figures.append(axes)
        return axes

    monkeypatch.setattr(Figure, "subplots", remember)
    return figures


def draw(*entries, tables=TABLES):
    return dict(plots.draw(entries, tables))


def size(picture):
    """Return width and height of a PNG."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", picture[16:24])


def labels(axes):
    legend = axes.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def lines(axes):
    return [[list(line.get_xdata()), list(line.get_ydata())] for line in axes.get_lines()]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_importing_draws_nothing():
    """matplotlib is imported when something is drawn: a run with nothing to do need not wait for it."""
    code = "import sys; from scripts.registry import plots, logged; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_path_alone(drawn):
    """A path without more is a line of the last column over the rows."""
    assert size(draw("m/curve.csv")["m/curve.csv"]) == (720, 540)
    assert lines(drawn[0])[0][0] == [0.0, 1.0, 2.0]
    assert lines(drawn[0])[0][1][:2] == [0.1, 0.7]
    assert (drawn[0].get_xlabel(), drawn[0].get_ylabel(), drawn[0].get_title()) == ("step", "accuracy", "m/curve.csv")


def test_two_columns_and_a_title(drawn):
    """`x` and `y` name columns; title and labels are shown as they are, a $ as a letter."""
    draw({"m/curve.csv": {"x": "step", "y": "loss", "title": "in $ and $", "x_label": "epoch", "y_label": "nats"}})
    assert (drawn[0].get_xlabel(), drawn[0].get_ylabel(), drawn[0].get_title()) == ("epoch", "nats", r"in \$ and \$")


def test_a_line_for_each_class(drawn):
    """A remaining column of few texts tells lines apart, and the legend has its name."""
    draw({"m/roc.csv": {"x": "fpr", "y": "tpr"}})
    assert len(lines(drawn[0])) == 2
    assert (labels(drawn[0]), drawn[0].get_legend().get_title().get_text()) == (["a", "b"], "class")


def test_what_a_column_says_of_a_whole_line(drawn):
    """A number that is the same all along a line, such as its area, stands beside the line's name; its points are the
    file's own."""
    rows = [
        [name, str(x / 7), str(x * x / 49), area] for name, area in (("a", "0.98765"), ("b", "1")) for x in range(8)
    ]
    look = {"x": "fpr", "y": "tpr"}
    table = Table(["class", "fpr", "tpr", "auc"], rows)
    draw({"m/roc.csv": look}, tables={"m/roc.csv": table})
    assert labels(drawn[0]) == ["a (auc 0.9877)", "b (auc 1)"]
    (chart,) = plots.charts([{"m/roc.csv": look}], {"m/roc.csv": table})
    points = [[list(xs), list(ys)] for _, xs, ys in chart.curves]
    assert points == lines(drawn[0]) == [[[x / 7 for x in range(8)], [x * x / 49 for x in range(8)]]] * 2


def test_a_long_class_keeps_its_area(drawn):
    """Of a long name the end is left out in the legend, and not what stands behind it; a long title is wrapped."""
    rows = [[name, str(x), str(x), "0.5"] for name in ("a", "b" * 50) for x in range(2)]
    look = {"x": "fpr", "y": "tpr", "title": "word " * 20}
    draw({"m/roc.csv": look}, tables={"m/roc.csv": Table(["class", "fpr", "tpr", "auc"], rows)})
    assert labels(drawn[0]) == ["a (auc 0.5)", f"{'b' * 29}… (auc 0.5)"] and drawn[0].title.get_wrap()


def test_twice_the_same_drawing():
    """The same plot is the same picture, byte for byte, each time and in both forms."""
    for form in ("png", "svg"):
        one, other = (list(plots.draw([{"m/roc.csv": {"x": "fpr", "y": "tpr"}}], TABLES, form)) for _ in range(2))
        assert one == other


def test_other_measured_columns_tell_no_lines_apart(drawn):
    """A remaining column of numbers is another measurement; whole numbers tell lines apart if an x comes twice."""
    draw({"m/curve.csv": {"x": "step", "y": "loss"}})
    assert len(lines(drawn[0])) == 1
    folds = Table(["fold", "step", "loss"], [[fold, step, "1"] for fold in "12" for step in "012"])
    draw({"f.csv": {"x": "step", "y": "loss"}}, tables={"f.csv": folds})
    assert labels(drawn[1]) == ["1", "2"]
    names = Table(["image", "x", "y"], [[f"{n}.png", str(n), "1"] for n in range(30)])
    draw({"n.csv": {"x": "x", "y": "y"}}, tables={"n.csv": names})
    assert len(lines(drawn[2])) == 1


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        ({"x": "step", "y": ["loss", "accuracy"]}, ["loss", "accuracy"]),
        ({"x": "step", "y": {"m/curve.csv": ["loss", "accuracy"]}}, ["loss", "accuracy"]),
        ({"x": "step", "y": {"m/curve.csv": "loss", "m/other.csv": "loss"}}, ["curve", "other"]),
        (
            {"x": {"m/curve.csv": "step"}, "y": {"m/other.csv": "loss", "m/curve.csv": "accuracy"}},
            ["other loss", "curve accuracy"],
        ),
    ],
)
def test_several_columns_and_files(drawn, look, expected):
    """`y` may be several columns, of several files: a line each, told apart by what differs."""
    name = "m/curve.csv" if isinstance(look["y"], list) else "loss and accuracy"
    draw({name: look}, tables=TABLES | {"m/other.csv": CURVE})
    assert labels(drawn[0]) == expected


def test_other_stages_files_are_nobodys_plot(capsys):
    """A plot of files that are not the model's is left out without a word; of some that are, those are drawn."""
    assert draw("other/x.csv", {"both": {"y": {"other/x.csv": "a"}}}) == {}
    assert list(draw({"some": {"y": {"other/x.csv": "a", "m/curve.csv": "loss"}}})) == ["some"]
    assert capsys.readouterr().out == ""


def test_a_folder_of_tables():
    """The name of a folder stands for each table in it."""
    assert list(
        draw({"m": {"template": "scatter"}}, tables={"m/a/x.csv": CURVE, "m/y.csv": CURVE, "n.csv": CURVE})
    ) == [
        "m/a/x.csv",
        "m/y.csv",
    ]


def test_confusion_matrix(drawn):
    """A row a true class, a column a predicted one, numbers in the cells; classes that are numbers in their order."""
    draw({"m/guesses.csv": {"template": "confusion", "x": "actual", "y": "predicted"}})
    assert texts(drawn[0]) == list("0100" + "0000" + "0011" + "0001")
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == ["10", "9", "a", "b"]
    assert (drawn[0].get_xlabel(), drawn[0].get_ylabel()) == ("predicted", "actual")
    numbers = Table(["actual", "predicted"], [["2", "10"], ["10", "10"]])
    draw({"n.csv": {"template": "confusion", "x": "actual", "y": "predicted"}}, tables={"n.csv": numbers})
    assert [label.get_text() for label in drawn[1].get_xticklabels()] == ["2", "10"]


def test_normalized_confusion_matrix(drawn):
    """Normalized, the numbers are shares of a row."""
    draw({"m/guesses.csv": {"template": "confusion_normalized", "x": "actual", "y": "predicted"}})
    assert texts(drawn[0])[8:12] == ["0.00", "0.00", "0.50", "0.50"]


@pytest.mark.parametrize(
    ("template", "expected"), [("bar_horizontal", ["x", "y", "z"]), ("bar_horizontal_sorted", ["y", "x", "z"])]
)
def test_bars(drawn, template, expected):
    """The first bar is on top: the file's first one, or the longest."""
    draw({"m/bars.csv": {"template": template, "x": "gain", "y": "feature"}})
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == expected
    assert drawn[0].yaxis_inverted()


def test_bars_with_errors(drawn):
    """A column of the bars' name and _std is drawn as how far each may be off; what is none is left out."""
    rows = [["x", "0.5", "0.1"], ["y", "2", "0.25"], ["z", "1", "-3"], ["w", "1", ""]]
    table = Table(["feature", "gain", "gain_std"], rows)
    look = {"template": "bar_horizontal", "x": "gain", "y": "feature"}
    assert draw({"b.csv": look}, tables={"b.csv": table})
    (bars,) = [shown for shown in drawn[0].containers if hasattr(shown, "errorbar") and shown.errorbar]
    (segments,) = [lines.get_segments() for lines in bars.errorbar.lines[2]]
    ends = [sorted(x for x, _ in segment) for segment in segments]
    assert ends[:2] == [pytest.approx([0.4, 0.6]), pytest.approx([1.75, 2.25])]
    (chart,) = plots.charts([{"b.csv": look}], {"b.csv": table})
    assert [bar.error for bar in chart.bars] == [0.1, 0.25, None, None]


def test_many_bars_are_a_tall_picture():
    """With many bars the picture grows; it shows 50 of them."""
    many = Table(["feature", "gain"], [[f"f{n}", str(n)] for n in range(500)])
    look = {"template": "bar_horizontal_sorted", "x": "gain", "y": "feature"}
    assert size(draw({"b.csv": look}, tables={"b.csv": many})["b.csv"]) == (720, 1620)


@pytest.mark.parametrize("template", ["linear", "simple", "smooth", "scatter", "scatter_identity"])
def test_points_and_lines(template):
    """DVC's templates of points and lines are known."""
    assert size(draw({"m/curve.csv": {"template": template, "x": "step", "y": "loss"}})["m/curve.csv"])


SPREAD = Table(["true", "guess"], [["10", "12"], ["20", "15"], ["40", "35"]])
IDENTITY = {"g.csv": {"template": "scatter_identity", "x": "true", "y": "guess"}}


def test_where_both_are_equal(drawn):
    """Predicted against true has a line on which both are equal, and axes that are the same."""
    assert size(draw(IDENTITY, tables={"g.csv": SPREAD})["g.csv"])
    (axes,) = drawn
    ((xs, ys),) = lines(axes)
    assert xs == ys and xs[0] <= 10 and xs[1] >= 40
    assert axes.get_xlim() == axes.get_ylim() == tuple(xs)
    (chart,) = plots.charts([IDENTITY], {"g.csv": SPREAD})
    assert chart.points and chart.identity


def test_dvc_has_the_template_of_that_line():
    """`dvc plots show` draws it too: the template that DVC lacks is in .dvc/plots/."""
    from dvc_render.vega_templates import get_template

    found = get_template("scatter_identity", ROOT / ".dvc" / "plots").content
    points, line = found["layer"]
    assert (points["mark"]["type"], line["mark"]["type"]) == ("point", "rule")


def test_texts_on_the_x_axis(drawn):
    """Texts are places in their order, and not all of many are written."""
    days = Table(["day", "n"], [[f"2026-01-{day:02d}", str(day % 7)] for day in range(1, 31)])
    draw({"d.csv": {"x": "day", "y": "n"}}, tables={"d.csv": days})
    assert lines(drawn[0])[0][0] == list(range(30))
    assert len(drawn[0].get_xticks()) == 10


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"m/curve.csv": {"template": "fancy"}}, "m/curve.csv has the template fancy; expected one of linear, simple"),
        (
            {"m/curve.csv": {"y": "none"}},
            "m/curve.csv needs the column none of m/curve.csv; expected one of step, loss",
        ),
        ({"m/curve.csv": {"x": "none", "y": "loss"}}, "m/curve.csv needs the column none of m/curve.csv"),
        ({"m/roc.csv": {"y": "class"}}, "m/roc.csv needs numbers in the column class"),
        ({"m/bars.csv": {"template": "bar_horizontal", "y": "feature"}}, "m/bars.csv names no x; expected a column"),
        ({"m/guesses.csv": {"template": "confusion"}}, "m/guesses.csv names no x; expected a column"),
        ({"m/curve.csv": {"x": 5, "y": "loss"}}, "m/curve.csv has an x that is no column of a stage's file"),
        (
            {"m/curve.csv": {"x": {"m/roc.csv": "fpr"}}},
            "m/curve.csv has x in m/roc.csv and y in m/curve.csv, of another",
        ),
        ({"e.csv": {"template": "confusion", "x": "a", "y": "b"}}, "e.csv has 0 classes; expected 1 to 100"),
        ("none.json", "none.json shows none.json, which has no column; expected one"),
        ({"none.json": {"x": "a"}}, "none.json shows none.json, which has no column; expected one"),
        ({"both": {"y": {"none.json": "a"}}}, "both shows none.json, which has no column; expected one"),
    ],
)
def test_what_cannot_be_drawn_is_left_out(capsys, entry, told):
    """An unknown template, a missing column, texts for numbers: a line says so, and the rest is drawn."""
    tables = TABLES | {"e.csv": Table(["a", "b"], []), "none.json": Table([], [[]])}
    assert list(draw(entry, "m/bars.csv", tables=tables)) == ["m/bars.csv"]
    assert re.fullmatch(rf"not drawn: {re.escape(told)}.*\n", capsys.readouterr().out)


@pytest.mark.parametrize("entry", [["m/curve.csv"], 5, None, True, {"m/curve.csv": ["x"]}, {5: {"y": "a"}}, {}])
def test_an_entry_that_is_no_plot_stops_nothing(entry):
    """What dvc.yaml lists as a plot and DVC has no name for keeps no other plot from being drawn."""
    assert "m/bars.csv" in draw(entry, "m/bars.csv")


@pytest.mark.parametrize("error", [TypeError("odd\n\x1b"), IndexError(), RuntimeError("no font"), KeyError("x")])
def test_what_matplotlib_cannot_draw_is_left_out(capsys, monkeypatch, error):
    """Whatever goes wrong in drawing, a line says what, and no publication ends with it."""
    monkeypatch.setitem(plots.DRAWINGS, "scatter", lambda *_: (_ for _ in ()).throw(error))
    assert list(draw({"m/curve.csv": {"template": "scatter"}}, "m/bars.csv")) == ["m/bars.csv"]
    told = capsys.readouterr().out
    assert told.startswith(f"not drawn: m/curve.csv ({type(error).__name__}: ") and told[:-1].isprintable()


def test_a_strangers_texts_and_numbers(drawn):
    """No text of a file is a formula, moves a cursor or fills the picture; no number is too large to draw."""
    rows = [["$\\frac{", "1e308"], ["a\x1b[2J\n", "-1e308"], ["_" * 500, "inf"], ["\u4e2d", "1"]]
    table = Table(["$_{name", "value"], rows)
    for template in plots.DRAWINGS:
        look = {"template": template, "x": "value", "y": "$_{name"}
        look = look if "bar" in template or "confusion" in template else {"x": "$_{name", "y": "value"}
        assert draw({f"$x$ \x1b{template}": {**look, "y": {"t.csv": look["y"]}}}, tables={"t.csv": table})
    shown = [label.get_text() for axes in drawn for label in axes.get_yticklabels()]
    assert "a?[2J?" in shown
    assert max(map(len, shown)) <= 61


def test_a_long_curve_is_thinned(drawn):
    """A curve of 100,000 points is drawn with 10,000 of them."""
    long = Table(["y"], [[str(n % 10)] for n in range(100_000)])
    assert draw("l.csv", tables={"l.csv": long})
    assert len(lines(drawn[0])[0][0]) == 10_000


def test_a_picture_is_drawn_once(monkeypatch):
    """What was drawn before is not drawn again; a plot of other cells, or with another look, is."""
    seen, picture = [], plots._picture
    monkeypatch.setattr(plots, "_picture", lambda *what: seen.append(what) or picture(*what))
    drawn = {}

    def pictures(rows, **look):
        return [*plots.draw([{"t.csv": {"x": "x", "y": "y", **look}}], {"t.csv": Table(["x", "y"], rows)}, drawn=drawn)]

    rows = [["0", "0"], ["1", "1"]]
    assert pictures(rows) == pictures(rows) and len(seen) == 1
    assert pictures([["0", "0"], ["1", "2"]]) != pictures(rows) != pictures(rows, title="other")
    assert len(seen) == 3


def test_warming_up(capsys):
    """Warming up draws for nobody."""
    plots.warm_up()
    assert capsys.readouterr().out == ""


def test_what_a_chart_shows():
    """Who draws without matplotlib is given the same curves, bars and matrix, and nothing of what cannot be drawn."""
    table = Table(["class", "x", "y"], [["a", "0", "1"], ["a", "1", "2"], ["b", "0", "3"]])
    entries = [
        {"t.csv": {"x": "x", "y": "y", "title": "lines"}},
        {"t.csv": {"x": "y", "y": "class", "template": "bar_horizontal_sorted"}},
        {"t.csv": {"x": "class", "y": "class", "template": "confusion"}},
        {"t.csv": {"x": "class", "y": "y"}},
        {"t.csv": {"template": "mine"}},
        "other.csv",
    ]
    lines, bars, matrix = plots.charts(entries, {"t.csv": table})
    assert (lines.title, lines.x, lines.y) == ("lines", "x", "y")
    assert list(lines.curves) == [("a", [0, 1], [1, 2]), ("b", [0], [3])]
    assert list(bars.bars) == [("b", 3, None), ("a", 2, None), ("a", 1, None)]
    assert list(matrix.matrix) == [("a", [2, 0]), ("b", [0, 1])]
