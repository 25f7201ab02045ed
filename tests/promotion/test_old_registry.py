"""A registry as the stage `train` wrote it before publishing was the runner's work is read and carried on.

Its scores have three fixed names, its rule one of them; a version does not say where its file is, nor what scored it.
"""

import json
import re
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param

from scripts.registry import mlflow, reader, records
from scripts.verbs import models, rollback
from tests.promotion.model import Files, Model

pytestmark = [
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:.*transition_model_version_stage"),
]
RULE = {"metric": "test_accuracy", "min_score": None, "min_improvement": 0.0, "confidence": None}
TEST_DATA = "d" * 64


def register(model: Model, files: Files, score: float) -> int:
    """Make the calls by which the old code made a run and a version; return the version's number."""
    client = model.client
    if experiment := client.get_experiment_by_name(model.name):
        experiment_id = experiment.experiment_id
    else:
        tags = {"mlflow.experimentKind": "custom_model_development"}
        experiment_id = client.create_experiment(model.name, tags=tags)
        client.create_registered_model(model.name)
    digest = files.digest
    tags = {"model_sha256": digest, "mlflow.runName": f"{model.name}-{digest[:8]}", "mlflow.source.name": "train"}
    tags |= {"mlflow.source.git.commit": "abc123", "git_commit": "abc123"}
    run = client.create_run(experiment_id, tags=tags)
    scores = {"test_accuracy": score, "test_f1_macro": score, "test_log_loss": 1 - score}
    run_id = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, run.info.start_time, 0) for name, value in scores.items()],
        params=[Param("n_estimators", "100"), Param("seed", "42")],
    )
    folder = files.candidate.file.parent / "model"
    folder.mkdir()
    (folder / "model.skops").write_bytes(files.candidate.file.read_bytes())
    (folder / "MLmodel").write_text("flavors: {}\n")
    client.log_artifacts(run_id, str(folder), "model")
    client.log_dict(run_id, {"metrics": scores}, "model_metadata.json")
    client.set_terminated(run_id)
    tags = {"model_sha256": digest, "git_commit": "abc123", "test_data_sha256": TEST_DATA}
    tags |= {name: str(value) for name, value in scores.items()}
    source = f"{run.info.artifact_uri}/model"
    return int(client.create_model_version(model.name, source, run_id, tags=tags).version)


def decide(model: Model, number: int, stage: str, score: float, champion: tuple[int, float] | None) -> None:
    """Make the calls by which the old code decided on a version."""
    better = "better" if stage == "Production" else "not better"
    reason = "no version was in production"
    if champion:
        reason = f"{better} than production: its test accuracy {score} against {champion[1]} of version {champion[0]}"
    record = {
        "turn": records.next_turn(model.state()),
        "stage": stage,
        "reason": reason,
        "score": score,
        "test_data_sha256": TEST_DATA,
        "champion": champion and champion[0],
        "champion_score": champion and champion[1],
        "champion_logged_on_sha256": champion and TEST_DATA,
        "p_value": None,
        "replaced": champion[0] if champion and stage == "Production" else None,
        "rule": RULE,
        "at": "2026-01-01T00:00:00+00:00",
        "by": "bob",
    }
    run_id = model.state().version(number).run_id
    model.client.log_dict(run_id, record, f"decisions/{record['turn']}-judged-version-{number}.json")
    model.client.update_model_version(model.name, str(number), description=f"{stage}: {reason}")
    for name, value in (("decision_record", json.dumps(record)), ("reason", reason), ("decision", stage)):
        model.tag(number, name, value)
    apply(model)


def apply(model: Model) -> None:
    """Make the calls by which the old code made stages and aliases follow the records."""
    step = records.next_step(model.state())
    for number, stage in step.stages.items():
        archive = stage == "Production"
        model.client.transition_model_version_stage(model.name, str(number), stage, archive_existing_versions=archive)
    for alias, number in step.aliases.items():
        model.client.set_registered_model_alias(model.name, alias, str(number))
    model.client.set_registered_model_tag(model.name, "production_turn", step.key)


def complete(model: Model, number: int) -> None:
    """Make the calls by which the old code ended a run of the pipeline."""
    folder = model.folder / f"pipeline-{number}"
    folder.mkdir()
    for name in ("dvc.yaml", "dvc.lock", "params.yaml", "images.json"):
        (folder / name).write_text("{}\n")
    run_id = model.state().version(number).run_id
    model.client.log_artifacts(run_id, str(folder), "pipeline")
    for name, value in (("git_commit", "abc123"), ("git_dirty", "false"), ("dvc_lock_sha256", "2" * 64)):
        model.client.set_tag(run_id, name, value)
        model.tag(number, name, value)


