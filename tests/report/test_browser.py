"""A browser opens our pages: nothing in its console, nothing asked of another host, no serious fault for axe-core."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.pipeline.stage import Pipeline, Stage
from scripts.project import ROOT, Project
from scripts.registry import plots_page
from scripts.report import drawing, facts, page
from tests.browser.image import browser_image
from tests.conftest import Clone
from tests.report.conftest import BEGAN, NAME
from tests.report.test_page import SCRIPT, a_model

pytestmark = [pytest.mark.docker, pytest.mark.deep]

LONG = "n" * 10_000
ROC = "class,fpr,tpr,auc\n" + "".join(
    f"{label},{x},{y},0.9\n" for label in ("a", "b", SCRIPT.replace('"', "'").replace(",", ""), LONG[:500])
    for x, y in ((0, 0), (0.1, 0.9), (1, 1))
)  # fmt: skip
FILES = {
    "m/roc.csv": ROC,
    "m/confusion.csv": "actual,predicted\na,a\na,b\nb,b\n",
    "m/importance.csv": "feature,gain,gain_std\nx,0.5,0.1\ny,-0.2,0.3\nz,nan,\n",
    "m/points.csv": "x,y\n" + "".join(f"{at},{at * 7919 % 1000}\n" for at in range(100_000)),
}
ENTRIES = [
    {"m/roc.csv": {"x": "fpr", "y": "tpr", "title": SCRIPT}},
    {"m/confusion.csv": {"template": "confusion", "x": "actual", "y": "predicted"}},
    {"m/importance.csv": {"template": "bar_horizontal", "x": "gain", "y": "feature"}},
    {"m/points.csv": {"template": "scatter", "x": "x", "y": "y"}},
]
PIPELINE = Pipeline("", {"score": Stage("score", "", plots=dict(enumerate(FILES)))}, plots=ENTRIES)


def a_run(events: list[dict[str, Any]], outcome: str, name: str) -> dict[str, Any]:
    """Return a run whose stages, metrics, parameters and models have this text wherever a stranger could put one."""
    text = facts.text(name)
    metrics = [{"file": text, "name": text, "value": value, "last": 0.5, "production": None} for value in ("nan", 0.7)]
    lineage = {"commit": "c0ffee", "changed": [text], "files": [{"path": text, "stage": text, "md5": "5e"}]}
    known = {
        "models": [a_model(model=text, reason=text, metric=text)],
        "metrics": metrics,
        "params": [{"name": text, "value": text, "last": "x"}],
        "lineage": lineage,
        "why": {"fit": [text]},
    }
    return facts.run_of(NAME, events, outcome=outcome, error="" if outcome == "well" else name, **known)


def large(stages: int) -> list[dict[str, Any]]:
    """Return what a run of many stages noted, each of which needs the three before it."""
    names = [f"stage-{number}" for number in range(stages)]
    needs = {name: names[max(at - 3, 0) : at] for at, name in enumerate(names)}
    found = [{"kind": "begin", "at": BEGAN}, {"kind": "plan", "at": BEGAN, "needs": needs, "up_to_date": [], "jobs": 2}]
    for at, name in enumerate(names):
        found += [{"kind": "begins", "stage": name, "at": BEGAN + at}]
        found += [{"kind": "ends", "stage": name, "result": "ran", "at": BEGAN + at + 0.9}]
    return found


@pytest.fixture(scope="module")
def pages() -> Path:
    """A folder with each page that we make, of what strangers could bring at worst."""
    folder = Path(os.environ["TEST_OUTPUT"], "our-pages")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def made(pages: Path, events: list[dict[str, Any]], tmp_path: Path) -> Path:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    drawings = drawing.drawings(Project(tmp_path), PIPELINE)
    assert drawings
    runs = {
        "report": page.page(a_run(events, "well", "fit"), drawings),
        "script": page.page(a_run(events, "failed", SCRIPT), drawings),
        "long": page.page(a_run(events, "interrupted", LONG), drawings),
        "live": page.page(a_run(events[:8], "running", "fit"), renew=600),
        "large": page.page(facts.run_of(NAME, large(200), outcome="well")),
    }
    for name, html in runs.items():
        (pages / f"{name}.html").write_text(html)
    (tmp_path / "then/m").mkdir(parents=True)
    (tmp_path / "then/m/roc.csv").write_text(ROC.replace("0.9\n", "0.8\n"))
    for name, base in (("plots", None), ("plots-beside", plots_page.Base(SCRIPT, tmp_path / "then"))):
        made = plots_page.draw(PIPELINE, tmp_path, tmp_path / "dvc_plots", base)
        (pages / f"{name}.html").write_bytes(made.read_bytes())
    return pages


@pytest.fixture
def browser() -> Iterator[str]:
    """Build the image of a browser that has axe-core."""
    clone = Clone(ROOT)
    with (
        browser_image(clone) as plain,
        browser_image(clone, ROOT / "tests" / "pages", BROWSER_IMAGE=plain) as name,
    ):
        yield name


def test_a_browser_has_nothing_against_our_pages(made: Path, browser: str) -> None:
    """In light and dark, on a screen and a phone: report, live page and plots are whole, whatever names are in them."""
    command = ["docker", "run", "--rm", "--network", "none", "--label", Clone(ROOT).label]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={made},dst={made}"]
    done = subprocess.run([*command, browser, str(made)], check=True, stdout=subprocess.PIPE, text=True)
    (made / "seen.json").write_text(done.stdout)
    found = json.loads(done.stdout)
    assert len(found) == 4 * len(list(made.glob("*.html"))) == 28
    for name, seen in found.items():
        own = (made / f"{name.split()[0]}.html").as_uri()
        assert (seen["console"], seen["faults"], seen["asked_for"]) == ([], [], [own]), name
        assert seen["too_wide"] <= 0, name
    assert max(path.stat().st_size for path in made.glob("*.html") if not path.stem.startswith("plots")) < 1_000_000
