import json
from math import nan

import pytest

from stages.train import promotion
from stages.train.promotion import Adopt, Apply, Champion, Decide, Gate, State, Unclear, Unscorable, Version

GONE = Unscorable("its file is gone")


@pytest.mark.parametrize(
    ("score", "champion", "gate", "stage"),
    [
        # nothing is in production
        (0.1, None, Gate(), "Production"),
        (0.1, None, Gate(min_improvement=0.5), "Production"),
        (0.1, None, Gate(confidence=0.95), "Production"),
        (0.0, None, Gate(), "Production"),
        (0.8, None, Gate(min_score=0.8), "Production"),
        (0.79, None, Gate(min_score=0.8), "Staging"),
        (0.5, None, Gate("test_log_loss", min_score=0.4), "Staging"),
        (0.4, None, Gate("test_log_loss", min_score=0.4), "Production"),
        # better, equal, worse
        (0.9, 0.8, Gate(), "Production"),
        (0.8, 0.8, Gate(), "Staging"),
        (0.7, 0.8, Gate(), "Staging"),
        (0.0, 0.0, Gate(), "Staging"),
        (0.3, 0.4, Gate("test_log_loss"), "Production"),
        (0.4, 0.4, Gate("test_log_loss"), "Staging"),
        (0.5, 0.4, Gate("test_log_loss"), "Staging"),
        # by how much
        (0.9, 0.8, Gate(min_improvement=0.05), "Production"),
        (0.84, 0.8, Gate(min_improvement=0.05), "Staging"),
        (0.75, 0.5, Gate(min_improvement=0.25), "Staging"),  # by just as much, not by more
        (0.8, 0.7, Gate(min_improvement=0.1), "Staging"),  # the same, where 0.7 + 0.1 < 0.8 in floating point
        (0.3, 0.2, Gate(min_improvement=0.1), "Staging"),  # and where 0.2 + 0.1 > 0.3
        (0.933333, 0.9, Gate(min_improvement=0.033333), "Staging"),
        (1.0, 0.0, Gate(min_improvement=0.99), "Production"),
        (0.1, 0.4, Gate("test_log_loss", min_improvement=0.3), "Staging"),
        (0.1, 0.41, Gate("test_log_loss", min_improvement=0.3), "Production"),
        (0.9, 0.8, Gate(min_score=0.95), "Staging"),
        (0.96, 0.8, Gate(min_score=0.95), "Production"),
        # how surely
        (0.9, Champion(1, 0.8, 0.05), Gate(confidence=0.95), "Production"),
        (0.9, Champion(1, 0.8, 0.0501), Gate(confidence=0.95), "Staging"),
        (0.9, Champion(1, 0.8, None), Gate(confidence=0.95), "Staging"),
        (0.7, Champion(1, 0.8, 0.01), Gate(confidence=0.95), "Staging"),
        # what cannot be known
        (nan, None, Gate(), "Staging"),
        (nan, 0.8, Gate(), "Staging"),
        (0.9, nan, Gate(), "Staging"),
        (nan, nan, Gate(), "Staging"),
        (GONE, None, Gate(), "Staging"),
        (GONE, 0.8, Gate(), "Staging"),
        (0.9, GONE, Gate(), "Staging"),
        (0.9, GONE, Gate(confidence=0.95), "Staging"),
    ],
)
def test_judge(score, champion, gate, stage):
    """A model goes to production if nothing is there or if it beats that by the gate; no doubt ever promotes."""
    if champion is not None and not isinstance(champion, Champion):
        champion = Champion(1, champion)
    assert promotion.judge(score, champion, gate)[0] == stage


