import json
import random

import pytest
from mlflow.utils.validation import _validate_metric_name

from scripts.registry import records
from scripts.registry.records import Adopt, Apply, Decide, ScoredBy, State, Unclear, Version, clean_name


def version(number, stage="None", decision=None, turn=None, **promotions):
    """Return a version of ours; `p4={...}` is a person's promotion of turn 4."""
    tags = {"model_sha256": "0"}
    if decision:
        tags |= {"decision": decision, "decision_record": json.dumps({"turn": turn or number})}
    for name, record in promotions.items():
        turn = int(name[1:])
        tags[f"promotion_{turn}"] = json.dumps({"turn": turn, "version": number, "action": "promote", **record})
    return Version(number, stage, "run", tags)


def state(*versions, applied=None, **aliases):
    """Return a registry that is at rest by its tag, unless `applied` says otherwise."""
    made = State.of(versions, aliases, {})
    return made._replace(applied=records.key(made) if applied is None else applied)


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
    """The records say which versions were in production, one after the other, whoever reads them."""
    assert records.history(state(*reversed(versions))) == history


def test_a_part_of_the_versions_tells_the_end_of_the_history():
    """Whatever versions are left out, what is told of the history is its end, up to the present one."""
    choice = random.Random(5)
    for _ in range(300):
        count = choice.randint(1, 6)
        of = {number: {} for number in range(1, count + 1)}
        for turn in range(count + 1, count + choice.randint(1, 6)):
            of[choice.randint(1, count)][f"p{turn}"] = {"action": choice.choice(["promote", "rollback"])}
        versions = [version(number, decision="Production", **promotions) for number, promotions in of.items()]
        whole = state(*versions)
        seen = [each for each in versions if each.number == records.champion(whole) or choice.random() < 0.6]
        told = records.recent_history(state(*seen))
        assert told and records.history(whole)[-len(told) :] == told, (of, seen)


@pytest.mark.parametrize("key", ["", "1", "1.2.3", "1.0", "a.0.1", "1.0.1.", f"{'9' * 5000}.0.1", "².0.1", "1.0.-1"])
def test_what_was_applied_may_be_anything(key):
    """A tag that a stranger wrote names no promotion; one of ours does."""
    assert records.applied(state(applied=key)) is None
    assert records.applied(state(applied="13.1.0")) == (13, True, 0)


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
    assert records.next_step(before) == step


def test_what_only_a_person_can_say():
    """If stages and alias name two other versions, neither is taken for a decision."""
    three = version(3, "Production", "Production")
    versions = (version(1, "Production", "Production"), version(2, "Archived", "Production"), three)
    with pytest.raises(Unclear, match="versions 1 and 2 "):
        records.next_step(state(*versions, production=2))


def test_stages_that_a_dead_machine_may_have_set_are_no_persons():
    """While a machine says that it is setting stages, what differs is set right and not taken for a decision."""
    versions = (version(1, "Production", "Production"), version(2, "Archived", "Production"))
    before = state(*versions, production=1)
    assert records.next_step(before) == Adopt(1, 2)
    dying = before._replace(applying={"applying_1": 0.0})
    assert records.next_step(dying) == Apply("2.0.2", {2: "Production", 1: "Archived"}, {"production": 2})


def test_two_persons_of_the_same_turn():
    """Of two promotions that two people make at the same moment one holds, whatever was applied first."""
    both = state(version(1, "Production", "Production", p2={}), version(2, "Archived", "Staging", p2={}), production=1)
    assert records.champion(both) == 2
    assert records.next_step(both._replace(applied="2.1.1")) == Apply(
        "2.1.2", {2: "Production", 1: "Archived"}, {"production": 2}
    )


@pytest.mark.parametrize("text", ["hello", "{}", "[]", '{"turn": "x"}', "null", '{"turn": 1e999}', "[" * 50_000])
def test_a_record_that_somebody_edited_is_named(text):
    """A tag that is no record is named, with its version."""
    edited = version(1, decision="Production")
    for tag in ("decision_record", "promotion_4"):
        tags = edited.tags | {tag: text}
        with pytest.raises(Unclear, match=f"the tag {tag} of version 1 is no record"):
            records.promotions(State((edited._replace(tags=tags),), {}, ""))


@pytest.mark.parametrize("edited", ['{"turn": 4}', '{"turn": 4, "version": 99}', '{"turn": 4, "version": "1"}'])
def test_a_promotion_is_of_the_version_that_bears_it(edited):
    """A record of a person that names no version, or another one, puts nothing into production and out of it."""
    bearer = version(1, "Production", "Production")
    bearer.tags["promotion_4"] = edited
    with pytest.raises(Unclear, match="the tag promotion_4 of version 1 is no record"):
        records.champion(State((bearer,), {}, ""))


def test_a_decision_that_was_not_finished_does_not_count():
    """A record without the tag `decision` promotes nothing, and its version is judged again."""
    half = version(2, "None")
    half.tags["decision_record"] = json.dumps({"turn": 2})
    first = version(1, "Production", "Production")
    assert records.next_step(state(first, half, production=1)) == Decide(half)


def test_a_new_turn_comes_after_all_others():
    """The next turn is one more than the highest, a person's included."""
    assert records.next_turn(state()) == 1
    assert records.next_turn(state(*TWO, version(3, decision="Staging"))) == 3
    assert records.next_turn(state(version(1, decision="Production", p8={}))) == 9


@pytest.mark.parametrize("since", ["", "soon", "nan", "-inf", "1e999"])
def test_a_machine_that_tells_no_time_is_long_dead(since):
    """A tag of a machine that sets stages holds a time, or somebody edited it: then it is not waited for."""
    assert State.of([], {}, {"applying_1": since, "applying": "1"}).applying == {"applying_1": 0.0}


