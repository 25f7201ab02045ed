"""How versions are measured and a registry comes to rest, on a real server. tests/promotion has all the situations."""

import json
import time

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from scripts.registry import mlflow, reconcile
from scripts.registry.mlflow import RegistryError

pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage")


def test_a_registry_at_rest_is_left_alone(model):
    """Nothing is written where stages and aliases follow the records and all versions are decided on."""
    model.publish(0.9)
    before = model.state()
    assert reconcile.reconcile(model.client, model.name, "bob") == before == model.state()


def test_a_dead_machines_tag_is_deleted(model):
    """A machine that has said for long that it sets stages is dead; one that has just begun is not."""
    model.publish(0.9)
    now = time.time()
    for name, since in (("applying_dead", now - 700), ("applying_alive", now)):
        model.client.set_registered_model_tag(model.name, name, str(since))
    reconcile.reconcile(model.client, model.name, "bob")
    assert [*model.state().applying] == ["applying_alive"]


def test_a_server_that_keeps_no_stages_is_told(model, monkeypatch):
    """A server that takes a stage and an alias and does not keep them is named, instead of asked for ever."""
    model.publish(0.5)
    for call in ("transition_model_version_stage", "set_registered_model_alias"):
        monkeypatch.setattr(f"mlflow.MlflowClient.{call}", lambda *_, **__: None)
    with pytest.raises(RegistryError, match=r"was put into production, but the server has .* expected one that keeps"):
        model.publish(0.9)


def test_a_person_is_recorded_with_what_was_there(model):
    """A person's decision names who, what it replaced and why, in a tag and an artifact."""
    model.publish(0.8)
    model.publish(0.9)
    reconcile.decide_by_person(model.client, model.name, "bob", model.state(), 1, "promote", "the new one is slow")
    record = model.state().version(1).parsed("promotion_3")
    said = {"action": "promote", "version": 1, "replaced": 2, "reason": "the new one is slow", "by": "bob", "turn": 3}
    assert record == said | {"at": record["at"]}
    run = model.client.get_run(model.state().version(1).run_id)
    assert mlflow.artifact(run, "decisions/3-promote-version-1.json", model.folder)
    reconcile.reconcile(model.client, model.name, "bob")
    assert model.stages() == {1: "Production", 2: "Archived"}


def test_a_note_stands_in_the_record_beside_the_reason(model):
    """What a room has to say of the candidate is in its record and its reason, and of no other version's."""
    model.publish(0.8)
    model.note = "best of 24\nby x"
    model.publish(0.9)
    first, second = (model.state().version(number) for number in (1, 2))
    assert second.tags["reason"].endswith("; best of 24 by x")
    kept = [
        mlflow.artifact(model.client.get_run(version.run_id), version.record["artifact"], model.folder)
        for version in (first, second)
    ]
    first, last = (json.loads(path.read_text()) for path in kept)
    assert (last["note"], last["reason"]) == ("best of 24 by x", second.tags["reason"]) and "note" not in first


def test_rows_that_somebody_edited_are_measured_again(model):
    """A file of row scores that holds none is not believed: the champion is measured by the scorer."""
    model.set_gate(confidence=0.95)
    outcome = model.publish(0.7, right=14)
    model.client.log_text(outcome.run_id, "{}", model.scored_by.rows_file)
    assert model.publish(1.0, right=20).stage == "Production"
    assert model.measurements == ["model.json"]


@pytest.mark.parametrize(
    "content", [b"", b"5", b"[1, null]", b'"text"', b"[[", b"[" * 50_000, b"\xff", b"[1" + b"0" * 400]
)
def test_what_is_no_list_of_scores_is_none(content):
    """Whatever a server answers instead of the scores of rows is no scores, and no crash."""
    assert reconcile.parsed_rows(content) is None
    assert reconcile.parsed_rows(b"[1, 0.5]") == (1.0, 0.5)


def test_without_rows_in_the_pipeline_no_rows_are_asked_for(model):
    """With a confidence but without rows nothing is measured in vain, and nothing is promoted over another model."""
    model.set_gate(confidence=0.95)
    model.publish(0.7)
    assert model.publish(1.0).stage == "Staging"
    assert model.measurements == []


