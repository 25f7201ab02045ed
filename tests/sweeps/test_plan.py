"""Which stages are run for which trials."""

from scripts.sweeps import plan
from scripts.sweeps.study import Trial, key


def named(found):
    return {node.name: [each.name for each in before] for node, before in found.items()}


def trials(*values):
    return [Trial(number, each) for number, each in enumerate(values, 1)]


def test_stages_that_do_not_differ_run_once(pipeline):
    """A stage that gets none of the parameters runs once; one that gets some, once for each choice of them; what comes
    after the objective does not run."""
    some = trials(*({"split.seed": seed, "fit.depth": depth} for seed in (1, 2) for depth in (3, 4)))
    assert named(plan.nodes("fit", some, pipeline, set())) == {
        "get": [],
        "split of trial 1": ["get"],
        "fit of trial 1": ["split of trial 1"],
        "fit of trial 2": ["split of trial 1"],
        "split of trial 3": ["get"],
        "fit of trial 3": ["split of trial 3"],
        "fit of trial 4": ["split of trial 3"],
    }


def test_what_is_done_is_not_run_again(pipeline):
    """In a later batch nothing runs that an earlier one has run."""
    done = {("get", key({})), ("split", key({}))}
    assert named(plan.nodes("fit", trials({"fit.depth": 3}), pipeline, done)) == {"fit of trial 1": []}
