"""The rule that decides whether a new model goes to production. Anything uncertain stays in Staging."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Any, NamedTuple

from voluptuous import Invalid, Required, Schema

from scripts.project import UserError
from scripts.registry.paired_tests import mcnemar, paired_p_value, permutation_test
from scripts.registry.records import PRODUCTION, RESERVED, STAGING, clean_name
from scripts.validation import number, optional, true_or_false, validated, within

__all__ = [
    "Gate", "Measurement", "Unscorable", "Verdict", "judge", "mcnemar", "paired_p_value", "permutation_test"
]  # fmt: skip


METRIC = re.compile(r"[^\s.](.*[^\s.])?")


@dataclass(frozen=True)
class Gate:
    """A section like `promotion` of params.yaml. Scores are in the metric's own unit."""

    metric: str  # a number of the metrics file; dots lead into nested ones
    higher_is_better: bool = True
    range: tuple[float | None, float | None] = (None, None)  # a score outside is a fault of the scorer
    min_score: float | None = None  # the least a model must score; where lower is better, the most
    min_improvement: float = 0.0  # a new model must be better by more than this
    confidence: float | None = None  # in [0.5, 1): 1 - the p-value of a paired test must reach it

    @classmethod
    def from_section(cls, section: Mapping[str, Any], name: str = "promotion") -> "Gate":
        """Return the gate of a section of params.yaml. Raise UserError if it cannot work."""
        gate = cls(**validated(_SECTION, section, name, "params.yaml"))
        if fault := gate._fault():
            raise UserError(f"{name}.{fault}: correct it in params.yaml")
        return gate

    def _fault(self) -> str:
        low, high = self.range
        if low is not None and high is not None and low >= high:
            return f"range is [{low:g}, {high:g}]; expected the lower bound first"
        if self.min_score is not None and not self.holds(self.min_score):
            return f"min_score is {self.min_score:g}; expected a score in the range ({self.bounds})"
        if RESERVED.fullmatch(self.tag):
            return f"metric is {self.metric!r}, which names a tag of the registry; expected another name"
        return ""

    @property
    def label(self) -> str:
        """The metric's name in a sentence: `per class f1` for `per_class.f1`."""
        return self.metric.replace("_", " ").replace(".", " ")

    @property
    def tag(self) -> str:
        """The tag of a version that has its score."""
        return clean_name(self.metric)

    @property
    def bounds(self) -> str:
        low, high = self.range
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        return f"{low:g} or more" if high is None else f"{high:g} or less"

    def holds(self, score: float) -> bool:
        """Return True if the score lies in the range."""
        low, high = self.range
        return (low is None or score >= low) and (high is None or score <= high)

    def improvement(self, score: float, over: float) -> float:
        """Return by how much `score` is better, negative if it is worse, to 9 digits: 0.8 is better than 0.7 by 0.1."""
        largest = max(abs(score), abs(over))
        digits = 8 - floor(log10(largest)) if largest else 0
        return round(score - over if self.higher_is_better else over - score, digits)


