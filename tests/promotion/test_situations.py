"""What becomes of a new model, and of production, in whatever situation it comes; on the old and the current MLflow."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import nan
from typing import NamedTuple

import numpy as np
import pytest

from stages.train import scoring, server
from stages.train.server import RegistryError
from tests.promotion.conftest import Model

pytestmark = [
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:.*transition_model_version_stage"),
]
P, S, A = "Production", "Staging", "Archived"


class Situation(NamedTuple):
    """What happened, one step after the other; the last published model is judged.

    `stages` is what the versions end in; `reason` stands in that of the last decision, or in the error.
    """

    name: str
    steps: list[Callable[[Model], object]]
    stages: Mapping[int, str]
    reason: str = ""


def publish(score: float, **options: object) -> Callable[[Model], object]:
    return lambda model: model.publish(score, **options)


def do(what: str, *arguments: object, **options: object) -> Callable[[Model], object]:
    """Calls a method of Model."""
    return lambda model: getattr(model, what)(*arguments, **options)


def gate(**changes: object) -> Callable[[Model], object]:
    return do("set_gate", **changes)


TWO = [publish(0.8), publish(0.9)]  # 1 is archived, 2 in production
SITUATIONS = [
    # nothing in production
    Situation("no model", [publish(0.1)], {1: P}, "no version was in production"),
    Situation("no model, below the least score", [gate(min_score=0.5), publish(0.1)], {1: S}, "not good enough"),
    Situation("no model, NaN", [publish(nan)], {1: S}, "not a number"),
    Situation("a stranger, nowhere", [do("stranger"), publish(0.1)], {1: "None", 2: P}, "no version was"),
    Situation("a stranger, archived", [do("stranger", A), publish(0.1)], {1: A, 2: P}, "no version was"),
    Situation("only staging", [publish(nan), publish(0.1)], {1: S, 2: P}, "no version was"),
    Situation("archived only", [*TWO, do("put", 2, A), publish(0.1)], {1: A, 2: A, 3: P}, "no version was"),
    Situation("all deleted", [publish(0.9), do("delete", 1), publish(0.1)], {2: P}, "no version was"),
    # better, equal, worse
    Situation("better", TWO, {1: A, 2: P}, "better than production: its test accuracy 0.9 against 0.8 of version 1"),
    Situation("equal", [publish(0.8), publish(0.8)], {1: P, 2: S}, "not better"),
    Situation("worse", [publish(0.8), publish(0.7)], {1: P, 2: S}, "not better"),
    Situation("better than what staging has", [publish(0.5), publish(0.1), publish(0.4)], {1: P, 2: S, 3: S}, "0.5"),
    Situation("NaN", [publish(0.8), publish(nan)], {1: P, 2: S}, "its test accuracy is not a number"),
    Situation("a champion of NaN", [publish(0.8), do("tag", 1, "test_accuracy", "nan"), publish(0.9)], {1: P, 2: S},
              "version 1 cannot be scored: its test accuracy is not a number"),
    Situation("a champion without a number", [publish(0.8), do("tag", 1, "test_accuracy", "good"), publish(0.9)],
              {1: P, 2: S}, "version 1 cannot be scored: its tag test_accuracy is 'good'"),
    # the gate
    Situation("too little better", [publish(0.8), gate(min_improvement=0.2), publish(0.9)], {1: P, 2: S}, "0.2 more"),
    Situation("better by enough", [publish(0.7), gate(min_improvement=0.1), publish(0.9)], {1: A, 2: P}, "better"),
    Situation("better, below the least score", [publish(0.8), gate(min_score=0.95), publish(0.9)], {1: P, 2: S},
              "not good enough"),
    Situation("a lower loss", [gate(metric="test_log_loss"), publish(0.8), publish(0.7)], {1: A, 2: P}, "log loss"),
    Situation("a higher loss", [gate(metric="test_log_loss"), publish(0.7), publish(0.8)], {1: P, 2: S}, "log loss"),
    Situation("another metric", [publish(0.7), gate(metric="test_f1_macro"), publish(0.8)], {1: A, 2: P}, "f1"),
    Situation("not surely better", [publish(0.8), gate(confidence=0.95), publish(0.9)], {1: P, 2: S}, "p = 1, 0.05"),
    Situation("not surely better, its file gone", [publish(0.8), do("lose_file", 1), gate(confidence=0.95),
              publish(0.9)], {1: P, 2: S}, "p = unknown"),
    # other test data: the champion, which tells all rows of the usual test set, is scored on the new one
    Situation("worse on other data than was logged", [publish(1.0), publish(0.8, right=14)], {1: A, 2: P},
              "0.8 against 0.7 of version 1"),
    Situation("better by the numbers, worse on the same data", [publish(0.5), publish(0.6, right=14)], {1: P, 2: S},
              "0.6 against 0.7 of version 1"),
    Situation("equal on the same data", [publish(0.5), publish(0.7, right=14)], {1: P, 2: S}, "0.7 against 0.7"),
    Situation("other columns", [publish(0.5), publish(0.9, column="z")], {1: P, 2: S},
              "version 1 cannot be scored: it reads the columns x, the test set has z"),
    Situation("other data, the champion's file gone", [publish(0.5), do("lose_file", 1), publish(0.9, right=14)],
              {1: P, 2: S}, "version 1 cannot be scored: its file is gone"),
    Situation("the same data, the champion's file gone", [publish(0.5), do("lose_file", 1), publish(0.9)],
              {1: A, 2: P}, "0.9 against 0.5"),
    Situation("other data, the champion's file changed", [publish(0.5), do("change_file", 1), publish(0.9, right=14)],
              {1: P, 2: S}, "its file is not the one that was registered"),
    # a stranger in production
    Situation("a stranger in production", [do("stranger", P), publish(0.9)], {1: P, 2: S}, "its run is gone"),
    Situation("a stranger takes over", [publish(0.5), do("stranger"), do("put", 1, A), do("put", 2, P), publish(0.9)],
              {1: A, 2: P, 3: S}, "version 2 cannot be scored"),
    # by hand
    Situation("alias deleted", [*TWO, do("alias", None), publish(0.1)], {1: A, 2: P, 3: S}, "0.9 of version 2"),
    Situation("alias on another", [*TWO, do("alias", 1), publish(0.85)], {1: A, 2: A, 3: P}, "0.8 of version 1"),
    Situation("alias without version", [*TWO, do("delete", 2), publish(0.1)], {1: P, 3: S}, "0.8 of version 1"),
    Situation("put back by hand", [*TWO, do("put", 2, A), do("put", 1, P), publish(0.85)], {1: A, 2: A, 3: P},
              "0.8 of version 1"),
    Situation("put back beside the other", [*TWO, do("put", 1, P), publish(0.7)], {1: P, 2: A, 3: S}, "of version 1"),
    Situation("staging put up by hand", [publish(0.8), publish(0.5), do("put", 2, P), publish(0.6)],
              {1: A, 2: A, 3: P}, "0.5 of version 2"),
    Situation("two put up by hand", [*TWO, publish(0.1), do("put", 1, P), do("put", 3, P), publish(0.95)], {},
              "versions 1 and 3 are both in production in the registry's pages; expected one: 'make promote"),
    Situation("staging archived by hand", [publish(0.8), publish(0.5), do("put", 2, A), publish(0.6)],
              {1: P, 2: A, 3: S}, "not better"),
    # a person's decision
    Situation("promoted, then worse than that", [publish(0.8), publish(0.5), do("decide", 2, "promote"), publish(0.4)],
              {1: A, 2: P, 3: S}, "0.4 against 0.5 of version 2"),
    Situation("promoted, then better than that", [publish(0.8), publish(0.5), do("decide", 2, "promote"), publish(0.6)],
              {1: A, 2: A, 3: P}, "0.6 against 0.5 of version 2"),
    Situation("rolled back, then worse than that", [*TWO, do("decide", 1, "rollback"), publish(0.7)],
              {1: P, 2: A, 3: S}, "0.7 against 0.8 of version 1"),
    Situation("rolled back, then better than that", [*TWO, do("decide", 1, "rollback"), publish(0.85)],
              {1: A, 2: A, 3: P}, "0.85 against 0.8 of version 1"),
    # what a kill left
    Situation("decision lost", [publish(0.8), publish(0.5), do("untag", 2, "decision"), publish(0.4)],
              {1: P, 2: S, 3: S}, "0.8 of version 1"),
    Situation("better one's decision lost", [publish(0.8), publish(0.9), do("untag", 2, "decision"), publish(0.85)],
              {1: A, 2: P, 3: S}, "0.85 against 0.9 of version 2"),
    Situation("production archived by hand before the decision", [publish(0.8), do("untag", 1, "decision"),
              do("put", 1, A), publish(0.7)], {1: P, 2: S}, "0.8 of version 1"),
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name.replace(" ", "-"))
def test_the_decision_is_what_the_rule_says(model: Model, situation: Situation) -> None:
    """The last model gets the stage, and the reason, that the rule gives it, and the others are where they belong."""
    for step in situation.steps[:-1]:
        step(model)
    if not situation.stages:
        with pytest.raises(RegistryError) as error:
            situation.steps[-1](model)
        assert situation.reason in str(error.value)
        return
    outcome = situation.steps[-1](model)
    assert model.stages() == situation.stages
    assert situation.reason in outcome.reason
    if P in situation.stages.values():
        model.check_at_rest()


def test_a_sure_improvement_is_promoted(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the gate asks for confidence, a model that tells enough rows more on the same data goes to production."""
    model.publish(0.7)
    model.set_gate(confidence=0.95)
    told = iter([[True] * 20, [True] * 14 + [False] * 6])
    monkeypatch.setattr(scoring, "hits", lambda *_: np.array(next(told)))
    outcome = model.publish(1.0)
    assert (outcome.stage, model.stages()) == (P, {1: A, 2: P})
    assert "p = 0.031" in outcome.reason
    assert model.state().version(2).record["p_value"] == pytest.approx(0.03125)


