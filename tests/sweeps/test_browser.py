"""A browser opens the page of a sweep: nothing in its console, nothing asked of another host, no serious fault."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from scripts.project import ROOT
from scripts.sweeps import page, spec, study
from scripts.sweeps.study import Outcome, Study
from tests.browser.image import browser_image
from tests.conftest import Clone
from tests.sweeps.test_spec import GOOD

pytestmark = [pytest.mark.docker, pytest.mark.deep]
SCRIPT, LONG = "<script src='https://example.org/x.js'></script>&\"'", "n" * 5000


def sweep(trials: int, failed: int = 0, name: str = "cv_accuracy", said: str = "it broke", text: str = "a") -> Study:
    """Return a sweep with so many trials that have a score, and others that failed; strangers' words stand wherever
    they can."""
    target = spec.Target(said, said)
    found = study.new(spec.parse(GOOD), target, said, "0" * 8, {"fit.depth": 3})
    found.parameters.append("fit.kind")
    found.spec["parameters"]["fit.kind"] = {"values": ("a", text)}
    found.metric, found.planned = name, trials + failed
    points = [
        {"fit.depth": (2, 4, None)[n % 3], "fit.rate": 1e-5 * 10 ** (4 * n / 500), "split.share": (0.1, 0.4)[n % 2],
         "fit.kind": ("a", text)[n % 2]}
        for n in range(trials + failed)
    ]  # fmt: skip
    for n, trial in enumerate(found.add(points)):
        score = (n * 7919 % 1000) / 1000 if n < trials else None
        sentence = "" if n < trials else said
        found.end(trial, Outcome(score, {} if score is None else {name: score}, 1.0, ["fit"], sentence))
    found.importance = {"fit.depth": 0.5, "fit.rate": 0.3, "split.share": 0.2, "fit.kind": 0.0}
    return found


SWEEPS = {
    "sweep": sweep(24, 2),
    "sweep-script": sweep(6, 2, SCRIPT, SCRIPT, SCRIPT),
    "sweep-long": sweep(6, 2, LONG, LONG, LONG),
    "sweep-large": sweep(500),
    "sweep-of-failures": sweep(0, 3),
    "sweep-of-one": sweep(1),
}


def test_a_browser_has_nothing_against_the_page() -> None:
    """In light and dark, on a screen and a phone: the page is whole, whatever names are in it and however many trials
    there are, and axe-core finds no serious fault."""
    folder = Path(os.environ["TEST_OUTPUT"], "sweep-pages")
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in SWEEPS.items():
        (folder / f"{name}.html").write_text(page.page(found))
    clone = Clone(ROOT)
    command = ["docker", "run", "--rm", "--network", "none", "--label", clone.label]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={folder},dst={folder}"]
    with (
        browser_image(clone) as plain,
        browser_image(clone, ROOT / "tests" / "pages", BROWSER_IMAGE=plain) as name,
    ):
        done = subprocess.run([*command, name, str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    assert len(found) == 4 * len(SWEEPS)
    for name, seen in found.items():
        own = (folder / f"{name.split()[0]}.html").as_uri()
        assert (seen["console"], seen["faults"], seen["asked_for"]) == ([], [], [own]), name
        assert seen["too_wide"] <= 0, name
    assert max(path.stat().st_size for path in folder.glob("*.html")) < 1_000_000