# --- a registry written before there were gates for any metric

OLD_RULE = {"metric": "test_accuracy", "min_score": None, "min_improvement": 0.0, "confidence": None}


def old_version(number, stage, decision, **more):
    """Return a version as the stage `train` registered it: scores under three fixed names, no tag for its file."""
    record = {"turn": number, "stage": decision, "reason": "better", "score": 0.9, "rule": OLD_RULE, "replaced": None}
    record |= {"test_data_sha256": "d" * 64, "champion": None, "champion_score": None, "p_value": None}
    tags = {"model_sha256": str(number), "git_commit": "c", "test_data_sha256": "d" * 64, "test_accuracy": "0.9"}
    tags |= {"test_f1_macro": "0.9", "test_log_loss": "0.1", "decision": decision, "reason": "better"}
    return Version(number, stage, "run", {**tags, "decision_record": json.dumps(record), **more})


def test_an_old_registry_is_read():
    """Decisions, history, turns and a person's rollback that the code before this one recorded mean what they meant."""
    back = {"promotion_4": json.dumps({"turn": 4, "action": "rollback", "version": 1, "replaced": 3, "reason": "r"})}
    old = state(
        old_version(1, "Production", "Production", **back),
        old_version(2, "Staging", "Staging"),
        old_version(3, "Archived", "Production"),
        production=1,
        staging=2,
    )
    assert records.next_step(old) is None
    assert (records.history(old), records.champion(old), records.next_turn(old)) == ([1], 1, 5)
    assert [version.file for version in old.versions] == ["model/model.skops"] * 3
    before_records = old_version(1, "Production", "Production")
    del before_records.tags["decision_record"]
    assert before_records.record == {}
    assert records.champion(state(before_records)) == 1


# --- tags


def test_a_version_names_its_file():
    """The tag says where below model/ the file is; anywhere else it says what somebody wrote into it."""
    assert version(1).file == "model/model.skops"
    version_2 = Version(2, "None", "run", {"model_file": "model/data/my model.json"})
    assert version_2.file == "model/data/my model.json"
    for path in ("../.env", "model/../../.env", "/etc/passwd", "model", "model/", "", "s3://elsewhere/model"):
        with pytest.raises(Unclear, match="the tag model_file of version 3 is "):
            print(Version(3, "None", "run", {"model_file": path}).file)


def test_what_a_score_depends_on_is_told_by_three_tags():
    """Image, parameters and test data are tags; parameters that are too long for a tag are there by their digest."""
    scored_by = ScoredBy("stages/evaluate:1", '{"seed":1}', "d" * 64)
    expected = {"scorer_image": "stages/evaluate:1", "scorer_params": '{"seed":1}', "test_data_sha256": "d" * 64}
    assert scored_by.as_tags() == expected
    one, other = (scored_by._replace(params=letter * 6000).as_tags()["scorer_params"] for letter in "ab")
    assert one.startswith("sha256:") and one != other and len(one) < 100


def test_scores_of_rows_have_a_place_for_each_scorer():
    """Where scores of rows lie depends on all that they depend on: one scorer's never pass for another's."""
    scored_by = ScoredBy("image", "params", "data")
    others = [scored_by._replace(**{name: "other"}) for name in ScoredBy._fields]
    assert len({each.rows_file for each in (scored_by, *others)}) == 4


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("accuracy", "accuracy"),
        ("per_class.setosa.f1", "per_class.setosa.f1"),
        ("f1/macro", "f1/macro"),
        ("größe", "größe"),
        ("precision@10", "precision_10"),
        ("a:b", "a_b"),
        ("a\nb", "a_b"),
        ("../x", "_/x"),
        ("/x//y/", "_/x/_/y/_"),
        (".", "_"),
        ("", "_"),
        ("x" * 300, "x" * 250),
        ("x" * 249 + "/y", "x" * 249),
        ("x" * 248 + "/.y", "x" * 248),
        ("x" * 247 + "/..y", "x" * 247),
        ("." * 300 + "y", "_"),
    ],
)
def test_names_that_servers_refuse_are_replaced(name, clean):
    """What an old or a new MLflow server would refuse in a name becomes an underscore; the rest stays as it is."""
    assert clean_name(name) == clean
    _validate_metric_name(clean)


def test_names_that_become_the_same_stay_apart():
    """Of names that are the same in MLflow the later ones get a number, and no number is given twice."""
    found = records.clean_names({name: name for name in ("a_b", "a@b", "a:b", "a_b_2", "x" * 251, "x" * 252)})
    assert [*found.values()] == ["a_b", "a_b_2", "a_b_3", "a_b_2_2", "x" * 250, "x" * 241 + "_2"]


def test_very_many_names_that_become_the_same():
    """A hundred thousand of them are told apart in no time."""
    found = records.clean_names(dict.fromkeys(range(100_000), "@"))
    assert len({*found.values()}) == 100_000 and max(map(len, found.values())) <= 250


def test_what_of_a_record_its_tag_holds():
    """Beside an artifact that has all of it, what is read: a score that is null, too. Without one, all of it."""
    record = {"turn": 2, "score": None, "champion": None, "p_value": 0.5, "rule": {"metric": "f1"}, "by": "ann"}
    short = {"turn": 2, "score": None, "p_value": 0.5, "by": "ann"}
    assert records.in_tag(record | {"artifact": "decisions/a.json"}) == short | {"artifact": "decisions/a.json"}
    assert records.in_tag(record | {"artifact": ""}) == record | {"artifact": ""}
