"""Which version is in production, and which one is to be, by the records in the registry. Pure, and quick to import.

MLflow has no compare-and-set. A promotion is several calls (stages, aliases); a process may be killed after any of
them, and another machine's calls may come between them. So the *records* decide, and stages and aliases follow them:
whoever comes next makes them follow (`next_step` says how), always to the same end.

- A version's tag `decision` (Production or Staging) is the last call of the decision on it; `decision_record` holds
  what is read of it, and names the artifact that holds all. Versions are decided on in their order, each by whoever
  comes first, so none is ever skipped.
- A person's decision is the tag `promotion_<turn>` of the version that it puts into production (or takes out).
- Each promotion has a turn, one more than the highest that its writer saw. The last turn is in production; of two with
  the same turn, a person's.
- The model's tag `production_turn` names the promotion that stages and alias follow. While a machine changes them, its
  tag `applying_...` says so, and stays if that machine is killed. If neither says that they are being changed and they
  differ all the same, a person changed them in the registry's pages: that is recorded as a person's decision.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

PRODUCTION, STAGING, ARCHIVED, NO_STAGE = "Production", "Staging", "Archived", "None"
"""MLflow's stages."""
DIGEST, MODEL_FILE, RECEIPT = "model_sha256", "model_file", "dvc_lock_sha256"
SCORER_IMAGE, SCORER_PARAMS, TEST_DATA = "scorer_image", "scorer_params", "test_data_sha256"
COMMIT, DIRTY = "git_commit", "git_dirty"
"""Tags of a version, besides one named like the gate's metric."""
RESERVED = re.compile(
    rf"decision|decision_record|reason|promotion_\d+|{DIGEST}|{MODEL_FILE}|{RECEIPT}"
    rf"|{SCORER_IMAGE}|{SCORER_PARAMS}|{TEST_DATA}|{COMMIT}|{DIRTY}"
)
"""The names of tags that no metric may have."""
IN_TAG = ("turn", "score", "champion", "champion_score", "p_value", "at", "by", "artifact")
"""What of the record of a decision its tag holds. Tags are for people: the rest is in the artifact, if there is one."""
OLD_MODEL_FILE = "model/model.skops"
"""Where versions without the tag `model_file` have their file."""
LONGEST_NAME, LONGEST_TAG, LONGEST_PARAM = 250, 5000, 500
"""Characters that MLflow servers from 2.7 on take."""


class ScoredBy(NamedTuple):
    """What a score depends on besides the model. Scores are compared only if all three are equal."""

    image: str  # the scorer's
    params: str  # the scorer's, as canonical JSON
    test_data: str  # digest of the scorer's other inputs

    def as_tags(self) -> dict[str, str]:
        return {SCORER_IMAGE: self.image, SCORER_PARAMS: tag_value(self.params), TEST_DATA: self.test_data}

    @property
    def rows_file(self) -> str:
        """The artifact of a model's run with the score of each row, as JSON."""
        return f"scores/{sha256('\0'.join(self).encode()).hexdigest()[:12]}.json"


def in_tag(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a decision's record goes into a tag: all, if no artifact holds it."""
    if not record.get("artifact"):
        return dict(record)
    known = {name: record[name] for name in IN_TAG if record.get(name) is not None}
    return known | {"score": record.get("score")}  # a null says that it was not measured


class Version(NamedTuple):
    """A version of the model; `stage` is MLflow's."""

    number: int
    stage: str
    run_id: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, entity: Mapping[str, Any]) -> "Version":
        """Return the version that MLflow's JSON describes. Raise what comes of it if it is none."""
        return cls(int(entity["version"]), str(entity["current_stage"]), str(entity.get("run_id", "")), tags_of(entity))

    @property
    def decided(self) -> bool:
        return "decision" in self.tags

    @property
    def ours(self) -> bool:
        """True if a project like this one registered it: any other version is never judged."""
        return DIGEST in self.tags

    @property
    def file(self) -> str:
        """The artifact of its run that the model is. Raise Unclear if the tag names anything else."""
        path = self.tags.get(MODEL_FILE, OLD_MODEL_FILE)
        if not re.fullmatch(r"model(/[^/]+)+", path) or ".." in path.split("/"):
            raise Unclear(
                f"the tag {MODEL_FILE} of version {self.number} is {path[:50]!r}; expected a path below model/: "
                "restore it"
            )
        return path

    @property
    def record(self) -> dict[str, Any]:
        """The record of the decision on it, as its tag has it; empty if there were no records yet. Raise Unclear."""
        return self.parsed("decision_record") if "decision_record" in self.tags else {}

    def parsed(self, tag: str) -> dict[str, Any]:
        """Return the record in a tag. Raise Unclear if somebody edited it so that it holds none."""
        try:
            found = json.loads(self.tags[tag])
            found["turn"] = int(found["turn"])
            if tag.startswith("promotion_") and found["version"] not in (None, self.number):
                raise ValueError
            return found
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise Unclear(
                f"the tag {tag} of version {self.number} is no record; expected what was written there: restore or "
                "delete it"
            ) from None


