"""`make plots BASE=` draws the plots at hand beside those of a commit, from what DVC's cache has of them."""

import base64
import hashlib
import json
import re
import subprocess

import pytest

from scripts.pipeline.stage import Pipeline, Stage
from scripts.project import Project, UserError
from scripts.verbs import plots
from tests.unit.conftest import empty_repository  # noqa: F401

ROC = "class,fpr,tpr\na,0,0\na,1,1\nb,0,0\nb,1,{end}\n"
PATHS = {"roc": "m/roc.csv", "same": "m/same.csv", "seen": "m/seen.png"}
BEFORE = {"m/roc.csv": ROC.format(end=0.5), "m/same.csv": "step,loss\n1,2\n2,1\n", "m/seen.png": "before"}
NOW = BEFORE | {"m/roc.csv": ROC.format(end=1), "m/seen.png": "now"}
PIPELINE = Pipeline(
    "", {"score": Stage("score", "", plots=PATHS)}, plots=[{"m/roc.csv": {"x": "fpr", "y": "tpr", "title": "ROC"}}]
)


def git(root, *arguments):
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(empty_repository, tmp_path, monkeypatch):  # noqa: F811
    """A project whose HEAD has the plots of BEFORE, in DVC's cache, and whose folder those of NOW."""
    root = tmp_path / "project"
    subprocess.run(["cp", "-r", str(empty_repository), str(root)], check=True)
    outs = []
    for path, text in BEFORE.items():
        digest = hashlib.md5(text.encode()).hexdigest()
        place(root, digest).parent.mkdir(parents=True, exist_ok=True)
        place(root, digest).write_text(text)
        outs.append({"path": path, "md5": digest})
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"score": {"cmd": "x", "outs": outs}}}))
    git(root, "add", "dvc.lock")
    git(root, "commit", "-qm", "x")
    (root / "m").mkdir()
    for path, text in NOW.items():
        (root / path).write_text(text)
    monkeypatch.setattr(plots.template, "load", lambda root: PIPELINE)
    return Project(root)


def place(root, digest):
    return root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def sections(project, base):
    """Return what the page has of each plot: the captions, and the pictures."""
    plots.main([f"base={base}"], project)
    page = (project.root / "dvc_plots/index.html").read_text()
    assert not re.search(r"https?:|<script|@import|url\(", page)
    found = {}
    for text in page.split("<section>")[1:]:
        name = re.search(r"<h2>(.*)</h2>", text)[1]
        found[name] = (re.findall(r"<figcaption>(.*)</figcaption>", text), re.findall(r'<img src="(.*?)"', text))
    return found


def test_side_by_side(project):
    """A plot that differs is there as it is and as it was; one that does not is there once; pictures of stages too."""
    git(project.root, "branch", "main-of-then")
    found = sections(project, "main-of-then")
    base = f"main-of-then ({git(project.root, 'rev-parse', 'HEAD')[:8]})"
    (captions, (now, then)), (same, _), (seen, images) = (found[name] for name in PATHS.values())
    assert captions == seen == ["now", base] and same == [f"now, and in {base}"]
    assert now != then and all(source.startswith("data:image/svg+xml;base64,") for source in (now, then))
    assert (images[0], base64.b64decode(images[1].partition(",")[2])) == ("../m/seen.png", b"before")


def test_what_the_cache_lacks_is_said(project, capsys):
    """Of a commit whose results are not in DVC's cache a line says so, and how they come; the rest is drawn."""
    digest = hashlib.md5(BEFORE["m/roc.csv"].encode()).hexdigest()
    place(project.root, digest).unlink()
    assert sections(project, "HEAD")["m/roc.csv"][0] == ["now"]
    assert "note: DVC's cache lacks m/roc.csv of HEAD: 'dvc fetch --all-commits'" in capsys.readouterr().out


@pytest.mark.parametrize("base", ["nowhere", "--help", "HEAD:dvc.lock", "a\x1bb"])
def test_a_base_that_is_no_commit(project, base):
    """What names no commit is one sentence."""
    with pytest.raises(UserError, match="which names no commit here; expected one"):
        plots.main([f"base={base}"], project)


def test_without_a_base(project):
    """Without BASE the page has each plot once."""
    plots.main(["base="], project)
    page = (project.root / "dvc_plots/index.html").read_text()
    assert page.count("<img ") == 3 and "beside" not in page
