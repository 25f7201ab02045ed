"""The report of a run says of each model what became of it."""

import pytest

from scripts.registry import summary
from scripts.registry.receipts import Published

ONE = Published("iris", "3", "Production", "0.9667 beats 0.9333", "f1_macro", 0.96667, "Production", True)


@pytest.fixture(autouse=True)
def server(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.com/me/it.mlflow")


def test_a_model_has_its_version_its_score_and_its_decision():
    """Two lines a model, and where to look at it."""
    assert summary.lines([ONE]) == [
        "model     iris version 3, published now: f1 macro 0.9667",
        "decision  Production: 0.9667 beats 0.9333",
        "look at   https://example.com/me/it/#/models/iris?workflowType=machine_learning",
    ]


@pytest.mark.parametrize(("name", "linked"), [("my model", "my%20model"), ("a  b", "a%20%20b"), ("a-b_c", "a-b_c")])
def test_a_link_is_one_word(name, linked):
    """The link to a model whose name has spaces can be clicked, and pasted, as any other."""
    assert (
        summary.lines([ONE._replace(model=name)])[-1]
        == f"look at   https://example.com/me/it/#/models/{linked}?workflowType=machine_learning"
    )


def test_what_was_there_before_is_said():
    """A run with nothing to publish says so; a version that was archived since has both what it is and what it was."""
    lines = summary.lines([ONE._replace(news=False, now="Archived")])
    assert lines[0] == "model     iris version 3, published before: f1 macro 0.9667"
    assert lines[1] == "decision  Archived now; when it came, Production: 0.9667 beats 0.9333"


def test_a_model_without_a_score_is_said_to_have_none():
    """A model that could not be measured has no number that looks like one."""
    assert summary.lines([ONE._replace(score=None)])[0].endswith(": not measured")


def test_several_models_are_looked_at_in_one_place():
    """With two models the last line leads to the list of all."""
    lines = summary.lines([ONE, ONE._replace(model="petals", metric="per_class.a.f1")])
    assert len(lines) == 5 and "per class a f1 0.9667" in lines[2]
    assert lines[-1] == "look at   https://example.com/me/it/#/models?workflowType=machine_learning"


def test_without_models_there_is_nothing_to_say():
    """A pipeline without models has no line about them."""
    assert summary.lines([]) == []


def test_the_local_server_is_named_as_a_browser_finds_it(docker, monkeypatch):
    """The name that containers use is no use in a browser: the host's address and port are asked of the engine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    docker.does("container ls", "echo '127.0.0.1:5123->5000/tcp'")
    assert summary.lines([ONE])[-1] == "look at   http://127.0.0.1:5123/#/models/iris?workflowType=machine_learning"
