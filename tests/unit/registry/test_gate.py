from math import inf, nan

import pytest

from scripts.project import UserError
from scripts.registry.gate import Gate, Measurement, Unscorable, judge, mcnemar, paired_p_value, permutation_test

GONE = Unscorable("its file is gone")
ACCURACY = Gate("accuracy", range=(0, 1))
LOSS = Gate("log_loss", higher_is_better=False, range=(0, None))
SURE = Gate("accuracy", range=(0, 1), confidence=0.95)


def gate(of=ACCURACY, **changes):
    return Gate(**{**vars(of), **changes})


def measured(score, gate, rows=None):
    if isinstance(score, Unscorable | Measurement | None):
        return score
    return Measurement({gate.metric: score}, rows)


def verdict(score, champion, gate, rows=(None, None)):
    ours, theirs = measured(score, gate, rows[0]), measured(champion, gate, rows[1])
    return judge(ours, None if champion is None else (7, theirs), gate)


# --- the section


def test_a_section_becomes_a_gate():
    """What params.yaml says is what the gate has; bounds, minima and confidence may be left out."""
    section = {"metric": "accuracy", "higher_is_better": True, "range": [0, 1], "min_score": None}
    assert Gate.from_section(section) == ACCURACY
    assert Gate.from_section({"metric": "log_loss", "higher_is_better": False, "range": [0, None]}) == LOSS


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": 1}, "promotion.metrics is not known; expected no such key"),
        ({"metric": 5}, "promotion.metric is 5; expected the name of a number"),
        ({"metric": ""}, "promotion.metric is ''; expected "),
        ({"metric": ".f1"}, "promotion.metric is '.f1'; expected "),
        ({"metric": "decision"}, "promotion.metric is 'decision', which names a tag of the registry; expected another"),
        ({"metric": "promotion_3"}, "promotion.metric is 'promotion_3', which names a tag"),
        ({"higher_is_better": "yes"}, "promotion.higher_is_better is 'yes'; expected true or false"),
        ({"higher_is_better": None}, "promotion.higher_is_better is None; expected true or false"),
        ({"range": [0]}, "promotion.range is [0]; expected "),
        ({"range": [1, 0]}, "promotion.range is [1, 0]; expected the lower bound first"),
        ({"range": [0, "many"]}, "promotion.range.1 is 'many'; expected a number"),
        ({"range": [0, inf]}, "promotion.range.1 is inf; expected a finite number"),
        ({"min_score": 1.5}, "promotion.min_score is 1.5; expected a score in the range (0 to 1)"),
        ({"min_score": -1, "range": [0, None]}, "promotion.min_score is -1; expected a score in the range (0 or more)"),
        ({"min_score": 2, "range": [None, 1]}, "promotion.min_score is 2; expected a score in the range (1 or less)"),
        ({"min_score": nan}, "promotion.min_score is nan; expected a finite number"),
        ({"min_improvement": -1}, "promotion.min_improvement is -1; expected a number of 0 or more"),
        ({"min_improvement": None}, "promotion.min_improvement is None; expected a number"),
        ({"confidence": 0.4}, "promotion.confidence is 0.4; expected a number from 0.5 to below 1"),
        ({"confidence": 1}, "promotion.confidence is 1; expected a number from 0.5 to below 1"),
    ],
)
def test_a_section_that_cannot_work_is_refused(changes, told):
    """An unknown key, a wrong type and a value out of range are one sentence that names key, value and what is due."""
    section = {"metric": "accuracy", "higher_is_better": True, "range": [0, 1]} | changes
    with pytest.raises(UserError) as error:
        Gate.from_section(section)
    assert str(error.value).startswith(told)
    assert str(error.value).endswith(": correct it in params.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["metric", "higher_is_better"])
def test_what_has_no_default_is_asked_for(key):
    """The metric and its direction must be given: a default would promote the wrong model in silence."""
    section = {"metric": "log_loss", "higher_is_better": False}
    del section[key]
    with pytest.raises(UserError, match=f"promotion_petals.{key} is missing"):
        Gate.from_section(section, "promotion_petals")


# --- the decision


@pytest.mark.parametrize(
    ("score", "champion", "gate", "stage"),
    [
        # nothing is in production
        (0.1, None, gate(), "Production"),
        (0.1, None, gate(min_improvement=0.5), "Production"),
        (0.1, None, SURE, "Production"),
        (0.0, None, gate(), "Production"),
        (0.8, None, gate(min_score=0.8), "Production"),
        (0.79, None, gate(min_score=0.8), "Staging"),
        (0.5, None, gate(LOSS, min_score=0.4), "Staging"),
        (0.4, None, gate(LOSS, min_score=0.4), "Production"),
        # better, equal, worse
        (0.9, 0.8, gate(), "Production"),
        (0.8, 0.8, gate(), "Staging"),
        (0.7, 0.8, gate(), "Staging"),
        (0.0, 0.0, gate(), "Staging"),
        (0.3, 0.4, LOSS, "Production"),
        (0.4, 0.4, LOSS, "Staging"),
        (0.5, 0.4, LOSS, "Staging"),
        # by how much
        (0.9, 0.8, gate(min_improvement=0.05), "Production"),
        (0.84, 0.8, gate(min_improvement=0.05), "Staging"),
        (0.75, 0.5, gate(min_improvement=0.25), "Staging"),  # by just as much, not by more
        (0.8, 0.7, gate(min_improvement=0.1), "Staging"),  # the same, where 0.7 + 0.1 < 0.8 in floating point
        (0.3, 0.2, gate(min_improvement=0.1), "Staging"),  # and where 0.2 + 0.1 > 0.3
        (0.933333, 0.9, gate(min_improvement=0.033333), "Staging"),
        (1.0, 0.0, gate(min_improvement=0.99), "Production"),
        (0.1, 0.4, gate(LOSS, min_improvement=0.3), "Staging"),
        (0.1, 0.41, gate(LOSS, min_improvement=0.3), "Production"),
        (3e-12, 2e-12, gate(), "Production"),  # of whatever unit the scores are
        (12345.678, 12345.677, gate(range=(None, None)), "Production"),
        (1e300, 1e299, gate(range=(None, None)), "Production"),
        (0.9, 0.8, gate(min_score=0.95), "Staging"),
        (0.96, 0.8, gate(min_score=0.95), "Production"),
        # the range
        (1.0, 0.0, gate(), "Production"),
        (1.01, 0.8, gate(), "Staging"),
        (-0.01, None, gate(), "Staging"),
        (0.9, 1.01, gate(), "Staging"),
        (0.9, -3, gate(), "Staging"),
        (-3, -4, gate(range=(None, None)), "Production"),
        (1e300, 4, LOSS, "Staging"),
        (-1e-9, 4, LOSS, "Staging"),
        # what cannot be known
        (nan, None, gate(), "Staging"),
        (nan, 0.8, gate(), "Staging"),
        (0.9, nan, gate(), "Staging"),
        (nan, nan, gate(), "Staging"),
        (inf, 0.8, gate(range=(None, None)), "Staging"),
        (-inf, 0.8, gate(LOSS, range=(None, None)), "Staging"),
        (0.9, -inf, gate(range=(None, None)), "Staging"),
        (GONE, None, gate(), "Staging"),
        (GONE, 0.8, gate(), "Staging"),
        (0.9, GONE, gate(), "Staging"),
        (0.9, GONE, SURE, "Staging"),
        (Measurement({"f1": 0.9}), None, gate(), "Staging"),
        (0.9, Measurement({"f1": 0.8}), gate(), "Staging"),
    ],
)
def test_judge(score, champion, gate, stage):
    """A model goes to production if nothing is there or if it beats that by the gate; anything uncertain does not."""
    assert verdict(score, champion, gate).stage == stage


@pytest.mark.parametrize(
    ("ours", "theirs", "gate", "stage", "told"),
    [
        ([1] * 6, [0] * 6, SURE, "Production", "p = 0.031"),
        ([1] * 5, [0] * 5, SURE, "Staging", "p = 0.062, at most 0.05 required"),
        ([1] * 5, [0] * 5, gate(SURE, confidence=0.9375), "Production", "p = 0.062"),  # just as sure
        ([1, 2, 3, 4, 5], [0] * 5, gate(SURE, confidence=0.9), "Production", "p = 0.062"),
        ([1, 2, 3, 4, 5], [0] * 5, SURE, "Staging", "p = 0.062, at most 0.05 required"),
        (None, [0] * 6, SURE, "Staging", "it has no score for each row"),
        ([1] * 6, None, SURE, "Staging", "version 7 has no score for each row"),
        ([], [], SURE, "Staging", "it has no score for each row"),
        ([1] * 6, [0] * 5, SURE, "Staging", "it has scores for 6 rows, version 7 for 5"),
        ([1] * 5 + [nan], [0] * 6, SURE, "Staging", "it has rows whose score is not a finite number"),
        ([1] * 6, [0] * 5 + [inf], SURE, "Staging", "version 7 has rows whose score is not a finite number"),
    ],
)
def test_confidence_needs_rows_of_both(ours, theirs, gate, stage, told):
    """With a confidence only a difference that the rows of both models bear out goes to production."""
    found = verdict(0.9, 0.8, gate, (ours, theirs))
    assert (found.stage, told in found.reason) == (stage, True), found.reason


@pytest.mark.parametrize(
    ("score", "champion", "gate", "parts"),
    [
        (0.9, 0.8, gate(), ["better than production: its accuracy 0.9 against 0.8 of version 7"]),
        (28 / 30, 0.9, gate(), ["its accuracy 0.933333 against 0.9 of version 7"]),
        (0.9, 0.8, gate(min_improvement=0.25), ["not better than production", "more than 0.25 better required"]),
        (0.9, GONE, gate(), ["not compared: production's version 7 cannot be scored: its file is gone"]),
        (0.9, GONE, gate(), ["its file is gone; 'make promote VERSION=' puts any version there"]),
        (0.9, None, gate(min_score=0.95), ["not good enough: its accuracy 0.9, at least 0.95 required"]),
        (0.9, None, gate(LOSS, min_score=0.5), ["not good enough: its log loss 0.9, at most 0.5 required"]),
        (0.9, 0.8, Gate("per_class.setosa.f1"), ["its per class setosa f1 0.9"]),
        (1.5, 0.8, gate(), ["it cannot be scored: its accuracy is 1.5, outside the range (0 to 1)"]),
        (nan, 0.8, gate(), ["it cannot be scored: its accuracy is nan, not a finite number"]),
        (Measurement({}), 0.8, gate(), ["it cannot be scored: its metrics have no accuracy"]),
        (Unscorable("a\n\x1b[31mb"), None, gate(), ["it cannot be scored: a [31mb"]),
        (Unscorable("x" * 5000), None, gate(), ["x…"]),
    ],
)
def test_judge_gives_its_reason(score, champion, gate, parts):
    """The reason has the metric, both scores, whose the other is, and what was required, on one printable line."""
    reason = verdict(score, champion, gate).reason
    assert [part for part in parts if part not in reason] == []
    assert reason.isprintable() and len(reason) < 400


def test_the_verdict_has_the_numbers():
    """Both scores and the p-value are there for the record, and what is no finite number is not."""
    found = verdict(0.9, 0.8, SURE, ((1,) * 6, (0,) * 6))
    assert found[2:] == (0.9, 0.8, 0.03125)
    assert verdict(nan, 0.8, ACCURACY)[2:] == (None, None, None)
    assert verdict(0.9, nan, ACCURACY)[2:] == (0.9, None, None)


# --- paired tests


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    # Two-sided exact binomial probabilities, by hand: 2 * 0.5**6, 2 * (1 + 10) / 2**10, ...
    [(0, 0, 1), (1, 0, 1), (5, 0, 0.0625), (6, 0, 0.03125), (0, 6, 0.03125), (9, 1, 0.021484375), (3, 3, 1)],
)
def test_mcnemar_is_exact(gained, lost, p_value):
    """The p-value is that of a fair coin over the rows on which the models differ; the others do not count."""
    ours = [1] * gained + [0] * lost + [1, 0] * 7
    theirs = [0] * gained + [1] * lost + [1, 0] * 7
    assert mcnemar(ours, theirs) == p_value == paired_p_value(ours, theirs)


