"""How long a run still takes is reckoned from what its stages took in the runs before."""

import pytest

from scripts.report import estimate, facts

CHAIN = {"get": [], "fit": ["get"], "score": ["fit"]}
WIDE = {"get": [], "one": ["get"], "two": ["get"], "sum": ["one", "two"]}
USUAL = {"get": 2.0, "fit": 10.0, "score": 3.0, "one": 4.0, "two": 6.0, "sum": 1.0}


def a_run(**stages):
    """Return a run in which these stages ended so: result, seconds of waiting, seconds of running."""
    parts = dict.fromkeys(facts.PARTS, 0)
    return {
        "stages": [
            {"name": name, "result": result, "parts": parts | {"waiting": waited, "run": ran}}
            for name, (result, waited, ran) in stages.items()
        ]
    }


def test_what_a_stage_usually_takes():
    """It is the median of its times without what it waited; a stage that was restored or failed tells nothing."""
    runs = [a_run(fit=("ran", 50, took), get=("restored", 0, 1), score=("failed", 0, 1)) for took in (1, 9, 2)]
    assert estimate.usual(runs) == {"fit": 2}


@pytest.mark.parametrize(
    ("needs", "began", "jobs", "seconds"),
    [
        (CHAIN, {}, 4, 15),
        (CHAIN, {"get": 99.0}, 4, 14),
        ({"score": ["fit"]}, {"score": 98.0}, 4, 1),
        ({"score": ["fit"]}, {"score": 10.0}, 4, 0),
        (WIDE, {}, 4, 9),
        (WIDE, {}, 1, 13),
        ({"sum": ["one", "two"], "two": []}, {"two": 97.0}, 1, 4),
        ({}, {}, 1, 0),
    ],
    ids=["all", "one runs", "the last runs", "late", "side by side", "one at a time", "two wait", "nothing"],
)
def test_what_is_left(needs, began, jobs, seconds):
    """What runs takes the rest of its time, what waits all of it, as many at once as may run; never less than 0."""
    assert estimate.left(USUAL, needs, began, jobs, now=100.0) == (seconds, True)


def test_a_stage_that_never_ran():
    """What is known of the others is the least that it takes; of nothing, or of what is late, nothing is said."""
    assert str(estimate.left(USUAL, {"fit": [], "new": ["fit"]}, {}, 1, 0)) == "at least 10 s left"
    assert str(estimate.left({}, CHAIN, {"get": 0}, 1, 5)) == ""
    assert str(estimate.left(USUAL, {"score": []}, {"score": 0}, 1, 5)) == ""


@pytest.mark.parametrize(("seconds", "told"), [(0.6, "1 s"), (99.4, "99 s"), (100, "2 min"), (7200, "120 min")])
def test_its_words(seconds, told):
    """It is told in seconds, or minutes if it is long."""
    assert str(estimate.Left(seconds, True)) == f"about {told} left"