@pytest.mark.parametrize(
    ("score", "champion", "gate", "parts"),
    [
        (0.9, Champion(7, 0.8), Gate(), ["better than", "test accuracy 0.9 against 0.8 of version 7"]),
        (0.9, Champion(7, 0.8), Gate(min_improvement=0.25), ["not better than", "0.25 more wanted"]),
        (0.9, Champion(7, 0.8, 0.25), Gate(confidence=0.95), ["not surely", "p = 0.25, 0.05 wanted"]),
        (0.9, Champion(7, GONE), Gate(), ["version 7 cannot be scored: its file is gone"]),
        (0.9, None, Gate(min_score=0.95), ["0.9, 0.95 wanted"]),
        (0.9, Champion(7, 0.8), Gate("test_f1_macro"), ["its test f1 macro 0.9"]),
    ],
)
def test_judge_gives_its_reason(score, champion, gate, parts):
    """The reason tells the metric, both scores, whose the other is, and what was wanted, in one line."""
    reason = promotion.judge(score, champion, gate)[1]
    assert [part for part in parts if part not in reason] == []
    assert "\n" not in reason


# --- from records to what is in production


def version(number, stage="None", decision=None, turn=None, **promotions):
    """A version of ours; `p4={...}` is a person's promotion of turn 4."""
    tags = {"model_sha256": "0"}
    if decision:
        tags |= {"decision": decision, "decision_record": json.dumps({"turn": turn or number})}
    for name, record in promotions.items():
        turn = int(name[1:])
        tags[f"promotion_{turn}"] = json.dumps({"turn": turn, "version": number, "action": "promote", **record})
    return Version(number, stage, "run", tags)


def state(*versions, applied=None, **aliases):
    """A registry that is at rest by its tag, unless told otherwise."""
    made = State.of(versions, aliases, {})
    return made._replace(applied=promotion.key(made) if applied is None else applied)


STRANGER = Version(1, "Production", "", {})
TWO = (version(1, "Archived", "Production"), version(2, "Production", "Production"))


@pytest.mark.parametrize(
    ("versions", "history"),
    [
        ([], []),
        ([version(1)], []),
        ([version(1, decision="Staging")], []),
        ([version(1, decision="Production")], [1]),
        ([version(1, decision="Production"), version(2, decision="Staging", turn=2)], [1]),
        ([version(1, decision="Production"), version(3, decision="Production", turn=2)], [1, 3]),
        # a later turn counts, not a later version
        ([version(1, decision="Production", turn=3), version(2, decision="Production", turn=2)], [2, 1]),
        # a person goes before a machine of the same turn
        ([version(1, decision="Production", p2={}), version(2, decision="Production", turn=2)], [1, 2, 1]),
        ([version(1, decision="Production", p3={}), version(2, decision="Production", turn=2)], [1, 2, 1]),
        ([version(1, decision="Production", p2={"version": None})], [1, None]),
        # rolled back: what was undone is no longer there
        ([version(1, decision="Production", p3={"action": "rollback"}), version(2, decision="Production")], [1]),
        (
            [
                version(1, decision="Production", p5={"action": "rollback"}),
                version(2, decision="Production", p4={"action": "rollback"}),
                version(3, decision="Production"),
            ],
            [1],
        ),
        (
            [
                version(1, decision="Production", p3={"action": "rollback"}),
                version(2, decision="Production"),
                version(3, decision="Production", turn=4),
            ],
            [1, 3],
        ),
    ],
)
def test_history(versions, history):
    """The records tell which versions were in production, one after the other, whoever reads them."""
    assert promotion.history(state(*reversed(versions))) == history


