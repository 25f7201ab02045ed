"""Which version is in production, and which one is to be: by the records in the registry. Pure, and quick to import.

MLflow has no compare-and-set. A promotion is several calls (stages, aliases), any of which may be the last one of a
process that was killed, or come between those of another machine. So the *records* decide, and stages and aliases only
follow them: whoever comes next makes them follow (`next_step` says how), always to the same end.

- A version's tag `decision` (Production or Staging) is the last call of the decision on it; `decision_record` holds all
  of it. Versions are decided on in their order, each by whoever comes first, so none is ever passed over.
- A person's decision is the tag `promotion_<turn>` of the version that it puts into production (or takes out).
- Each promotion bears a turn, one more than the highest that its writer saw. The last turn is in production; of two of
  the same turn, a person's.
- The model's tag `production_turn` names the promotion that stages and alias follow. While a machine changes them, its
  tag `applying_...` says so, which stays where it is killed. Where neither tells that they are being changed and they
  differ all the same, a person changed them in the registry's pages: that is recorded as a person's decision.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any, NamedTuple

PRODUCTION, STAGING, ARCHIVED, NO_STAGE = "Production", "Staging", "Archived", "None"
HIGHER_IS_BETTER = {"test_accuracy": True, "test_f1_macro": True, "test_log_loss": False}
"""The metrics that a gate may compare, all measured on the test set; the log loss in nats."""


# --- the gate


@dataclass(frozen=True)
class Gate:
    """The rule of params.yaml's section `promotion`."""

    metric: str = "test_accuracy"
    min_score: float | None = None  # in the metric's unit; for a loss, the most that may be
    min_improvement: float = 0.0  # in the metric's unit: a new model must be better by more than this
    confidence: float | None = None  # in [0.5, 1): 1 - the p-value of an exact McNemar test must reach it

    def improvement(self, score: float, over: float) -> float:
        """By how much `score` is better, negative if it is worse; 0.8 over 0.7 is 0.1."""
        return round(score - over if HIGHER_IS_BETTER[self.metric] else over - score, 9)


class Unscorable(NamedTuple):
    """A model that has no score on the test set, and why, in a few words."""

    why: str


class Champion(NamedTuple):
    """The version in production, with its score on the challenger's test set."""

    number: int
    score: float | Unscorable
    p_value: float | None = None  # of the paired test against the challenger, where the gate asks for one


def judge(score: float | Unscorable, champion: Champion | None, gate: Gate) -> tuple[str, str]:
    """Stage and reason, in words, for a model with `score`. No doubt promotes: a NaN, a champion without a score."""
    name = gate.metric.replace("_", " ")
    if isinstance(score, Unscorable):
        return STAGING, f"it cannot be scored: {score.why}"
    if isnan(score):
        return STAGING, f"its {name} is not a number"
    if gate.min_score is not None and gate.improvement(score, gate.min_score) < 0:
        return STAGING, f"not good enough: its {name} {score:.6g}, {gate.min_score:g} wanted"
    if champion is None:
        return PRODUCTION, "no version was in production"
    theirs = champion.score
    if isinstance(theirs, Unscorable) or isnan(theirs):
        why = theirs.why if isinstance(theirs, Unscorable) else f"its {name} is not a number"
        return STAGING, f"not compared: production's version {champion.number} cannot be scored: {why}"
    numbers = f"its {name} {score:.6g} against {theirs:.6g} of version {champion.number}"
    better_by = gate.improvement(score, theirs)
    if better_by <= gate.min_improvement:
        wanted = f", {gate.min_improvement:g} more wanted" if gate.min_improvement and better_by > 0 else ""
        return STAGING, f"not better than production: {numbers}{wanted}"
    if gate.confidence is None:
        return PRODUCTION, f"better than production: {numbers}"
    p_value = champion.p_value
    if p_value is not None and p_value <= 1 - gate.confidence:
        return PRODUCTION, f"better than production: {numbers}, p = {p_value:.2g}"
    seen = "unknown" if p_value is None else f"{p_value:.2g}"
    return STAGING, f"not surely better than production: {numbers}, p = {seen}, {1 - gate.confidence:.2g} wanted"


# --- what the registry holds


class Version(NamedTuple):
    """A version of the model; `stage` is MLflow's."""

    number: int
    stage: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def decided(self) -> bool:
        return "decision" in self.tags

    @property
    def ours(self) -> bool:
        """Whether this project registered it: a stranger's version is never judged."""
        return "model_sha256" in self.tags

    @property
    def record(self) -> dict[str, Any]:
        """All of the decision on it; empty where that was made before there were records. Raises Unclear."""
        return self.parsed("decision_record") if "decision_record" in self.tags else {}

    def parsed(self, tag: str) -> dict[str, Any]:
        """The record in a tag. Raises Unclear where that holds none: somebody edited it."""
        try:
            found = json.loads(self.tags[tag])
            return {"turn": int(found["turn"])} | found
        except (ValueError, KeyError, TypeError):
            raise Unclear(
                f"the tag {tag} of version {self.number} is no record; expected what was written: mend or delete it"
            ) from None


class State(NamedTuple):
    """A registered model: its versions, the lowest first, and what the registry has of the model itself."""

    versions: tuple[Version, ...]
    aliases: Mapping[str, int]
    applied: str  # the tag production_turn
    applying: Mapping[str, float] = {}  # the tags of machines that set stages and aliases, or died of it: since when

    @classmethod
    def of(cls, versions: Iterable[Version], aliases: Mapping[str, Any], tags: Mapping[str, str]) -> "State":
        numbers = {name: int(number) for name, number in aliases.items()}
        applying = {name: float(since) for name, since in tags.items() if re.fullmatch(r"applying_\w+", name)}
        return cls(tuple(sorted(versions)), numbers, tags.get("production_turn", ""), applying)

    def version(self, number: int) -> Version | None:
        return next((version for version in self.versions if version.number == number), None)


