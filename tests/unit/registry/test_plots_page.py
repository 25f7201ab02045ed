"""`make plots` draws a page that needs nothing but itself."""

import base64
import re
from xml.etree import ElementTree

import pytest

from scripts.pipeline.stage import Pipeline, Stage
from scripts.registry import plots_page

ROC = "class,fpr,tpr\n" + "".join(f"{name},{x},{y}\n" for name in "abcd" for x, y in ((0, 0), (0.1, 0.9), (1, 1)))


@pytest.fixture
def draw(tmp_path):
    """Return a function that draws the plots of one stage with these files; it returns the titles and the drawings."""

    def draw(files, entries=(), plots=None):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        stage = Stage("score", "", plots={str(at): path for at, path in enumerate(plots or files)})
        page = plots_page.draw(Pipeline("", {"score": stage}, plots=entries), tmp_path, tmp_path / "dvc_plots")
        if page is None:
            return None
        assert not re.search(r"https?:|<script|@import|url\(", page.read_text())
        found = re.findall(r'<img src="([^"]*)" alt="([^"]*)">', page.read_text())
        return {title: source for source, title in found}

    return draw


def svg(source):
    return base64.b64decode(source.partition("base64,")[2]).decode()


def test_each_plot_is_there_once(draw):
    """A file of a stage's `plots` that dvc.yaml names as well is drawn once, as dvc.yaml says; the others are, too."""
    files = {"m/roc.csv": ROC, "m/loss.csv": "step,loss\n1,3\n2,1\n", "m/both.csv": "step,a\n1,2\n"}
    entries = [
        {"m/roc.csv": {"x": "fpr", "y": "tpr", "title": "ROC"}},
        {"Both": {"x": "step", "y": {"m/both.csv": "a"}}},
    ]
    assert list(draw(files, entries)) == ["ROC", "Both", "m/loss.csv"]


def test_a_curve_a_class(draw):
    """Four classes in a column of their own are four curves, each named in the legend."""
    drawing = svg(draw({"m/roc.csv": ROC}, [{"m/roc.csv": {"x": "fpr", "y": "tpr", "title": "ROC"}}])["ROC"])
    assert all(f"<!-- {name} -->" in drawing for name in "abcd")


def test_what_has_many_points_stays_small(draw):
    """A plot of 100,000 points is a picture of dots, whose size does not grow with them."""
    points = "".join(f"{at},{at * 7919 % 1000}\n" for at in range(100_000))
    shown = draw(
        {"m/p.csv": f"x,y\n{points}"}, [{"m/p.csv": {"template": "scatter", "x": "x", "y": "y", "title": "p"}}]
    )
    assert shown["p"].startswith("data:image/png") and len(shown["p"]) < 1_000_000


SCRIPT = "</title></svg><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("text", [SCRIPT, "n" * 10_000])
def test_whatever_a_stranger_says_is_text(draw, tmp_path, text):
    """As class, column, title and label it is text on the page and in a drawing, and cut to a length."""
    roc = f"{text},fpr,tpr\n" + "".join(f"{text}{at},{x},{x}\n" for at in range(3) for x in (0, 1))
    files = {"m/roc.csv": roc, "m/c.csv": f"actual,{text}\n{text},b\nb,{text}\n", "m/b.csv": f"f,{text}\n{text},1\n"}
    bars = {"template": "bar_horizontal", "x": text, "y": "f"}
    matrix = {"template": "confusion", "x": "actual", "y": text}
    curves = {"x": "fpr", "y": "tpr", "title": text, "x_label": text}
    shown = draw(files, [{"m/roc.csv": curves}, {"m/c.csv": matrix}, {"m/b.csv": bars}])
    assert len(shown) == 3 and (tmp_path / "dvc_plots/index.html").stat().st_size < 500_000
    for source in shown.values():
        elements = [*ElementTree.fromstring(svg(source)).iter()]
        assert not {"script", "img", "foreignObject"} & {element.tag.rpartition("}")[2] for element in elements}
        links = [value for element in elements for name, value in element.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/png;")) for link in links)


def test_what_is_no_number_is_no_point(draw, capsys):
    """A curve, points and bars with NaN and infinity are drawn without these."""
    text = "f,x,y\na,0,1\nb,1,nan\nc,2,inf\nd,nan,3\ne,3,-inf\n"
    looks = [
        {"x": "x", "y": "y"},
        {"template": "scatter", "x": "x", "y": "y"},
        {"template": "scatter_identity", "x": "x", "y": "y"},
    ]
    looks.append({"template": "bar_horizontal", "x": "y", "y": "f"})
    files = {f"m/{at}.csv": text for at in range(len(looks))}
    shown = draw(files, [{path: look} for path, look in zip(files, looks, strict=True)])
    assert list(shown) == list(files) and "not drawn" not in capsys.readouterr().out


def test_an_image_stays_where_it_is(draw):
    """A picture that a stage drew is shown from its place, also one of a folder."""
    shown = draw({"m/seen/a b.png": "x", "m/one.svg": "<svg/>"}, plots=["m/seen", "m/one.svg"])
    assert shown == {"m/seen/a b.png": "../m/seen/a%20b.png", "m/one.svg": "../m/one.svg"}


@pytest.mark.parametrize(
    ("text", "look", "says"),
    [
        ("", {}, "m/t.csv is empty"),
        ("a,b\n1\n", {}, "row 1, has 1 cells"),
        ("a,b\n1,2\n", {"template": "mine"}, "has the template mine; expected one of linear"),
    ],
)
def test_what_cannot_be_drawn_is_said(draw, capsys, text, look, says):
    """A table or a look that cannot be drawn costs a line, and no other plot."""
    assert list(draw({"m/t.csv": text, "m/u.csv": "a,b\n1,2\n"}, [{"m/t.csv": look}])) == ["m/u.csv"]
    assert "not drawn: " in (said := capsys.readouterr().out) and says in said


def test_nothing_to_draw(draw):
    """Without plots there is no page."""
    assert draw({}) is None


@pytest.mark.parametrize("path", ["../secret.csv", "/etc/passwd", "/etc/x.csv"])
def test_no_file_outside_is_read(draw, tmp_path, path):
    """An entry of dvc.yaml that names a file outside of the project shows nothing of it."""
    (tmp_path.parent / "secret.csv").write_text("a,b\n1,2\n")
    assert list(draw({"m/u.csv": "a,b\n1,2\n"}, [{path: {"y": "b"}}])) == ["m/u.csv"]