@pytest.mark.parametrize(
    ("before", "step"),
    [
        (state(), None),
        (state(version(1)), Decide(version(1))),
        (state(version(2), version(1)), Decide(version(1))),
        (state(Version(1, "None", "", {})), None),  # a stranger's is never judged
        (state(*TWO, production=2), None),
        (state(*TWO, version(3), production=2), Decide(version(3))),
        # begun and not ended: whatever stages and aliases say, they are made to follow
        (
            state(version(1, "None", "Production"), applied=""),
            Apply("1.0.1", {1: "Production"}, {"production": 1}),
        ),
        (state(*TWO, applied="", production=2), Apply("2.0.2", {}, {})),
        (state(*TWO, applied="1.0.1", production=1), Apply("2.0.2", {}, {"production": 2})),
        (
            state(version(1, "Production", "Production"), version(2, "None", "Production"), applied="", production=1),
            Apply("2.0.2", {2: "Production", 1: "Archived"}, {"production": 2}),
        ),
        (
            state(version(1, "Production", "Production"), version(2, "None", "Staging"), production=1),
            Apply("1.0.1", {2: "Staging"}, {"staging": 2}),
        ),
        (state(*TWO), Apply("2.0.2", {}, {"production": 2})),  # the alias was deleted
        # a person's hand, in the registry's pages
        (state(STRANGER), Adopt(1, None)),
        (state(version(1, "Production", "Production"), TWO[1], production=2), Adopt(1, 2)),
        (state(TWO[0]._replace(stage="Production"), TWO[1]._replace(stage="Archived"), production=2), Adopt(1, 2)),
        (state(*TWO, production=1), Adopt(1, 2)),
        (state(TWO[0]._replace(stage="Production"), TWO[1]._replace(stage="Archived"), production=1), Adopt(1, 2)),
        (state(TWO[0], TWO[1]._replace(stage="Archived"), production=2), Adopt(None, 2)),
    ],
)
def test_the_next_step(before, step):
    """What is done next follows from what the registry holds; at rest, nothing is."""
    assert promotion.next_step(before) == step


def test_what_only_a_person_can_tell():
    """Where stages and alias name two other versions, neither is taken for a decision."""
    three = version(3, "Production", "Production")
    versions = (version(1, "Production", "Production"), version(2, "Archived", "Production"), three)
    with pytest.raises(Unclear, match="versions 1 and 2 "):
        promotion.next_step(state(*versions, production=2))


def test_stages_that_a_dead_machine_may_have_set_are_no_persons():
    """Where a machine says that it is setting stages, what differs is set right and not taken for a decision."""
    versions = (version(1, "Production", "Production"), version(2, "Archived", "Production"))
    before = state(*versions, production=1)
    assert promotion.next_step(before) == Adopt(1, 2)
    dying = before._replace(applying={"applying_1": 0.0})
    assert promotion.next_step(dying) == Apply("2.0.2", {2: "Production", 1: "Archived"}, {"production": 2})


def test_two_persons_of_the_same_turn():
    """Of two promotions that two people make at the same moment one holds, whatever was applied first."""
    both = state(version(1, "Production", "Production", p2={}), version(2, "Archived", "Staging", p2={}), production=1)
    assert promotion.champion(both) == 2
    assert promotion.next_step(both._replace(applied="2.1.1")) == Apply(
        "2.1.2", {2: "Production", 1: "Archived"}, {"production": 2}
    )


@pytest.mark.parametrize("text", ["hello", "{}", "[]", '{"turn": "x"}', "null"])
def test_a_record_that_somebody_edited_is_told(text):
    """A tag that is no record is told by its name and its version."""
    edited = version(1, decision="Production")
    for tag in ("decision_record", "promotion_4"):
        tags = edited.tags | {tag: text}
        with pytest.raises(Unclear, match=f"the tag {tag} of version 1 is no record"):
            promotion.promotions(State((edited._replace(tags=tags),), {}, ""))


def test_a_decision_that_was_not_finished_does_not_count():
    """A record without the tag `decision` promotes nothing, and its version is judged again."""
    half = version(2, "None")
    half.tags["decision_record"] = json.dumps({"turn": 2})
    first = version(1, "Production", "Production")
    assert promotion.next_step(state(first, half, production=1)) == Decide(half)


def test_a_new_turn_comes_after_all_others():
    """The next turn is one more than the highest, a person's included."""
    assert promotion.next_turn(state()) == 1
    assert promotion.next_turn(state(*TWO, version(3, decision="Staging"))) == 3
    assert promotion.next_turn(state(version(1, decision="Production", p8={}))) == 9