def test_the_record_tells_all_of_the_decision(model: Model) -> None:
    """The record, a tag and an artifact of the run, has scores, data, rule, reason, whom it replaced, when and who."""
    model.set_gate(min_improvement=0.01)
    model.publish(0.8)
    outcome = model.publish(0.9)
    first, second = model.state().versions
    record = second.record
    assert record == {
        "turn": 2,
        "stage": P,
        "reason": outcome.reason,
        "score": 0.9,
        "test_data_sha256": second.tags["test_data_sha256"],
        "champion": 1,
        "champion_score": 0.8,
        "champion_logged_on_sha256": first.tags["test_data_sha256"],
        "p_value": None,
        "replaced": 1,
        "rule": asdict(model.gate),
        "at": record["at"],
        "by": "ann",
    }
    kept = server.artifact(model.client.get_run(second.run_id), "decisions/2-judged-version-2.json", model.folder)
    assert json.loads(kept.read_text()) == record


def test_earlier_decisions_are_never_rewritten(model: Model) -> None:
    """Whatever comes after, the tags that told of a decision still say the same."""
    model.publish(0.8)
    before = model.state().version(1).tags
    model.publish(0.9)
    model.decide(1, "rollback")
    model.publish(0.95)
    after = model.state().version(1).tags
    assert {name: after[name] for name in before} == before


def test_rollback_walks_the_history(model: Model) -> None:
    """Each rollback goes one production further back; what a person decided stays when nothing new comes."""
    for score in (0.7, 0.8, 0.9):
        model.publish(score)
    model.decide(2, "rollback")
    model.decide(1, "rollback")
    assert model.stages() == {1: P, 2: A, 3: A}
    model.check_at_rest()