def test_mcnemar_counts_on_beyond_floats():
    """With more rows than a float can count the ways of, the p-value is still right."""
    assert mcnemar([1] * 1500 + [0] * 1400, [0] * 1500 + [1] * 1400) == pytest.approx(0.0659, abs=1e-4)
    assert mcnemar([1] * 5000, [0] * 5000) < 1e-300


@pytest.mark.parametrize(
    ("ours", "p_value"),
    [
        ((1, 2, 3, 4, 5), 2 / 32),
        ((-1, -2, -3, -4, -5), 2 / 32),
        ((1, 2, 3, 4, -5), 20 / 32),
        ((0.1, 0.2, -0.3), 1),  # a sum of zero, whatever floating point makes of it
        ((1.5, 1.5, 0, 0), 2 / 4),  # rows that do not differ do not count
        ((0, 0), 1),
        ((1e308, 1e308, 1e308), 2 / 8),
    ],
)
def test_the_permutation_test_is_exact_for_few_rows(ours, p_value):
    """The p-value is the share of all changes of signs whose sum is as extreme as the one seen."""
    assert permutation_test(ours, (0,) * len(ours)) == p_value


def by_hand(differences):
    sums = [0]
    for difference in differences:
        sums = [value + sign * difference for value in sums for sign in (1, -1)]
    return sum(abs(value) >= abs(sum(differences)) for value in sums) / len(sums)