def tags_of(entity: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of what MLflow's JSON describes."""
    return {str(tag["key"]): str(tag.get("value", "")) for tag in entity.get("tags", [])}


class State(NamedTuple):
    """A registered model: its versions, the lowest first, and what the registry has of the model itself."""

    versions: tuple[Version, ...]
    aliases: Mapping[str, int]
    applied: str  # the tag production_turn
    applying: Mapping[str, float] = {}  # the tags of machines that set stages and aliases, or died doing so: since when

    @classmethod
    def of(cls, versions: Iterable[Version], aliases: Mapping[str, Any], tags: Mapping[str, str]) -> "State":
        numbers = {name: int(number) for name, number in aliases.items()}
        applying = {name: _time(since) for name, since in tags.items() if re.fullmatch(r"applying_\w+", name)}
        return cls(tuple(sorted(versions)), numbers, tags.get("production_turn", ""), applying)

    def version(self, number: int) -> Version | None:
        return next((version for version in self.versions if version.number == number), None)


def _time(text: str) -> float:
    """Return the seconds that a tag tells, long ago if it is no number."""
    try:
        return float(text) if math.isfinite(float(text)) else 0.0
    except ValueError:
        return 0.0


class Promotion(NamedTuple):
    """A version was put into production (None: the one there was taken out)."""

    turn: int
    by_a_person: bool
    version: int | None
    record: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"{self.turn}.{int(self.by_a_person)}.{self.version or 0}"


class Key(NamedTuple):
    """What names a promotion: its turn, whether a person decided, and the version, 0 if one was taken out."""

    turn: int
    by_a_person: bool
    version: int


def applied(state: State) -> Key | None:
    """Return the promotion that stages and alias were last made to follow; None if there is none."""
    match = re.fullmatch(r"([0-9]{1,9})\.([01])\.([0-9]{1,9})", state.applied)
    return Key(int(match[1]), match[2] == "1", int(match[3])) if match else None


def promotions(state: State) -> list[Promotion]:
    """Return all promotions that are recorded, the last one last. Raise Unclear."""
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
    """Return the name of the promotion that stages and alias are to follow; empty if there is none."""
    found = promotions(state)
    return found[-1].key if found else ""


def history(state: State) -> list[int | None]:
    """Return the versions that were in production, the present one last, without those that were rolled back."""
    return _history(promotions(state))


def recent_history(state: State) -> list[int | None]:
    """Return the end of the history, as far as a part of the versions tells it for sure: after the last gap in turns,
    and after a rollback to what was there before that."""
    known: list[Promotion] = []
    for promotion in promotions(state):
        after_a_gap = bool(known) and promotion.turn - known[-1].turn > 1
        is_rollback = promotion.record.get("action") == "rollback"
        if after_a_gap or (is_rollback and promotion.version not in _history(known)):
            known = []
        known.append(promotion)
    return _history(known)


def _history(found: Iterable[Promotion]) -> list[int | None]:
    stack: list[int | None] = []
    for promotion in found:
        if promotion.record.get("action") == "rollback" and promotion.version in stack:
            while stack[-1] != promotion.version:
                stack.pop()
        elif stack[-1:] != [promotion.version]:
            stack.append(promotion.version)
    return stack


def champion(state: State) -> int | None:
    """Return the version that is in production by the records."""
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
    """Only a person can say what is meant. The text says what is found and what to do."""


def next_step(state: State) -> Apply | Adopt | Decide | None:
    """Return what brings the registry nearer to rest; None if it is there. Raise Unclear."""
    apply = Apply(key(state), _stages(state), _aliases(state))
    if state.applied != apply.key:
        return apply
    if adopt := _by_hand(state):
        return apply if state.applying else adopt
    if apply.stages or apply.aliases:
        return apply
    return next((Decide(version) for version in state.versions if version.ours and not version.decided), None)


def at_rest(state: State) -> bool:
    """Return True if stages and aliases follow the records, and every version is decided on."""
    return is_clear(state) and next_step(state) is None


def is_clear(state: State) -> bool:
    """Return True if stages and alias name one version."""
    try:
        next_step(state)
    except Unclear:
        return False
    return True


def _stages(state: State) -> dict[int, str]:
    """Return the stages that must change. A person may exchange Staging and Archived: those stay as they are."""
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
    """Return the aliases that must change: `production` is the champion's, `staging` the newest one's in Staging."""
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


# --- what servers take


def clean_name(name: str) -> str:
    """Return the name of a parameter, metric or tag with `_` for what MLflow servers refuse."""
    parts = [re.sub(r"[^\w.\- ]", "_", part) for part in name.split("/")]
    clean = "/".join("_" if part.strip(".") == "" else part for part in parts)
    return clean if len(clean) <= LONGEST_NAME else clean[:LONGEST_NAME].rstrip("./") or "_"


def clean_names[K](names: Mapping[K, str]) -> dict[K, str]:
    """Return each name as MLflow servers take it; of names that become the same, the later ones get a number."""
    found: dict[K, str] = {}
    taken: set[str] = set()
    last: dict[str, int] = {}
    for key, name in names.items():
        first = clean = clean_name(name)
        while clean in taken:
            last[first] = last.get(first, 1) + 1
            clean = f"{first[: LONGEST_NAME - 9]}_{last[first]}"
        taken.add(clean)
        found[key] = clean
    return found


def tag_value(text: str) -> str:
    """Return the value of a tag: the text, or its SHA-256 if it is too long."""
    return text if len(text) <= LONGEST_TAG else f"sha256:{sha256(text.encode()).hexdigest()}"
