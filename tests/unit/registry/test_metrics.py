"""`make metrics` shows the numbers of the metrics files, a line each, beside those of HEAD."""

import hashlib
import json
import subprocess

import pytest

from scripts import tables
from scripts.pipeline.stage import Pipeline, Stage
from scripts.project import Project
from scripts.registry import metrics
from tests.unit.conftest import empty_repository  # noqa: F401

BEFORE = {"m/score.json": '{"accuracy": 0.8, "deep": {"f1": 0.5}, "gone": 1}', "m/loss.toml": "loss = 2.5\n"}
NOW = {"m/score.json": '{"accuracy": 0.9, "deep": {"f1": 0.5}, "new": NaN}', "m/loss.toml": "loss = 1.5\n"}
PIPELINE = Pipeline("", {"score": Stage("score", "", metrics={"a": "m/score.json", "b": "m/loss.toml"})})


@pytest.fixture
def project(empty_repository, tmp_path):  # noqa: F811
    """A project whose HEAD has the metrics of BEFORE, in DVC's cache, and whose folder those of NOW."""
    root = tmp_path / "project"
    subprocess.run(["cp", "-r", str(empty_repository), str(root)], check=True)
    outs = []
    for path, text in BEFORE.items():
        digest = hashlib.md5(text.encode()).hexdigest()
        cached = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_text(text)
        outs.append({"path": path, "md5": digest})
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"score": {"cmd": "x", "outs": outs}}}))
    for command in (["add", "dvc.lock"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    (root / "m").mkdir()
    for path, text in NOW.items():
        (root / path).write_text(text)
    return Project(root)


def shown(found, form):
    """Return what `make metrics` prints of metrics."""
    return tables.written(form, {"metrics": [metric._asdict() for metric in found]}, metrics.parts(found))


def test_a_line_a_metric(project):
    """Each number has a line with its value, that of HEAD, and the change; in 80 columns, whatever its name."""
    found = list(metrics.metrics(PIPELINE, project))
    lines = [line.split() for line in shown(found, tables.Form.TEXT).splitlines()]
    assert ["accuracy", "0.9", "0.8", "+0.1"] in lines
    assert ["deep.f1", "0.5", "0.5"] in lines
    assert ["gone", "1"] in lines and ["new", "nan"] in lines
    assert ["loss", "1.5", "2.5", "-1"] in lines
    long = metrics.Metric("m/" + "f" * 300, "n" * 10_000 + "\x1b[2J", -1.23456e-100, 1.23456e-100)
    told = shown([*found, long], tables.Form.TEXT)
    assert max(map(len, told.splitlines())) <= 80 and "\x1b" not in told


def test_the_same_for_a_program(project):
    """JSON=1 prints JSON, in which a number that is none is null."""
    told = shown(list(metrics.metrics(PIPELINE, project)), tables.Form.JSON)
    rows = json.loads(told, parse_constant=pytest.fail)["metrics"]
    assert {"file": "m/score.json", "name": "accuracy", "now": 0.9, "head": 0.8} in rows
    assert {"file": "m/score.json", "name": "new", "now": None, "head": None} in rows


@pytest.mark.parametrize(
    "lock", ["<<<<<<< a\n", "[]", "stages: 3", "stages: {score: {outs: [{path: m/score.json, md5: ../x}]}}"]
)
def test_without_those_of_head(project, lock):
    """A dvc.lock of HEAD that is none, or names what DVC's cache has not, leaves that column empty."""
    (project.root / "dvc.lock").write_text(lock)
    subprocess.run(
        ["git", "-C", str(project.root), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "y"], check=True
    )
    found = list(metrics.metrics(PIPELINE, project))
    assert {metric.head for metric in found} == {None} and len(found) == 4