def _metric(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid("the name of a number in the metrics file")
    if not METRIC.fullmatch(value) or len(value) > 200:
        raise Invalid("a name of at most 200 characters that neither begins nor ends with a dot or a space")
    return value


def _range(value: Any) -> tuple[float | None, float | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise Invalid("a lower and an upper bound, each a number or null, as in [0, 1]")
    low, high = Schema([optional(number)])(value)
    return low, high


_SECTION = Schema(
    {
        Required("metric"): _metric,
        Required("higher_is_better"): true_or_false,  # a default would turn a loss upside down
        "range": _range,
        "min_score": optional(number),
        "min_improvement": within(lambda value: value >= 0, "a number of 0 or more"),
        "confidence": optional(within(lambda value: 0.5 <= value < 1, "a number from 0.5 to below 1")),
    }
)


# --- the decision


class Measurement(NamedTuple):
    """What the scorer found of a model: its metrics by name, and a score a row of the test data."""

    metrics: Mapping[str, float]
    rows: tuple[float, ...] | None = None


class Unscorable(NamedTuple):
    """A model without a measurement, and why, in a few words."""

    why: str


class Verdict(NamedTuple):
    """The stage that a model gets, the reason in a sentence, and the numbers behind it."""

    stage: str
    reason: str
    score: float | None = None
    champion_score: float | None = None
    p_value: float | None = None


def judge(
    challenger: Measurement | Unscorable, champion: tuple[int | str, Measurement | Unscorable] | None, gate: Gate
) -> Verdict:
    """Decide on a model; `champion` is the version in production, measured on the same data. Both may lack a score.

    In place of a version's number there may be the name of what stands in for production.
    """
    score, fault = checked_score(challenger, gate)
    if fault:
        return Verdict(STAGING, f"it cannot be scored: {fault}", score)
    if gate.min_score is not None and gate.improvement(score, gate.min_score) < 0:
        bound = "at least" if gate.higher_is_better else "at most"
        return Verdict(
            STAGING, f"not good enough: its {gate.label} {score:.6g}, {bound} {gate.min_score:g} required", score
        )
    if champion is None:
        return Verdict(PRODUCTION, "no version was in production", score)
    who, measured = champion
    name = f"version {who}" if isinstance(who, int) else one_line(who)
    theirs, fault = checked_score(measured, gate)
    if fault:
        hint = "'make promote VERSION=' puts any version there"
        reason = f"not compared: production's {name} cannot be scored: {fault}; {hint}"
        return Verdict(STAGING, reason, score, theirs)
    return _compare(score, theirs, name, (challenger, measured), gate)


def checked_score(measured: Measurement | Unscorable, gate: Gate) -> tuple[float | None, str]:
    """Return a model's score (None if it is not a finite number), and what is wrong with it, if anything is."""
    if isinstance(measured, Unscorable):
        return None, one_line(measured.why)
    score = measured.metrics.get(gate.metric)
    if score is None:
        return None, f"its metrics have no {gate.metric}"
    if not isfinite(score):
        return None, f"its {gate.label} is {score}, not a finite number"
    if not gate.holds(score):
        return score, f"its {gate.label} is {score:.6g}, outside the range ({gate.bounds})"
    return score, ""


def _compare(score: float, theirs: float, name: str, measured: tuple[Measurement, Measurement], gate: Gate) -> Verdict:
    numbers = f"its {gate.label} {score:.6g} against {theirs:.6g} of {name}"
    better_by = gate.improvement(score, theirs)
    if better_by <= gate.min_improvement:
        more = f", more than {gate.min_improvement:g} better required" if gate.min_improvement and better_by > 0 else ""
        return Verdict(STAGING, f"not better than production: {numbers}{more}", score, theirs)
    if gate.confidence is None:
        return Verdict(PRODUCTION, f"better than production: {numbers}", score, theirs)
    ours, others = (each.rows for each in measured)
    if fault := _unpaired(ours, others, name):
        return Verdict(STAGING, f"not surely better than production: {numbers}; {fault}", score, theirs)
    p_value, most = paired_p_value(ours, others), round(1 - gate.confidence, 12)
    if p_value <= most:
        return Verdict(PRODUCTION, f"better than production: {numbers}, p = {p_value:.2g}", score, theirs, p_value)
    reason = f"not surely better than production: {numbers}, p = {p_value:.2g}, at most {most:.2g} required"
    return Verdict(STAGING, reason, score, theirs, p_value)


def _unpaired(ours: Sequence[float] | None, theirs: Sequence[float] | None, name: str) -> str:
    """Return why the rows of two models cannot be compared in pairs, if they cannot."""
    for which, rows in (("it", ours), (name, theirs)):
        if not rows:
            return f"{which} has no score for each row"
        if not all(map(isfinite, rows)):
            return f"{which} has rows whose score is not a finite number"
    return "" if len(ours) == len(theirs) else f"it has scores for {len(ours)} rows, {name} for {len(theirs)}"


def one_line(text: str) -> str:
    """Return the text on one line of at most 300 characters, all of which can be printed."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 300 else f"{line[:299]}…"
