"""`make run` with nothing to do: decided without DVC, if all is as it was and the registry has the models still."""

import os
from contextlib import nullcontext

import pytest

from scripts import mlflow_server, training
from scripts.pipeline.at_rest import Look
from scripts.pipeline.stage import Pipeline
from scripts.registry.receipts import OnDisk, Published
from scripts.verbs import run

MODEL = OnDisk("m", "digest", "lock", "accuracy", 0.9)
TAGS = {"model_sha256": "digest", "dvc_lock_sha256": "lock", "decision": "Production", "reason": "the first"}


@pytest.fixture(autouse=True)
def local_server(monkeypatch):
    """Count how often the local server is started."""
    started = []
    monkeypatch.setattr(mlflow_server, "start", lambda: started.append(1))
    return started


def note(project, *models):
    """Note, as a run does, that it had nothing to do."""
    look = Look(project, [], os.environ)
    look.at([])
    look.found_nothing_to_do = True
    look.note(models)


def known(project):
    """Return what the next run knows."""
    look = Look(project, [], os.environ)
    assert look.known() is not None  # so what is not known is the registry's
    return run.published_before(look)


@pytest.fixture
def in_production(registry):
    """Return a function that lets the registry have a version in production."""

    def add(**tags):
        registry.add("m", stage="Production", **tags)
        registry.aliases["m"], registry.tags["m"] = {"production": 1}, {"production_turn": "1.0.1"}

    return add


def test_what_the_registry_has_still_is_told(project, in_production):
    """The models of the last run with nothing to do are told as the registry has them now."""
    note(project, MODEL)
    in_production(**TAGS)
    assert known(project) == [Published("m", "1", "Production", "the first", "accuracy", 0.9, "Production", False)]


@pytest.mark.parametrize("change", [{"model_sha256": "other"}, {"dvc_lock_sha256": "other"}])
def test_what_the_registry_lacks_is_to_be_published(project, in_production, change):
    """If the registry has no such version any more, there is something to do."""
    note(project, MODEL)
    in_production(**(TAGS | change))
    assert known(project) is None


def test_a_registry_that_is_away_is_left_to_who_starts_it(project, monkeypatch):
    """No answer is no receipt: the ordinary way starts the server, or says what is wrong with it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    note(project, MODEL)
    assert known(project) is None


def test_without_models_the_server_is_started_all_the_same(project, monkeypatch, local_server):
    """A pipeline without models has MLflow beside it, as after any run."""
    monkeypatch.setattr(run.settings, "is_local", lambda environ: True)
    note(project)
    assert known(project) == [] and local_server == [1]


def test_nothing_is_known_at_first(project):
    """A clone in which no run has had nothing to do knows of none."""
    assert run.published_before(Look(project, [], os.environ)) is None


@pytest.mark.parametrize("news", [True, False])
@pytest.mark.parametrize("to_do", [True, False])
def test_a_run_notes_that_no_stage_had_anything_to_do(project, monkeypatch, news, to_do):
    """If all stages were up to date that is noted, also by the run that published their models."""

    def publish_only(targets, pipeline, wanted, models, heard, look):
        look.at([])
        look.found_nothing_to_do = not to_do
        return [], [Published("m", "1", "Production", "the first", "accuracy", 0.9, "Production", news)]

    monkeypatch.setattr(training, "PROJECT", project)
    monkeypatch.setattr(training.images, "load", dict)
    monkeypatch.setattr(training.template, "load", lambda images: Pipeline("", {}))
    monkeypatch.setattr(training.template, "write", lambda pipeline: False)
    monkeypatch.setattr(training.rooms, "hearing", lambda *about: nullcontext())
    monkeypatch.setattr(training, "_train_and_publish", publish_only)
    training.train([], Look(project, [], os.environ))
    assert (Look(project, [], os.environ).known() is None) == to_do