def test_the_permutation_test_draws_for_many_rows():
    """Beyond 16 rows that differ, 10,000 draws with a fixed seed come near the exact p-value, alike every time."""
    rows = [0.5, -0.25, 1.0, 0.75] * 4
    exact = permutation_test(rows, [0] * 16)
    assert exact == by_hand(rows)
    drawn = permutation_test([*rows, 1e-12], [0] * 17)  # a row more, of no weight
    assert drawn == permutation_test([*rows, 1e-12], [0] * 17) == pytest.approx(exact, abs=0.01)
    assert permutation_test([1.5] * 100, [0] * 100) == 1 / 10_001


def test_drawn_p_values_are_the_same_on_every_machine():
    """The draws depend on neither the machine nor the version of Python: Python 3.11 found the same 229."""
    rows = [((index * 37) % 101 - 40) / 100 for index in range(50)]
    assert permutation_test(rows, [0] * 50) == 229 / 10_001


@pytest.mark.parametrize(
    ("ours", "theirs", "p_value"),
    [
        ((1.0, 1.0, 1.0, 1.0, 1.0, 1.0), (0.0,) * 6, 0.03125),  # McNemar
        ((1, 2, 3, 4, 5), (0,) * 5, 0.0625),  # signs
        ((1, 1, 0.5), (0, 0, 0.5), 0.5),  # one row that is neither 0 nor 1
    ],
)
def test_the_rows_choose_the_test(ours, theirs, p_value):
    """McNemar's where all rows of both models score 0 or 1, else the sign-flip test."""
    assert paired_p_value(ours, theirs) == p_value
