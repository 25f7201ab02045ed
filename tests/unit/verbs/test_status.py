"""`make status` says in a line a stage what a run would do, and whether each model at hand is published."""

import json

import pytest

from scripts.explain.causes import Cause
from scripts.pipeline.dvc_adapter import Forecast, Will
from scripts.pipeline.stage import Model, Pipeline
from scripts.project import Project, UserError
from scripts.registry import publish, receipts
from scripts.registry.gate import Gate
from scripts.verbs import status

MODEL = Model("flowers", "m/model", "s/metrics.json", "fit", "score", "flowers", Gate("accuracy"))
REASON = "not better than production: accuracy 0.9 is no more than 0.933333 of version 2, which is in production"
RECEIPT = publish.Published("flowers", "3", "Staging", REASON, "accuracy", 0.9, "Production", news=False)
STAGES = [
    (Forecast("fit", Will.RUN), [Cause("parameter", "depth 1 -> 2"), Cause("input", "d/raw.csv differs")]),
    (Forecast("score", Will.WAIT, waits_for=["fit"]), []),
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a model and its metrics, whose local MLflow server is not asked for real."""
    for path in (MODEL.file, MODEL.metrics):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("{}")
    (tmp_path / ".local").mkdir()
    monkeypatch.setattr(status.template, "load", lambda root: Pipeline("", {}, [MODEL]))
    monkeypatch.setattr(status.explanation, "explain", lambda *arguments, **options: STAGES)
    monkeypatch.setattr(status.settings, "is_local", lambda environ: True)
    return Project(tmp_path)


def told(project, capsys, monkeypatch, receipt, *arguments):
    def answer(*_):
        if isinstance(receipt, Exception):
            raise receipt
        return receipt

    monkeypatch.setattr(publish, "receipt", answer)
    status.main(list(arguments), project)
    return capsys.readouterr().out


def test_stages_and_models(project, capsys, monkeypatch):
    """A stage has what a run would do with it, and each cause; a model its version, its stage, and why."""
    printed = told(project, capsys, monkeypatch, RECEIPT)
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.split())
    assert "fit will run parameter: depth 1 -> 2" in words and "input: d/raw.csv differs" in words
    assert "would run: fit; may run: score" in words
    assert "flowers version 3, Production not better than" in words


def test_for_a_program(project, capsys, monkeypatch):
    """JSON=1 prints what `make explain JSON=1` does, and the models."""
    found = json.loads(told(project, capsys, monkeypatch, RECEIPT, "json=1"))
    assert found["would_run"] == ["fit", "score"] and found["stages"][0]["will"] == "run"
    assert found["models"] == [
        {"model": "flowers", "file": "m/model", "published": True, "version": 3, "stage": "Production", "why": REASON}
    ]


@pytest.mark.parametrize(
    ("receipt", "published", "why"),
    [
        (None, "no", "'make publish' does it, or the next 'make run'"),
        (receipts.not_published(MODEL, "away", receipts.NotPublishedYet), "not known", "away; 'make ui' starts it"),
        (receipts.not_published(MODEL, "a tag is none"), "not known", "a tag is none"),
        (UserError("dvc.lock has no entry of fit"), "not known", "dvc.lock has no entry of fit"),
    ],
    ids=["not published", "server away", "unclear", "no lock"],
)  # fmt: skip
def test_a_model_that_is_not_published(project, capsys, monkeypatch, receipt, published, why):
    """A model that the registry lacks, or of which it cannot be asked, is told with what to do, and all ends well."""
    words = " ".join(told(project, capsys, monkeypatch, receipt).split())
    assert f"flowers {published} {why}" in words


def test_a_model_that_is_not_made(project, capsys, monkeypatch):
    """A model without a file is told, and the registry is not asked."""
    (project.root / MODEL.file).unlink()
    words = " ".join(told(project, capsys, monkeypatch, AssertionError("asked")).split())
    assert "flowers no it is not made yet: 'make run' makes it" in words