@pytest.fixture
def old(model: Model) -> Model:
    """A registry of the old code: 1 and 2 were in production, 3 in Staging; then a person rolled back to 1."""
    champion = None
    for number, (score, stage) in enumerate([(0.8, "Production"), (0.9, "Production"), (0.5, "Staging")], start=1):
        assert register(model, model.files(score), score) == number
        decide(model, number, stage, score, champion)
        complete(model, number)
        champion = (number, score) if stage == "Production" else champion
    record = {"turn": 3, "action": "rollback", "version": 1, "replaced": 2, "reason": "by 'make rollback'"}
    record |= {"at": "2026-01-02T00:00:00+00:00", "by": "bob"}
    model.tag(1, "promotion_3", json.dumps(record))
    apply(model)
    model.client.set_registered_model_alias(model.name, "staging", "3")
    assert model.stages() == {1: "Production", 2: "Archived", 3: "Staging"}
    return model


def test_it_is_at_rest_and_its_history_is_known(old: Model) -> None:
    """Nothing is decided or set again; the history has the rollback, and the next turn comes after all others."""
    state = reader.read(old.name)
    assert (records.next_step(state), records.history(state), records.next_turn(state)) == (None, [1], 4)
    old.check_at_rest()


def test_a_new_model_is_compared_with_the_one_in_production(old: Model) -> None:
    """The old champion, whose record names no scorer, is measured by the scorer of now, and replaced if it is worse."""
    outcome = old.publish(0.85)
    assert outcome.reason == "better than production: its accuracy 0.85 against 0.8 of version 1"
    assert old.measurements == ["model.skops"]
    assert old.stages() == {1: "Archived", 2: "Archived", 3: "Staging", 4: "Production"}
    assert old.publish(0.84).stage == "Staging"
    old.check_at_rest()
    assert records.history(old.state()) == [1, 4]


def test_it_is_rolled_back_further(old: Model) -> None:
    """`make rollback` goes back to what the old code put into production, step by step."""
    old.publish(0.85)
    old.decide(rollback.target(old.state(), ""), "rollback")
    assert (old.stages()[1], old.stages()[4]) == ("Production", "Archived")
    old.decide(2, "promote")
    old.check_at_rest()
    assert records.history(old.state()) == [1, 2]


def test_a_version_that_waits_for_its_decision_gets_it(old: Model) -> None:
    """A version that the old code registered and was killed over is measured and decided on first."""
    register(old, old.files(0.95), 0.95)
    assert old.publish(0.9).reason == "not better than production: its accuracy 0.9 against 0.95 of version 4"
    assert old.stages() == {1: "Archived", 2: "Archived", 3: "Staging", 4: "Production", 5: "Staging"}
    assert old.measurements == ["model.skops", "model.skops"]
    assert old.state().version(4).record["score"] == 0.95


def test_a_model_that_the_old_code_published_is_published_to_its_end(old: Model) -> None:
    """The same bytes are neither a new run nor a new version: the old ones get what is new, and keep their decision."""
    before = old.state().version(3)
    file = old.folder / f"{old.name}-2" / "model.json"
    files = old.files(0.5)
    files.candidate.file.write_bytes(file.read_bytes())
    outcome = old.publish_files(files)
    old.complete(outcome)
    assert (outcome.version, outcome.stage, outcome.run_id) == ("3", "Staging", before.run_id)
    after = old.state().version(3)
    assert after.tags["decision_record"] == before.tags["decision_record"]
    assert after.tags["dvc_lock_sha256"] == "1" * 64
    run = old.client.get_run(before.run_id)
    assert run.data.params == {"n_estimators": "100", "seed": "42", "preprocess.seed": "3"}
    assert run.data.metrics["accuracy"] == 0.5


def test_its_files_are_found(old: Model, tmp_path: Path) -> None:
    """A version without the tag of its file has it where the old code put it."""
    version = old.state().version(2)
    found = mlflow.artifact(mlflow.run_of(old.client, version), version.file, tmp_path)
    assert json.loads(found.read_text())["score"] == 0.9


def test_models_shows_it(old: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`make models` shows the scores, stages and reasons of the old code, and what a person decided."""
    monkeypatch.setattr(reader, "pipelines_models", dict)
    models.main([f"model={old.name}"])
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if re.match(r" *[123]  \w", line)]
    assert [line[:2] for line in lines] == [["1", "Production"], ["2", "Archived"], ["3", "Staging"]]
    assert [score for score in ("0.8", "0.9", "0.5") if f" {score} " not in printed] == []
    assert "bob: version 1 in production (rollback: by 'make rollback')" in " ".join(printed.split())