def test_a_download_that_differs_is_repeated(model, monkeypatch):
    """A file that another machine is just sending is looked at again before it counts as another one."""
    seen, artifact = [], mlflow.artifact

    def half_sent(run, path, folder):
        found = artifact(run, path, folder)
        if path.startswith("model/") and len(seen) < 2:
            seen.append(found)
            found.write_text("half")
        return found

    monkeypatch.setattr(reconcile, "artifact", half_sent)
    assert model.publish(0.9).stage == "Production"
    assert len(seen) == 2


@pytest.fixture
def of_many(model, monkeypatch):
    """A model whose versions count as many, and how often all of them were read."""
    read, page = [], mlflow._page

    def counted(query):
        if "order_by" not in query and " and " not in query["filter"]:
            read.append(query)
        return page(query)

    monkeypatch.setattr(mlflow, "FEW", 0)
    monkeypatch.setattr(mlflow, "CLOCKS", 0)
    monkeypatch.setattr(mlflow, "_page", counted)
    return model, read


def test_a_promotion_reads_all_versions_twice(of_many):
    """However many steps a promotion takes, all versions are read at its begin and at its end."""
    model, read = of_many
    model.publish(0.8)
    read.clear()
    assert model.publish(0.9).stage == "Production"
    assert len(read) == 2
    model.check_at_rest()


def test_what_changed_is_read_again(of_many):
    """New versions, decisions, stages and aliases of others are seen without reading all versions."""
    model, read = of_many
    model.publish(0.8)
    reading = mlflow.Reading(model.client, model.name)
    changes = [lambda: model.publish(0.9), lambda: model.put(1, "Staging"), lambda: model.stranger(), lambda: None]
    for change in changes:
        reading.now()
        change()
        read.clear()
        found = reading.now()
        assert found == model.state()
    assert len(read) == 1 and not reading.is_whole  # the one is of the state that it is compared with


def test_a_decision_that_nobody_applied_is_found_at_the_end(of_many):
    """What another machine recorded and did not live to apply counts, though no version shows that it was changed."""
    model, _ = of_many
    for score in (0.9, 0.8, 0.7):
        model.publish(score)
    reading = mlflow.Reading(model.client, model.name)
    state = reading.now()
    reconcile.decide_by_person(model.client, model.name, "bob", state, 2, "promote", "killed then")
    assert reading.now() == state
    assert reconcile.reconcile(model.client, model.name, "ann", reading=reading).aliases["production"] == 2
    model.check_at_rest()


def test_a_change_by_hand_is_recorded_once(of_many):
    """A person's change of a stage is adopted as one decision, also where not all versions are read again."""
    model, _ = of_many
    model.publish(0.9)
    model.publish(0.8)
    model.put(2, "Production")
    state = reconcile.reconcile(model.client, model.name, "ann")
    made = [tag for version in state.versions for tag in version.tags if tag.startswith("promotion_")]
    assert (made, state.aliases["production"]) == (["promotion_2"], 2)


def test_a_server_without_an_order_is_read_whole(of_many, monkeypatch):
    """A server that refuses to list versions by their last change is read whole at each step, and all goes well."""
    model, read = of_many
    page = mlflow._page

    def refuse(query):
        if "order_by" in query or " and " in query["filter"]:
            raise MlflowException("no such order", error_code=INVALID_PARAMETER_VALUE)
        return page(query)

    monkeypatch.setattr(mlflow, "_page", refuse)
    model.publish(0.8)
    assert model.publish(0.9).stage == "Production"
    assert len(read) > 5
    model.check_at_rest()


def test_a_server_that_finds_nothing_by_a_tag_registers_no_model_twice(of_many, monkeypatch):
    """A server that says that it has no version of a content that it has: the version made beside it is taken back."""
    model, _ = of_many
    page = mlflow._page
    monkeypatch.setattr(mlflow, "_page", lambda query: {} if " and " in query["filter"] else page(query))
    files = model.files(0.9)
    first, again = model.publish_files(files), model.publish_files(files)
    assert (first.version, again.version) == ("1", "1")
    model.check_at_rest()
