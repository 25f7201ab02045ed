import re

import pytest

from scripts.project import UserError
from scripts.registry import reader
from scripts.registry.records import State, Version


def state(*numbers, **aliases):
    tags = {"model_sha256": "0"}
    return State.of([Version(number, "None", "run", tags) for number in numbers], aliases, {})


@pytest.fixture
def pipeline(monkeypatch):
    """Set the models of the pipeline, and what the registry has of any model."""

    def set_up(*names, found=None):
        monkeypatch.setattr(reader, "pipelines_models", lambda: dict.fromkeys(names))
        monkeypatch.setattr(reader, "read", lambda model: found)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")

    return set_up


# --- what the registry has


def test_plain_calls_read_what_mlflows_client_reads(model):
    """What the reader finds of a model without MLflow is what MLflow's client finds, and nothing of no model."""
    assert reader.read(model.name) is None
    for score in (0.8, 0.9):
        model.publish(score)
    assert reader.read(model.name) == model.state()


def test_pages_are_followed(model, monkeypatch):
    """A model with more versions than the server lists at once has them all."""
    model.client.create_registered_model(model.name)
    for _ in range(5):
        model.client.create_model_version(model.name, "s3://elsewhere/model")
    get = reader.get
    monkeypatch.setattr(reader, "get", lambda call, **query: get(call, **query | {"max_results": "2"}))
    assert [version.number for version in reader.read(model.name).versions] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [None, "", "one", "9" * 5000, float("inf"), float("nan"), [], {}])
@pytest.mark.parametrize("of", ["a version", "an alias"])
def test_numbers_that_are_none_are_not_mlflows(monkeypatch, number, of):
    """An answer whose version numbers are none is told as one that is not MLflow's, whatever stands in their place."""
    version = {"version": number if of == "a version" else "1", "current_stage": "None"}
    aliases = [{"alias": "production", "version": number if of == "an alias" else "1"}]
    found = {"registered_model": {"aliases": aliases}, "model_versions": [version]}
    monkeypatch.setattr(reader, "get", lambda call, **query: found)
    with pytest.raises(ValueError, match=reader.NOT_MLFLOWS):
        reader.read("iris")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://127.0.0.1:9/none.mlflow"])
def test_a_server_that_is_away_is_one_sentence(monkeypatch, uri):
    """A server that does not answer is named, with what to do."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=rf"the MLflow server {uri} did not answer \(.*\); ask 'make doctor'"):
        reader.look_up("model")


def test_a_server_that_answers_with_a_page_is_one_sentence(mlflow_server, monkeypatch):
    """An address that gives a page instead of data is told as such."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{mlflow_server}/#")
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match="it answers with a page and not with data"):
        reader.look_up("model")


# --- what a command was asked


def test_a_pipeline_with_one_model_needs_no_name(pipeline):
    """Without MODEL= the pipeline's only model is meant; with it any model of the registry."""
    pipeline("iris", found=state(1))
    assert reader.ask(["model=", "version=1"]) == ({"model": "", "version": "1"}, "iris", state(1))
    assert reader.ask(["model=other", "why=a = b"])[:2] == ({"model": "other", "why": "a = b"}, "other")


def test_a_pipeline_with_several_models_asks_which(pipeline):
    """Without MODEL= a command on one model asks for it, with the names, and does nothing."""
    pipeline("iris", "petals", found=state(1))
    with pytest.raises(UserError, match=r"^MODEL is empty; expected one of iris, petals, as in 'MODEL=iris'$"):
        reader.ask(["model="])
    assert reader.ask(["model=petals"])[1] == "petals"
    assert reader.names({"model": ""}) == ["iris", "petals"]


def test_a_pipeline_without_models_says_so(pipeline):
    """A template without a model line has nothing to look at, unless a name is given."""
    pipeline(found=state(1))
    with pytest.raises(UserError, match=r"dvc.yaml.template has no model; expected a line \{\{ model\(...\) \}\}"):
        reader.ask([])
    assert reader.ask(["model=other"])[1] == "other"


@pytest.mark.parametrize("found", [None, state()])
def test_a_model_without_versions_is_one_sentence(pipeline, found):
    """A model that the registry does not have, or has no version of, is told with what registers one."""
    pipeline("iris", found=found)
    with pytest.raises(UserError, match="there is no version of iris in the registry; expected one: 'make run'"):
        reader.ask([])


@pytest.mark.parametrize(("which", "number"), [("2", 2), ("production", 1), ("staging", 3), ("", 3)])
def test_a_version_is_picked_by_number_or_alias(which, number):
    """A number or an alias names a version; nothing names the newest one if none is in production."""
    assert reader.pick(state(1, 2, 3, production=1, staging=3), which).number == number


def test_by_default_the_version_in_production_is_picked():
    """Nothing names the version that is in production by the records, whatever an alias says meanwhile."""
    found = state(1, 2, 3, production=3)
    decided = found.versions[1]._replace(tags={"model_sha256": "2", "decision": "Production"})
    found = found._replace(versions=(found.versions[0], decided, found.versions[2]))
    assert reader.pick(found, "").number == 2


@pytest.mark.parametrize("which", ["4", "champion", "-1", "1.0"])
def test_what_is_no_version_is_told_with_those_that_are(which):
    """A number or a name that is not there is one sentence with all that are."""
    told = f"there is no version {which}; expected one of 1, 2, production, staging: 'make models' shows them"
    with pytest.raises(UserError, match=f"^{re.escape(told)}"):
        reader.pick(state(1, 2, production=1, staging=2), which)