class Promotion(NamedTuple):
    """That a version was put into production (None: that none was left there). Sorts by what came last."""

    turn: int
    by_a_person: bool
    version: int | None
    record: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"{self.turn}.{int(self.by_a_person)}.{self.version or 0}"


def promotions(state: State) -> list[Promotion]:
    """All that are recorded, the last one last. Raises Unclear."""
    found = []
    for version in state.versions:
        if version.tags.get("decision") == PRODUCTION:
            record = version.record
            found.append(Promotion(record.get("turn", version.number), False, version.number, record))
        for tag in version.tags:
            if re.fullmatch(r"promotion_\d+", tag):
                record = version.parsed(tag)
                found.append(Promotion(record["turn"], True, record.get("version"), record))
    return sorted(found, key=lambda promotion: (promotion.turn, promotion.by_a_person, promotion.version or 0))


def next_turn(state: State) -> int:
    return max((promotion.turn for promotion in promotions(state)), default=0) + 1


def key(state: State) -> str:
    """Names the promotion that stages and alias are to follow; empty if there is none."""
    found = promotions(state)
    return found[-1].key if found else ""


def history(state: State) -> list[int | None]:
    """The versions in production, the present one last, without what was rolled back."""
    stack: list[int | None] = []
    for promotion in promotions(state):
        if promotion.record.get("action") == "rollback" and promotion.version in stack:
            while stack[-1] != promotion.version:
                stack.pop()
        elif stack[-1:] != [promotion.version]:
            stack.append(promotion.version)
    return stack


def champion(state: State) -> int | None:
    """The version that is in production by the records."""
    stack = history(state)
    return stack[-1] if stack else None


# --- what is to be done


class Apply(NamedTuple):
    """Stages and aliases do not follow the records: make them."""

    key: str
    stages: Mapping[int, str]  # the champion's first
    aliases: Mapping[str, int | None]  # None: to be deleted


class Adopt(NamedTuple):
    """A person changed production in the registry's pages: record it. `version` None: nothing is left there."""

    version: int | None
    replaced: int | None


class Decide(NamedTuple):
    """The lowest version without a decision is to be judged."""

    version: Version


class Unclear(Exception):
    """Only a person can tell what is meant: the text says what is found and what to do."""


def next_step(state: State) -> Apply | Adopt | Decide | None:
    """What brings the registry nearer to rest; None if it is there. Raises Unclear."""
    apply = Apply(key(state), _stages(state), _aliases(state))
    if state.applied != apply.key:
        return apply
    if adopt := _by_hand(state):
        return apply if state.applying else adopt
    if apply.stages or apply.aliases:
        return apply
    return next((Decide(version) for version in state.versions if version.ours and not version.decided), None)


def _stages(state: State) -> dict[int, str]:
    """The stages that differ from what they should be. Staging and Archived are not exchanged: a person may do so."""
    best = champion(state)
    changes = {}
    for version in sorted(state.versions, key=lambda version: version.number != best):
        wanted = version.stage
        if version.number == best:
            wanted = PRODUCTION
        elif version.stage == PRODUCTION:
            wanted = ARCHIVED
        elif version.stage == NO_STAGE and version.decided:
            wanted = STAGING if version.tags["decision"] == STAGING else ARCHIVED
        if wanted != version.stage:
            changes[version.number] = wanted
    return changes


def _aliases(state: State) -> dict[str, int | None]:
    """The aliases that differ: `production` is the champion's, `staging` the newest one's in Staging."""
    stages = {version.number: version.stage for version in state.versions} | _stages(state)
    staged = [number for number, stage in stages.items() if stage == STAGING]
    wanted = {"production": champion(state), "staging": max(staged, default=None)}
    return {name: number for name, number in wanted.items() if state.aliases.get(name) != number}


def _by_hand(state: State) -> Adopt | None:
    best, alias = champion(state), state.aliases.get("production")
    staged = {version.number for version in state.versions if version.stage == PRODUCTION}
    new = staged - {best} | {alias} - {best, None}
    if len(new) > 1:
        both = " and ".join(map(str, sorted(new)))
        raise Unclear(
            f"versions {both} are both in production in the registry's pages; expected one: 'make promote VERSION=...' "
            "settles which"
        )
    if new:
        return Adopt(new.pop(), best)
    return Adopt(None, best) if best is not None and best not in staged else None


def record(
    turn: int,
    stage: str,
    reason: str,
    *,
    score: float | Unscorable,
    test_data: str,
    champion: Champion | None,
    champions_data: str | None,
    gate: Gate,
) -> dict[str, Any]:
    """The decision on a version as JSON; `test_data` and `champions_data` are digests of test sets."""
    return {
        "turn": turn,
        "stage": stage,
        "reason": reason,
        "score": _number(score),
        "test_data_sha256": test_data,
        "champion": champion.number if champion else None,
        "champion_score": _number(champion.score) if champion else None,
        "champion_logged_on_sha256": champions_data,
        "p_value": champion.p_value if champion else None,
        "replaced": champion.number if champion and stage == PRODUCTION else None,
        "rule": asdict(gate),
    }


def _number(score: float | Unscorable) -> float | None:
    return None if isinstance(score, Unscorable) or isnan(score) else score
