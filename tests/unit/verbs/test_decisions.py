"""`make models`, `make promote` and `make rollback`, by what is in a registry. tests/promotion runs them for real."""

import json
import re

import pytest

from scripts.project import UserError
from scripts.registry import glance, reader
from scripts.registry.gate import Gate
from scripts.registry.glance import Glance
from scripts.registry.records import State, Version
from scripts.verbs import models, promote, rollback


def version(number, stage, *, score=0.9, **tags):
    record = {"turn": number, "score": score, "at": "2026-01-01T00:00:00", "by": "ann"}
    own = {"model_sha256": str(number), "decision": stage, "decision_record": json.dumps(record), "reason": "better"}
    return Version(number, stage, "run", own | tags)


PROMOTED = {"promotion_4": json.dumps({"turn": 4, "version": 1, "action": "promote", "by": "bob", "reason": "slow"})}
REGISTRY = State.of(
    [version(1, "Production", accuracy="0.9", git_commit="c" * 40, git_dirty="true", **PROMOTED),
     version(2, "Staging", score=None),
     version(3, "Production"),
     Version(4, "None", "", {}),
     Version(5, "None", "run", {"model_sha256": "5", "test_accuracy": "0.7"})],
    {"production": 1, "staging": 2},
    {},
)  # fmt: skip


@pytest.fixture
def registry(monkeypatch):
    """Set what the registry has of each model of a pipeline."""

    def set_up(**states):
        class Known:
            gate = Gate("accuracy")

        monkeypatch.setattr(reader, "pipelines_models", lambda: dict.fromkeys(states, Known))
        monkeypatch.setattr(reader, "look_up", states.get)
        whole = {name: state and Glance(state, is_whole=True) for name, state in states.items()}
        monkeypatch.setattr(glance, "newest", whole.get)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")

    return set_up


def test_models_has_a_row_a_version(registry, capsys):
    """Each version has its stage, alias, score, commit, who decided and why; the history and persons come below."""
    registry(iris=REGISTRY)
    models.main(["model="])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    rows = {part.split()[0]: " ".join(part.split()) for part in re.split(r"^ {6}(?=\d)", printed, flags=re.M)[1:]}
    assert rows["1"].startswith("1 Production 0.9 better production 2026-01-01T00:00:00 by ann, commit cccccccc")
    assert "and changes" in rows["1"]
    assert rows["2"].startswith("2 Staging better staging 2026-01-01")
    assert rows["4"] == "4 None not registered by this project"
    assert rows["5"].startswith("5 None 0.7 not decided yet")
    assert "in production: 1 -> 3 -> 1" in printed
    assert "?  bob: version 1 in production (promote: slow)" in printed


def test_models_for_a_program(registry, capsys):
    """JSON=1 prints the same with its types: commits whole, scores as numbers, null for what is not known."""
    registry(iris=REGISTRY, petals=None)
    models.main(["model=", "json=1"])
    iris, petals = json.loads(capsys.readouterr().out)["models"]
    assert petals == {"model": "petals", "versions": [], "production": [], "decisions": []}
    first, second, *_ = iris["versions"]
    assert (first["commit"], first["changes"], first["score"], first["aliases"]) == (
        "c" * 40,
        True,
        0.9,
        ["production"],
    )
    assert (second["score"], second["commit"]) == (None, None)
    assert iris["production"] == [1, 3, 1]
    assert iris["decisions"] == [{"at": None, "by": "bob", "action": "promote", "reason": "slow", "version": 1}]


def test_models_prints_every_model_of_the_pipeline(registry, capsys):
    """Without MODEL= all models are shown, one that was never registered too; with it, that one."""
    registry(iris=REGISTRY, petals=None)
    models.main(["model="])
    printed = capsys.readouterr().out
    assert printed.startswith("model: iris\n\n")
    assert "\n\nmodel: petals\nthere is no version of it yet: 'make run' registers one" in printed
    models.main(["model=iris"])
    assert "petals" not in capsys.readouterr().out


def test_models_without_any_version_is_one_sentence(registry):
    """A registry that has none of the pipeline's models is told, by all their names."""
    registry(iris=None, petals=State.of([], {}, {}))
    with pytest.raises(UserError, match="there is no version of iris, petals in the registry; expected"):
        models.main(["model="])


def test_models_of_many_says_what_it_leaves_out(registry, monkeypatch, capsys):
    """Of many versions a part is shown, with the end of the history, and how to see all; a program gets all."""
    registry(iris=REGISTRY)
    part = REGISTRY._replace(versions=REGISTRY.versions[2:])
    monkeypatch.setattr(glance, "newest", lambda name: Glance(part, is_whole=False))
    models.main(["model="])
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 Production" not in printed and "in production: ... -> 3 these are the newest 20, those" in printed
    assert "'make models ALL=1' shows all versions" in printed
    for asked in ("all=1", "json=1"):
        models.main(["model=", asked])
        printed = capsys.readouterr().out
        assert "better" in printed and "ALL=1" not in printed and "left_out" not in printed
        assert '"version": 1' in printed or "in production: 1 -> 3 -> 1" in printed


def test_promote_needs_a_version(registry):
    """`make promote` without VERSION= does nothing and says how it is called."""
    registry(iris=REGISTRY)
    with pytest.raises(UserError, match="VERSION is empty; expected one, as in 'make promote VERSION=3'"):
        promote.main(["model=", "version=", "why="])


def test_rollback_goes_back_in_the_history():
    """The version before the present one, or an earlier one by name; never one that was not in production."""
    assert rollback.target(REGISTRY, "") == 3
    assert rollback.target(REGISTRY, "1") == 1
    with pytest.raises(UserError, match="version 2 was not in production before; expected one of 1, 3"):
        rollback.target(REGISTRY, "2")
    with pytest.raises(UserError, match="no version was in production before this one"):
        rollback.target(State.of([version(1, "Production")], {}, {}), "")
