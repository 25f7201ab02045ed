"""What becomes of a new model, and of production, in whatever situation it comes; on the old and the current MLflow."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import inf, nan
from typing import NamedTuple

import pytest

from scripts.registry import mlflow
from scripts.registry.mlflow import RegistryError
from tests.promotion.conftest import CURRENT, OLD
from tests.promotion.model import ROWS, Model

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

    def check(self, model: Model) -> None:
        """Take the last step; the model gets the stage and the reason that the rule gives it."""
        if not self.stages:
            with pytest.raises(RegistryError) as error:
                self.steps[-1](model)
            assert self.reason in str(error.value)
            return
        outcome = self.steps[-1](model)
        assert model.stages() == self.stages
        assert self.reason in outcome.reason
        if P in self.stages.values():
            model.check_at_rest()


def publish(score: float | str, **options: object) -> Callable[[Model], object]:
    return lambda model: model.publish(score, **options)


def do(what: str, *arguments: object, **options: object) -> Callable[[Model], object]:
    """Call a method of Model."""
    return lambda model: getattr(model, what)(*arguments, **options)


def gate(**changes: object) -> Callable[[Model], object]:
    return do("set_gate", **changes)


TWO = [publish(0.8), publish(0.9)]  # 1 is archived, 2 in production
SURELY = gate(confidence=0.95)
LOSS = gate(metric="log_loss", higher_is_better=False, range=(0.0, None))
SITUATIONS = [
    # nothing in production
    Situation("no model", [publish(0.1)], {1: P}, "no version was in production"),
    Situation("no model, below the least score", [gate(min_score=0.5), publish(0.1)], {1: S}, "not good enough"),
    Situation("no model, NaN", [publish(nan)], {1: S}, "not a finite number"),
    Situation("no model, infinite", [gate(range=(None, None)), publish(inf)], {1: S}, "not a finite number"),
    Situation("no model, out of range", [publish(1.5)], {1: S}, "its accuracy is 1.5, outside the range (0 to 1)"),
    Situation("no model, cannot be scored", [publish("evaluate crashed")], {1: S}, "scored: evaluate crashed"),
    Situation("no model, no such metric", [gate(metric="recall"), publish(0.9)], {1: S}, "have no recall"),
    Situation("a stranger, nowhere", [do("stranger"), publish(0.1)], {1: "None", 2: P}, "no version was"),
    Situation("a stranger, archived", [do("stranger", A), publish(0.1)], {1: A, 2: P}, "no version was"),
    Situation("only staging", [publish(nan), publish(0.1)], {1: S, 2: P}, "no version was"),
    Situation("archived only", [*TWO, do("put", 2, A), publish(0.1)], {1: A, 2: A, 3: P}, "no version was"),
    Situation("all deleted", [publish(0.9), do("delete", 1), publish(0.1)], {2: P}, "no version was"),
    # better, equal, worse
    Situation("better", TWO, {1: A, 2: P}, "better than production: its accuracy 0.9 against 0.8 of version 1"),
    Situation("equal", [publish(0.8), publish(0.8)], {1: P, 2: S}, "not better"),
    Situation("worse", [publish(0.8), publish(0.7)], {1: P, 2: S}, "not better"),
    Situation("better than what staging has", [publish(0.5), publish(0.1), publish(0.4)], {1: P, 2: S, 3: S}, "0.5"),
    Situation("NaN", [publish(0.8), publish(nan)], {1: P, 2: S}, "its accuracy is nan, not a finite number"),
    Situation("a champion of NaN", [publish(0.8), do("tag", 1, "accuracy", "nan"), publish(0.9)], {1: P, 2: S},
              "version 1 cannot be scored: its accuracy is nan"),
    Situation("a champion out of range", [publish(0.8), do("tag", 1, "accuracy", "-1"), publish(0.9)], {1: P, 2: S},
              "version 1 cannot be scored: its accuracy is -1, outside the range"),
    Situation("a champion without a number", [publish(0.8), do("tag", 1, "accuracy", "good"), publish(0.9)],
              {1: P, 2: S}, "version 1 cannot be scored: its tag accuracy is 'good'"),
    # the gate
    Situation("too little better", [publish(0.8), gate(min_improvement=0.2), publish(0.9)], {1: P, 2: S}, "than 0.2"),
    Situation("better by enough", [publish(0.7), gate(min_improvement=0.1), publish(0.9)], {1: A, 2: P}, "better"),
    Situation("better, below the least score", [publish(0.8), gate(min_score=0.95), publish(0.9)], {1: P, 2: S},
              "not good enough"),
    Situation("a lower loss", [LOSS, publish(8), publish(7)], {1: A, 2: P}, "its log loss 7 against 8"),
    Situation("a higher loss", [LOSS, publish(7), publish(8)], {1: P, 2: S}, "its log loss 8 against 7"),
    Situation("a nested metric", [gate(metric="per_class.setosa.f1"), publish(0.7), publish(0.8)], {1: A, 2: P},
              "its per class setosa f1 0.8 against 0.7"),
    Situation("another metric than was logged", [publish(0.7), gate(metric="per_class.setosa.f1"), publish(0.8)],
              {1: A, 2: P}, "setosa f1 0.8 against 0.7"),
    Situation("surely better", [SURELY, publish(0.7, right=14), publish(1.0, right=20)], {1: A, 2: P}, "p = 0.031"),
    Situation("not surely better", [SURELY, publish(0.8, right=16), publish(0.9, right=18)], {1: P, 2: S},
              "p = 0.5, at most 0.05 required"),
    Situation("not surely better, no rows", [publish(0.8), SURELY, publish(0.9)], {1: P, 2: S},
              "it has no score for each row"),
    Situation("surely better, its rows never logged", [SURELY, publish(0.7), publish(1.0, right=20)], {1: P, 2: S},
              "version 1 has no score for each row"),
    Situation("surely better, its rows gone", [SURELY, publish(0.7, right=14), do("lose", 1, "scores/*"),
              publish(1.0, right=20)], {1: A, 2: P}, "p = 0.031"),
    Situation("not surely better, its rows and its file gone", [SURELY, publish(0.8, right=16),
              do("lose", 1, "scores/*"), do("lose", 1), publish(0.9, right=18)], {1: P, 2: S}, "its file is gone"),
    # another scorer or other test data than was logged: the champion is measured as the new model was
    Situation("worse on other data than was logged", [publish(1.0), publish(0.8, beside=0.7)], {1: A, 2: P},
              "0.8 against 0.7 of version 1"),
    Situation("better by the numbers, worse on the same data", [publish(0.5), publish(0.6, beside=0.7)], {1: P, 2: S},
              "0.6 against 0.7 of version 1"),
    Situation("equal on the same data", [publish(0.5), publish(0.7, beside=0.7)], {1: P, 2: S}, "0.7 against 0.7"),
    Situation("surely better on other data", [SURELY, publish(1.0, right=20), publish(1.0, beside=0.7, right=20)],
              {1: A, 2: P}, "1 against 0.7 of version 1, p = 0.031"),
    Situation("another scorer", [publish(0.5), publish(0.6, scorer="stages/score:2")], {1: A, 2: P}, "0.6 against 0.5"),
    Situation("another scorer, the tag wrong", [publish(0.5), do("tag", 1, "accuracy", "0.1"),
              publish(0.4, scorer="stages/score:2")], {1: P, 2: S}, "0.4 against 0.5"),
    Situation("other parameters of the scorer", [publish(0.5), do("tag", 1, "accuracy", "0.9"),
              do("tag", 1, "scorer_params", '{"seed":2}'), publish(0.6)], {1: A, 2: P}, "0.6 against 0.5"),
    Situation("other columns", [publish(0.5), publish(0.9, beside="it reads the columns x, the test set has z")],
              {1: P, 2: S}, "version 1 cannot be scored: it reads the columns x, the test set has z"),
    Situation("other data, the champion's file gone", [publish(0.5), do("lose", 1), publish(0.9, beside=0.7)],
              {1: P, 2: S}, "version 1 cannot be scored: its file is gone"),
    Situation("the same data, the champion's file gone", [publish(0.5), do("lose", 1), publish(0.9)],
              {1: A, 2: P}, "0.9 against 0.5"),
    Situation("other data, the champion's file changed", [publish(0.5), do("change_file", 1), publish(0.9, beside=0.7)],
              {1: P, 2: S}, "its file is not the one that was registered"),
    Situation("the tag of its file wrong", [publish(0.5), do("tag", 1, "model_file", "../params.yaml"),
              publish(0.9, beside=0.7)], {}, "the tag model_file of version 1 is '../params.yaml'; expected a path"),
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
ON_SERVERS = [
    pytest.param(server, situation, id=f"mlflow-{server}-{situation.name.replace(' ', '-')}",
                 marks=[pytest.mark.deep] if server == OLD and number % 3 else [])
    for server in (CURRENT, OLD)
    for number, situation in enumerate(SITUATIONS)
]  # fmt: skip
"""All situations on the current server; without the deep tests every third one on the old one."""
TWO_AT_ONCE = list(zip(SITUATIONS, [*SITUATIONS[1:], SITUATIONS[0]], strict=True))
SAMPLE = random.Random(1).sample(range(len(TWO_AT_ONCE)), 3)


@pytest.mark.parametrize(("server", "situation"), ON_SERVERS, indirect=["server"])
def test_the_decision_is_what_the_rule_says(model: Model, situation: Situation) -> None:
    """The last model gets the stage, and the reason, that the rule gives it, and the others are where they belong."""
    for step in situation.steps[:-1]:
        step(model)
    situation.check(model)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(*pair, id=str(number), marks=[] if number in SAMPLE else [pytest.mark.deep])
        for number, pair in enumerate(TWO_AT_ONCE)
    ],
)
def test_two_models_are_decided_on_apart(model: Model, neighbour: Model, one: Situation, other: Situation) -> None:
    """Two models of one experiment, each in a situation of its own, end as if they were alone."""
    longest = max(len(one.steps), len(other.steps))
    for place in range(1 - longest, 0):  # in step, up to the last step of each
        for owner, situation in ((model, one), (neighbour, other)):
            if -place < len(situation.steps):
                situation.steps[place - 1](owner)
    one.check(model)
    other.check(neighbour)


def test_equal_bytes_of_two_models_are_two_runs(model: Model, neighbour: Model) -> None:
    """Two models of one experiment with the same bytes have a run and a version each, and share no decision."""
    one, other = (each.files(0.5, extra="the same") for each in (model, neighbour))
    assert one.digest == other.digest
    outcomes = [owner.publish_files(files) for owner, files in ((model, one), (neighbour, other))]
    assert [outcome.stage for outcome in outcomes] == [P, P]
    assert [len(owner.runs()) for owner in (model, neighbour)] == [1, 1]
    assert outcomes[0].run_id != outcomes[1].run_id


def test_a_champion_is_measured_once_a_decision(model: Model) -> None:
    """A champion whose logged score counts is not measured; one of another scorer is, once, and no challenger is."""
    model.publish(0.5)
    model.publish(0.6)
    assert model.measurements == []
    model.publish(0.7, scorer="stages/score:2")
    assert model.measurements == ["model.json"]
    model.publish(nan, scorer="stages/score:3")
    assert len(model.measurements) == 1  # a model without a score is compared with none


def test_a_fault_in_measuring_decides_nothing(model: Model) -> None:
    """What the measuring raises, an OSError too, passes as it is, decides nothing, and is tried again."""
    model.publish(0.5)
    files = model.files(0.9, scorer="stages/score:2")
    for fault in (ValueError("the engine is away"), FileNotFoundError("docker")):

        def broken(_: object, fault: Exception = fault) -> None:
            raise fault

        model.measure, measure = broken, model.measure
        with pytest.raises(type(fault), match=str(fault)):
            model.publish_files(files)
        model.measure = measure
        assert "decision" not in model.state().version(2).tags
        assert model.stages()[1] == P
    assert model.publish_files(files).stage == P


def test_the_record_has_all_of_the_decision(model: Model) -> None:
    """The record, an artifact of the run, has scores, data, rule, reason, whom it replaced, when and who; the tag has
    what is read of it, and names the artifact."""
    model.set_gate(min_improvement=0.01)
    model.publish(0.8)
    outcome = model.publish(0.9)
    first, second = model.state().versions
    path = "decisions/2-judged-version-2.json"
    kept = mlflow.artifact(model.client.get_run(second.run_id), path, model.folder)
    record = json.loads(kept.read_text())
    assert record == {
        "turn": 2,
        "stage": P,
        "reason": outcome.reason,
        "score": 0.9,
        "scorer_image": "stages/score:1",
        "test_data_sha256": second.tags["test_data_sha256"],
        "champion": 1,
        "champion_score": 0.8,
        "champion_logged_on_sha256": first.tags["test_data_sha256"],
        "p_value": None,
        "replaced": 1,
        "rule": asdict(model.gate) | {"range": [0.0, 1.0]},
        "at": record["at"],
        "by": "ann",
    }
    told = {name: record[name] for name in ("turn", "score", "champion", "champion_score", "at", "by")}
    assert second.record == told | {"artifact": path}


def test_the_p_value_is_recorded(model: Model) -> None:
    """The p-value of the paired test stands in the record, from rows of the registry as from rows measured now."""
    model.set_gate(confidence=0.95)
    model.publish(0.7, right=ROWS - 6)
    model.publish(1.0, right=ROWS)
    assert model.state().version(2).record["p_value"] == pytest.approx(0.03125)


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
