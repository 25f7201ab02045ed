"""The page of a run can be read everywhere, and holds whatever stages and registries say as the text that it is."""

import re
import time
from html.parser import HTMLParser

import pytest

from scripts.pipeline.stage import Pipeline, Stage
from scripts.registry.plots import Bar, Chart
from scripts.report import drawing, facts, page
from tests.report.conftest import BEGAN, NAME

SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\" onfocus='alert(1)' {{ 77777 * 77 }}"
VOID = {"meta", "br", "wbr"}  # and what ends in />


class Reader(HTMLParser):
    """Notes the tags of a page, and that each one is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.attributes, self.ids, self.words = [], [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def read(html):
    """Return what a browser finds in a page; it has no script, and loads nothing."""
    found = Reader(html)
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & {*found.tags}
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "style", "srcset")]
    assert not re.search(r"@import|url\(", html)
    hosts = {value.split("/")[2] for name, value in found.attributes if name == "href" and not value.startswith("#")}
    assert hosts <= {"127.0.0.1:5000"}
    assert len(found.ids) == len({*found.ids})
    links = [value[1:] for name, value in found.attributes if name == "href" and value.startswith("#")]
    assert links and {*links} <= {*found.ids}
    return found


def run_of(events, outcome="failed", **known):
    return facts.run_of(NAME, events, outcome=outcome, **known)


def a_model(**changes):
    evidence = {"champion": 1, "champion_score": 0.8, "p_value": 0.03, "at": "2027", "by": "ann"}
    model = {
        "model": "iris",
        "version": "2",
        "stage": "Staging",
        "now": "Archived",
        "reason": "not better",
        "run": "r2",
    }
    more = {"metric": "accuracy", "score": 0.7, "news": True, "evidence": evidence, "page": "http://127.0.0.1:5000/#/m"}
    return model | more | changes


def test_what_the_page_says(events):
    """It has what happened, why, the time's parts, each decision with its evidence, metrics' changes, and lineage."""
    metric = {"file": "m.json", "name": "accuracy", "value": 0.7, "last": 0.75, "production": 0.8}
    lineage = {
        "commit": "c0ffee",
        "changed": ["params.yaml"],
        "files": [{"path": "a.csv", "stage": "get", "md5": "5e"}],
    }
    param = {"name": "fit.depth", "value": "3", "last": "2"}
    known = {"models": [a_model()], "metrics": [metric], "params": [param], "lineage": lineage}
    found = read(page.page(run_of(events, error="it is wrong", why={"fit": ["parameter depth: 2 -> 3"]}, **known)))
    for words in (
        "1 up to date, 1 ran, 1 failed", "it is wrong", "parameter depth: 2 -> 3", "300b", "two", "waiting", "border",
        "iris version 2", "Staging: not better (now Archived)", "compared with version", "0.03", "-0.05", "-0.1",
        "fit.depth", "c0ffee", "params.yaml", "stages/fit:1", "5e",
    ):  # fmt: skip
        assert words in found.words, words


def test_a_first_run_has_no_columns_for_what_was_before(events):
    """Without a last run, or a version to compare with, no column is empty from top to bottom."""
    metric = {"file": "m.json", "name": "accuracy", "value": 0.7, "last": None, "production": None}
    param = {"name": "fit.depth", "value": "3", "last": None}
    words = read(page.page(run_of(events, metrics=[metric], params=[param]))).words
    assert "accuracy" in words and not re.search("Last run|Production before|Change", words)
    words = read(page.page(run_of(events, metrics=[metric | {"last": 0.6}], params=[param | {"last": "2"}]))).words
    assert words.count("Last run") == 2 and "Production before" not in words


@pytest.mark.parametrize(
    "address", ["https://example.com/#/m", "javascript:alert(1)", "http://127.0.0.1.example.com/", None]
)
def test_a_link_leads_to_this_machine_alone(events, address):
    """An address of another host, or none, is no link."""
    read(page.page(run_of(events, models=[a_model(page=address)])))


@pytest.mark.parametrize("text", [SCRIPT, "n" * 10_000, "\u202egnp.exe", "a\nb\x1b[2J", ""])
def test_whatever_a_stranger_says_is_text(events, text):
    """In each place of a run, markup is text, and what is long or moves a cursor changes no page."""
    shown = facts.text(text)
    for event in events:
        if "stage" in event:
            event["stage"] = {"fit": text}.get(event["stage"], event["stage"])
        event |= {name: text for name in ("sentence", "command") if name in event}
        event |= {"printed": [text] * 1000} if "printed" in event else {}
    events[1]["needs"] = {"get": [], text: ["get"], "score": [text]}
    metric = {"file": shown, "name": shown, "value": "nan", "last": None, "production": 1e300}
    model = a_model(**dict.fromkeys(("model", "version", "stage", "now", "reason", "metric", "run"), shown))
    model["evidence"] = {"by": shown, "p_value": float("nan")}
    lineage = {"commit": shown, "changed": [shown] * 50, "files": [{"path": shown, "stage": shown, "md5": shown}]}
    params = [{"name": shown, "value": shown, "last": "x"}]
    known = {"models": [model], "metrics": [metric] * 1000, "params": params, "lineage": lineage}
    html = page.page(run_of(events, error=text, why={text: [text] * 50}, **known))
    found = read(html)
    assert len(html) < 300_000 and "\x1b" not in html and "\u202e" not in html
    assert "5988829" not in html and "nan" in found.words


def test_a_run_of_200_stages(events):
    """The page of a run of 200 stages has them all, has less than a megabyte, and is made within a second or two."""
    names = [f"stage-{number}" for number in range(200)]
    needs = {name: names[max(at - 3, 0) : at] for at, name in enumerate(names)}
    found = [{"kind": "begin", "at": BEGAN}, {"kind": "plan", "at": BEGAN, "needs": needs, "up_to_date": [], "jobs": 2}]
    for at, name in enumerate(names):
        found += [{"kind": "begins", "stage": name, "at": BEGAN + at}]
        steps = ("image", "start", "border", "cache")
        found += [
            {"kind": "step", "stage": name, "step": step, "at": BEGAN + at + 0.1 * n} for n, step in enumerate(steps)
        ]
        found += [{"kind": "ends", "stage": name, "result": "ran", "at": BEGAN + at + 0.9}]
    before = time.process_time()
    html = page.page(run_of(found, "well"))
    assert time.process_time() - before < 2
    words = read(html).words
    assert len(html) < 1_000_000 and all(name in words for name in names)


def test_the_plots(events):
    """Curves, points, bars and matrices are drawn; their names and numbers are text; what is no number is no place."""
    nan, label = float("nan"), facts.text(SCRIPT)
    curves = [(label, [0, 0.5, 1], [0, nan, 1]), ("b", [0, 1], [1e99, -1e99]), ("one", [1], [1]), ("none", [nan], [1])]
    charts = [
        Chart(label, label, label, label, curves=curves),
        Chart("p", "points", "x", "y", curves=[("", [1, 2], [1, 1])], points=True),
        Chart("b", "bars", "length", "name", bars=[Bar(label, -2.5, 3.0), Bar("n", nan)] * 50),
        Chart("m", "matrix", "truth", "taken", matrix=[("yes", [8, 2]), (label, [0, nan])]),
        Chart("large", "large", "truth", "taken", matrix=[(str(at), [1.0] * 50) for at in range(50)]),
    ]
    charts.append(Chart("i", "", "true", "guess", curves=[("", [0, 4], [2, 8])], points=True, identity=True))
    html = page.page(run_of(events), list(map(drawing._drawing, charts)))
    found = read(html)
    assert found.tags.count("circle") == 5 and "true and guess are equal" in found.words
    assert '<circle cx="200.0" cy="0.0"' in html  # of 4 and 8, where both axes end at 8
    assert "-2.5" in found.words and "8" in found.words
    assert "5988829" not in html and len(html) < 100_000
    (curve,) = drawing._drawing(Chart("c", "", "", "", curves=[("", [1, 2], [5, 6])])).curves
    assert curve.path == "M0.0 240.0L400.0 0.0"


def test_a_plot_of_100_000_points():
    """Of many points some are drawn, the first and the last one among them."""
    many = [float(at) for at in range(100_000)]
    (curve,) = drawing._drawing(Chart("c", "", "", "", curves=[("", many, many)])).curves
    assert len(curve.points) == drawing.MOST_POINTS and (curve.points[0], curve.points[-1]) == ((0, 240), (400, 0))


def test_what_is_drawn_of_a_project(project):
    """Each plot of dvc.yaml is drawn as it is said there; a file that is large, or no table, is left to others."""
    (project.root / "m").mkdir()
    files = {
        "roc": "class,x,y\n" + "".join(f"{c},{x},{x}\n" for c in "abcd" for x in (0, 1)),
        "bad": "",
        "huge": "a\n" * 10**6,
    }
    for name, text in files.items():
        (project.root / f"m/{name}.csv").write_text(text)
    stage = Stage("score", "", plots={name: f"m/{name}.csv" for name in [*files, "gone"]})
    entries = [{"m/roc.csv": {"x": "x", "y": "y"}}, *(f"m/{name}.csv" for name in ("bad", "huge", "gone"))]
    (found,) = drawing.drawings(project, Pipeline("", {"score": stage}, plots=entries))
    assert [curve.label for curve in found.curves] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("outcome", ["well", "failed", "interrupted", "killed", "running"])
def test_a_run_without_stages(outcome):
    """A run that began no stage has a page too."""
    assert outcome in read(page.page(run_of([{"kind": "begin", "at": BEGAN}], outcome))).words


def test_the_graph_has_a_box_a_stage_and_a_line_a_need(events):
    """Each stage stands to the right of all that it needs, and no two in one place."""
    graph = page.Graph(run_of(events)["stages"])
    places = {box.stage["name"]: (box.x, box.y) for box in graph.boxes}
    assert places["get"] < places["fit"] < places["score"] and len({*places.values()}) == 3
    assert len(list(graph.edges)) == 2
    assert page.Graph([]).boxes == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 s"),
        (0.002, "0.002 s"),
        (0.25, "0.25 s"),
        (3.14159, "3.1 s"),
        (59.6, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3720, "1 h 2 min"),
    ],
)
def test_a_time_in_words(value, words):
    """A time has the unit that a person would give it."""
    assert page.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0b"), (1023, "1.02e+03b"), (136474624, "130m"), (3 << 30, "3g"), (5 << 40, "5.12e+03g")]
)
def test_a_size_in_words(value, words):
    """A size looks as a limit does."""
    assert page.size(value) == words


@pytest.mark.parametrize("total", [0, 0.01, 1, 9.99, 100, 86_400])
def test_the_times_below_the_timeline(total):
    """There are a few, within the run, the first one at its beginning."""
    found = list(page.ticks(total))
    assert (found == []) == (total == 0) and len(found) <= 7
    assert all(0 <= place <= 1000 for place, _ in found)


def test_where_a_name_may_be_broken():
    """Behind what joins its parts; not before the ending of a file."""
    assert page.parts_of("per_class.setosa.f1") == ["per_", "class.", "setosa.f1"]
    assert page.parts_of("data/processed/train.csv") == ["data/", "processed/", "train.csv"]


@pytest.mark.parametrize("text", ["2026-11-27T19:07:04+00:00", "2026-11-27T19:07:04", "<b>"])
def test_a_time_as_people_read_it(text):
    """A time of UTC is told as one; what a registry holds in its place stays as it is."""
    assert page.when(text) == ("2026-11-27 19:07:04 UTC" if text.endswith("+00:00") else text)


def test_a_change_is_told_of_numbers_alone():
    """No change is told from or to what is no number, or if there is none."""
    assert [page.change(*pair) for pair in ((1, 0.5), (0.5, 1), (1, 1), (1, None), ("nan", 1))] == [
        "+0.5",
        "-0.5",
        "",
        "",
        "",
    ]
    assert page.number("nan") == "nan"
