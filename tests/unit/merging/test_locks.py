"""dvc.lock is merged stage by stage: each entry is one side's, whole, and none is lost."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.merging.locks import CLASH, clashes, fits, merge, same, three_way

NAMES = ("a", "b", "c", "d")
"""A chain: each stage reads what the one before it wrote."""


def entry(name, command=0, given=0, made=None):
    """An entry as DVC has it: `command` stands for the image and the parameters, `given` for the content of its input,
    `made` for that of its output, which follows from both."""
    made = f"{command}.{given}" if made is None else made
    before = NAMES[NAMES.index(name) - 1] if name != "a" else "given"
    return {
        "cmd": [f"run {name}:{command}"],
        "deps": [{"path": f"data/{before}", "hash": "md5", "md5": f"{given}", "size": 1}],
        "params": {"params.yaml": {name: {"x": command}}},
        "outs": [{"path": f"data/{name}", "hash": "md5", "md5": made, "size": 1}],
    }


def run(pipeline, given=0):
    """The dvc.lock that a run of the commands in `pipeline` (stage: command) writes."""
    lock = {}
    for name in NAMES:
        if name in pipeline:
            lock[name] = entry(name, pipeline[name], given)
            given = lock[name]["outs"][0]["md5"]
    return lock


def asked(pipeline):
    """What the merged dvc.yaml asks of its stages."""
    parts = ("cmd", "params")
    return {
        name: None if command is CLASH else {part: entry(name, command)[part] for part in parts}
        for name, command in pipeline.items()
    }


PIPELINE = dict.fromkeys(NAMES, 0)
pipelines = st.fixed_dictionaries(dict.fromkeys(NAMES, st.integers(0, 2)))
partial = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, st.integers(0, 2)))
entries = st.builds(entry, st.just("b"), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1).map(str))
locks = st.dictionaries(st.sampled_from(NAMES), entries)


# --- any three versions


@given(locks, locks, locks, partial)
def test_no_stage_is_lost_and_every_entry_is_one_sides(base, ours, theirs, pipeline):
    """A stage that either side keeps and dvc.yaml has is there; every entry is as one of the two sides has it."""
    merged = merge(base, ours, theirs, asked(pipeline)).stages
    assert {*merged} >= ({*ours} | {*theirs}) & {*pipeline}
    assert all(any(same(merged[name], side.get(name)) for side in (ours, theirs)) for name in merged)


@given(locks, locks, partial)
def test_what_one_side_changed_is_taken(base, changed, pipeline):
    """Where only one side changed anything, the merge is what that side has, whichever side it is."""
    wanted = asked(pipeline)
    removed = {name: base[name] for name in base if name not in changed and name in wanted}  # dvc.yaml still has it
    for sides in ((base, changed), (changed, base)):
        found = merge(base, *sides, wanted)
        assert found.stages == changed | removed and not found.unknown and not found.differing


@given(locks, locks, locks, partial)
def test_both_directions_say_the_same(base, ours, theirs, pipeline):
    """Whichever branch is merged into the other, the same stages are left to a person."""
    one, other = (merge(base, *sides, asked(pipeline)) for sides in ((ours, theirs), (theirs, ours)))
    assert {*one.stages} == {*other.stages}
    assert {*one.unknown} == {*other.unknown}


@given(locks, locks, locks, partial)
def test_versions_are_left_as_they_are(base, ours, theirs, pipeline):
    """A merge changes none of the versions that it is given."""
    before = deepcopy((base, ours, theirs))
    merge(base, ours, theirs, asked(pipeline))
    assert before == (base, ours, theirs)


# --- two branches that both ran


@given(pipelines, pipelines, pipelines)
def test_two_branches_that_ran(before, mine, other):
    """Of two branches that both ran, only a stage that both edited, each in its way, is left to a person; no other
    entry is taken for a result of the merged pipeline that is none."""
    merged_pipeline = {name: three_way(before[name], mine[name], other[name]) for name in NAMES}
    found = merge(run(before), run(mine), run(other), asked(merged_pipeline))
    assert {*found.unknown} == {name for name in NAMES if merged_pipeline[name] is CLASH}
    assert not found.differing
    if not found.unknown:
        right, upstream = run(merged_pipeline), True
        for name in NAMES:
            made = found.stages[name]
            assert fits(made, asked(merged_pipeline)[name])
            # As DVC looks at it: its command and its input are those of the pipeline, so it is not run again.
            up_to_date = upstream and made["deps"] == right[name]["deps"]
            assert not up_to_date or made == right[name]
            upstream = up_to_date


def test_another_stage_on_each_side():
    """One side changed the third stage, the other the fourth: the third's result is taken, the fourth's command."""
    ours, theirs = run(PIPELINE | {"c": 1}), run(PIPELINE | {"d": 1})
    found = merge(run(PIPELINE), ours, theirs, asked(PIPELINE | {"c": 1, "d": 1}))
    assert found == (ours | {"d": theirs["d"]}, [], [])


def test_inputs_decide_between_two_results_of_one_command():
    """Where both sides only ran a stage again, on other inputs, the entry is taken whose inputs the merge has."""
    ours, theirs = run(PIPELINE | {"a": 1}), run(PIPELINE | {"a": 1, "b": 1})
    for mine, other in ((ours, theirs), (theirs, ours)):
        found = merge(run(PIPELINE), mine, other, asked(PIPELINE | {"a": 1, "b": 1}))
        assert found == (theirs, [], [])


def test_both_edited_one_stage():
    """A stage that both sides edited is named, and ours stays: a whole entry, which DVC then runs again."""
    ours, theirs = run(PIPELINE | {"c": 1}), run(PIPELINE | {"c": 2})
    for wanted in (PIPELINE | {"c": CLASH}, PIPELINE | {"c": 3}):
        assert merge(run(PIPELINE), ours, theirs, asked(wanted)) == (ours, ["c"], [])


def test_one_side_has_what_both_want():
    """Both sides edited a stage, one as both together: its entry is taken."""
    ours, theirs = run(PIPELINE | {"c": 1}), run(PIPELINE | {"c": 2})
    assert merge(run(PIPELINE), ours, theirs, asked(PIPELINE | {"c": 2})) == (theirs, [], [])


def test_other_outputs_of_the_same():
    """Two results of the same command on the same inputs are told: neither can be known to be right."""
    ours, theirs = ({**run(PIPELINE), "d": entry("d", 1, "0.0.0.0", made)} for made in ("one", "other"))
    assert merge(run(PIPELINE), ours, theirs, asked(PIPELINE | {"d": 1})) == (ours, [], ["d"])


@pytest.mark.parametrize("changed", [0, 1], ids=["unchanged", "changed"])
def test_a_removed_stage_follows_dvc_yaml(changed):
    """A stage that one side removed goes if dvc.yaml has it no longer, whatever the other did; else it stays."""
    removed = {name: made for name, made in run(PIPELINE).items() if name != "d"}
    kept = run(PIPELINE | {"d": changed})
    without = {name: 0 for name in NAMES if name != "d"}
    for sides in ((removed, kept), (kept, removed)):
        assert merge(run(PIPELINE), *sides, asked(without)).stages == removed
        assert merge(run(PIPELINE), *sides, asked(PIPELINE | {"d": changed})).stages == kept
        assert merge(run(PIPELINE), *sides, asked(PIPELINE | {"d": CLASH})).stages == kept


def test_both_added_stages():
    """What each side added is there, in the order of ours and then theirs."""
    ours, theirs = run({"a": 0, "b": 0}), run({"a": 0, "c": 0})
    assert [*merge({}, ours, theirs, asked(PIPELINE)).stages] == ["a", "b", "c"]


def test_stages_that_wait_for_each_other():
    """Entries in a circle, which no run wrote, are refused."""
    one, other = entry("b"), entry("c")
    circle = {"b": {**one, "deps": other["outs"]}, "c": {**other, "deps": one["outs"]}}
    theirs = {"b": entry("b", 2), "c": entry("c", 2)}
    with pytest.raises(ValueError, match="wait for each other"):
        merge({}, circle, theirs, asked(PIPELINE))


# --- values

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.floats() | st.sampled_from("xy"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("kl"), inner),
    max_leaves=6,
)


files = st.lists(st.fixed_dictionaries({"path": values | st.sampled_from(("data/a", "data/b"))}), max_size=2)
anything = st.dictionaries(st.sampled_from(("cmd", "deps", "params", "outs")), values | files)
any_lock = st.dictionaries(st.sampled_from(NAMES), anything)


@given(any_lock, any_lock, any_lock, any_lock)
def test_entries_that_no_run_wrote(base, ours, theirs, wanted):
    """Whatever a branch's dvc.lock has for entries, it is merged by the same rule, or refused in words."""
    try:
        merged = merge(base, ours, theirs, wanted).stages
    except ValueError as error:
        assert "wait for each other" in str(error)
    else:
        assert {*merged} >= ({*ours} | {*theirs}) & {*wanted}
        assert all(any(same(merged[name], side.get(name)) for side in (ours, theirs)) for name in merged)


@given(values, values)
def test_a_value_that_one_side_changed(base, changed):
    """A change of one side is taken, and two changes that are the same are one."""
    for merged in (three_way(base, base, changed), three_way(base, changed, base), three_way(base, changed, changed)):
        assert same(merged, changed)


def test_values_that_look_the_same():
    """1, 1.0 and true are other arguments of a command; not a number is the same as itself."""
    nan = float("nan")
    assert same({"x": [nan]}, {"x": [float("nan")]}) and not same(1, True) and not same([1], [1.0]) and not same(0, 0.0)


def test_mappings_are_merged_by_key():
    """Each key by itself: added, removed and changed ones of both sides; what both changed is a clash."""
    base = {"x": 1, "y": 1, "gone": 1}
    assert three_way(base, {"x": 2, "y": 1, "gone": 1}, {"x": 1, "y": 1, "new": 1}) == {"x": 2, "y": 1, "new": 1}
    clash = three_way(base, {"x": 2, "y": 1}, {"x": 3, "y": 1, "gone": 1})
    assert clash == {"x": CLASH, "y": 1} and clashes({"deep": clash}) and not clashes({"deep": base})
