"""Which stages of a pipeline run at the same time, and in which order."""

import pytest

from scripts.pipeline.scheduler import Schedule

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def schedule(needs, memory=None, jobs=4, budget=100, **more):
    return Schedule(needs, memory or dict.fromkeys(needs, 1), jobs=jobs, budget=budget, **more)


def test_what_is_ready_runs_at_once():
    """Both arms of a diamond run side by side, and its end waits for both."""
    plan = schedule(DIAMOND)
    assert plan.begin() == ["a"]
    plan.end("a", well=True)
    assert plan.begin() == ["b", "c"]
    plan.end("c", well=True)
    assert plan.begin() == []
    plan.end("b", well=True)
    assert plan.begin() == ["d"]


def test_no_more_than_jobs_at_once():
    """With two jobs a fan runs by twos, in the order of the pipeline."""
    plan = schedule({name: [] for name in "zyx"}, jobs=2)
    assert plan.begin() == ["z", "y"]
    plan.end("y", well=True)
    assert plan.begin() == ["x"]


def test_limits_of_memory_are_never_summed_above_the_budget():
    """A stage that does not fit now waits, and smaller ones go before it."""
    plan = schedule({name: [] for name in "abc"}, {"a": 60, "b": 60, "c": 40}, budget=100)
    assert plan.begin() == ["a", "c"]
    plan.end("c", well=True)
    assert plan.begin() == []
    plan.end("a", well=True)
    assert plan.begin() == ["b"]


def test_a_stage_above_the_budget_runs_alone():
    """A limit above what the machine has stops no run: that stage runs alone."""
    plan = schedule({name: [] for name in "abc"}, {"a": 1, "b": 900, "c": 1}, budget=100)
    assert plan.begin() == ["a", "c"]
    plan.end("a", well=True)
    plan.end("c", well=True)
    assert plan.begin() == ["b"]
    assert plan.running == {"b"}


def test_after_a_failure_nothing_begins():
    """Running stages finish, no new one starts, and those that never began are known."""
    plan = schedule({"a": [], "b": [], "c": [], "d": ["a"]}, jobs=2)
    plan.begin()
    plan.end("a", well=False)
    assert plan.begin() == []
    assert plan.running == {"b"}
    plan.end("b", well=True)
    assert plan.begin() == []
    assert (plan.failed, plan.not_begun) == (["a"], ["c", "d"])


def test_keep_going_runs_what_does_not_depend_on_it():
    """With keep_going only the stages that depend on the failed one, at any distance, do not run."""
    plan = schedule({"a": [], "b": [], "c": ["b"], "d": ["a"], "e": ["d"]}, jobs=1, keep_going=True)
    order = []
    while begun := plan.begin():
        order += begun
        plan.end(begun[0], well=begun != ["a"])
    assert order == ["a", "b", "c"]
    assert (plan.failed, plan.not_begun) == (["a"], ["d", "e"])


@pytest.mark.parametrize("jobs", range(1, 6))
@pytest.mark.parametrize("budget", [0, 3, 7])
def test_all_run_once_after_what_they_need(jobs, budget):
    """With any number of jobs and any memory every stage runs exactly once, after all that it waits for."""
    needs = {str(n): [str(m) for m in range(n) if (n * 7 + m) % 3 == 0] for n in range(30)}
    plan = schedule(needs, {name: int(name) % 5 for name in needs}, jobs=jobs, budget=budget)
    ended = []
    while plan.begin() or plan.running:
        assert len(plan.running) <= jobs
        stage = max(plan.running)
        assert set(needs[stage]) <= set(ended)
        plan.end(stage, well=True)
        ended.append(stage)
    assert sorted(ended, key=int) == list(needs)


def test_what_comes_next_starts_early_on_idle_jobs():
    """A stage starts early once all that it waits for runs or is done, on as many jobs as are idle."""
    plan = schedule(DIAMOND, jobs=2)
    plan.begin()
    assert plan.soon([], []) == []
    assert plan.soon(["a"], []) == ["b"]
    assert plan.soon(["a"], ["b"]) == []
    plan.end("a", well=True)
    plan.begin()
    assert plan.soon(["b", "c"], []) == []
    plan.end("c", well=True)
    plan.begin()
    assert plan.soon(["b"], []) == ["d"]
    assert plan.soon(["b"], ["d"]) == []


@pytest.mark.parametrize(
    ("options", "early"),
    [({}, ["b"]), ({"jobs": 1}, []), ({"budget": 1}, [])],
    ids=["an idle job", "one job", "no memory for one that waits"],
)
def test_an_idle_job_and_memory_are_needed(options, early):
    """With one job, or without memory for as many that wait as run, nothing starts early."""
    plan = schedule({"a": [], "b": ["a"]}, **({"jobs": 2, "budget": 2} | options))
    plan.begin()
    assert plan.soon(["a"], []) == early


def test_after_a_failure_nothing_starts_early():
    """What waits for a stage that still runs is not started early once another one has failed."""
    plan = schedule({"a": [], "b": ["a"], "c": []}, jobs=3)
    plan.begin()
    assert plan.soon(["a"], []) == ["b"]
    plan.end("c", well=False)
    assert plan.soon(["a"], []) == []


def test_what_can_begin_is_not_started_early():
    """A stage that waits only for a job or for memory is not started early."""
    plan = schedule({"a": [], "b": ["a"], "c": ["a"]}, {"a": 1, "b": 1, "c": 99}, jobs=3, budget=300)
    plan.begin()
    plan.end("a", well=True)
    assert plan.soon([], []) == []
