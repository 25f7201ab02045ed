"""What is known of a sweep: its trials and what came of each, in one file that is written in one step.

What came of a trial is kept by its values, so that a sweep which goes on asks for the same trials and finds them done.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from scripts.project import Project, UserError, atomic_write
from scripts.sweeps.spec import MAXIMIZE, Spec, Target, Value

SCHEMA = 1
STATE, PAGE, LOGS, SLOTS = "sweep.json", "report.html", "logs", "slots"
"""In a sweep's folder: what is known, the page, a log a trial, the working copies."""
ID = re.compile(r"[0-9a-f]{8}")
DONE, FAILED, RUNNING, SAME = "done", "failed", "running", "same"
Values = Mapping[str, Value]


@dataclass
class Outcome:
    """What came of a trial. `score` is None if it failed, and `sentence` says why; `seconds` are those of the stages
    that were first needed by it, `ran` those of them that ran rather than being restored."""

    score: float | None
    metrics: dict[str, float]
    seconds: float
    ran: list[str]
    sentence: str = ""


@dataclass
class Trial:
    """`number` counts from 1. `same_as` is an earlier trial with the same values, so that this one was not run."""

    number: int
    values: dict[str, Value]
    outcome: Outcome | None = None
    same_as: int | None = None

    @property
    def state(self) -> str:
        if self.outcome is None:
            return RUNNING
        return FAILED if self.outcome.score is None else DONE if self.same_as is None else SAME

    @property
    def score(self) -> float | None:
        return self.outcome.score if self.outcome else None


@dataclass
class Study:
    """A sweep.

    `outcomes` are by the key of their values. `scored` is the trial for which all that follows the objective was run,
    so that a run finds it in the cache; `kept` are those that somebody took over by their number; `tracked` is whether
    MLflow has all of it.
    """

    id: str
    file: str
    began: str
    metric: str
    goal: str
    target: dict[str, Any]
    spec: dict[str, Any]
    parameters: list[str]
    planned: int
    base: dict[str, Value]  # all parameters of the pipeline's stages as they were when it began
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)
    scored: int | None = None
    kept: list[int] = field(default_factory=list)
    ended: str | None = None
    tracked: bool = False

    def add(self, points: Sequence[dict[str, Value]]) -> list[Trial]:
        """Add trials; return those that must be run. What is known of equal ones they have at once."""
        first = {key(trial.values): trial.number for trial in reversed(self.trials)}
        new = []
        for point in points:
            trial = Trial(len(self.trials) + 1, dict(point), self.outcomes.get(key(point)), first.get(key(point)))
            first.setdefault(key(point), trial.number)
            self.trials.append(trial)
            if trial.outcome is None and trial.same_as is None:
                new.append(trial)
        return new

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Note what came of a trial, for all that are equal to it."""
        self.outcomes[key(trial.values)] = outcome
        for each in self.trials:
            if key(each.values) == key(trial.values):
                each.outcome = outcome

    def counted(self, *states: str) -> int:
        return sum(trial.state in states for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, of several the first; None if none has a score."""
        sign = 1 if self.goal == MAXIMIZE else -1
        scored = [trial for trial in self.trials if trial.score is not None]
        return max(scored, key=lambda trial: (sign * trial.score, -trial.number), default=None)

    def trial(self, number: int) -> Trial | None:
        return next((trial for trial in self.trials if trial.number == number), None)


def key(values: Values) -> str:
    """Return a text that is the same for the same values."""
    return json.dumps(dict(sorted(values.items())))


def identity(spec: Spec, target: Target, text: str, params: Values, given: Mapping[str, str]) -> str:
    """Return a sweep's name: another one if its file, the pipeline (dvc.yaml's `text`), a parameter that is not tried
    or an input that no stage makes is another one."""
    fixed = {name: value for name, value in params.items() if name not in spec.parameters}
    parts = [described(spec), target.file, text, fixed, dict(given)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]


def described(spec: Spec) -> dict[str, Any]:
    """Return what sweep.yaml says, as JSON can hold it."""
    return asdict(spec) | {"parameters": {name: space._asdict() for name, space in spec.parameters.items()}}


def new(spec: Spec, target: Target, file: str, name: str, params: Mapping[str, Value]) -> Study:
    return Study(
        id=name,
        file=file,
        began=now(),
        metric=spec.objective.metric,
        goal=spec.objective.goal,
        target=target._asdict(),
        spec=described(spec),
        parameters=[*spec.parameters],
        planned=spec.trials,
        base=dict(params),
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# --- the files


def top(project: Project) -> Path:
    return project.local / "sweeps"


def folder(project: Project, name: str) -> Path:
    return top(project) / name


def save(study: Study, project: Project) -> None:
    """Write what is known. Raise UserError if the disk does not take it."""
    path = folder(project, study.id) / STATE
    state = asdict(study) | {"schema": SCHEMA}
    state["trials"] = [{"values": trial.values} for trial in study.trials]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(state, indent=1, default=str) + "\n")
    except OSError as error:
        raise UserError(
            f"the sweep's state cannot be written to {path.relative_to(project.root)} ({error.strerror}); expected "
            "room for it: make some, and 'make sweep' goes on"
        ) from None


def load(path: Path) -> Study | None:
    """Return what is known of the sweep in a folder; None if that is nothing, or of another version of this code."""
    try:
        state = json.loads((path / STATE).read_bytes())
        if state.pop("schema") != SCHEMA:
            return None
        outcomes = {values: Outcome(**outcome) for values, outcome in state.pop("outcomes").items()}
        points = [trial["values"] for trial in state.pop("trials")]
        study = Study(**state, outcomes=outcomes)
        study.add(points)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return study


def studies(project: Project) -> Iterator[Study]:
    """Yield what is known of each sweep, the last one last."""
    paths = sorted(top(project).iterdir()) if top(project).is_dir() else []
    found = [study for path in paths if ID.fullmatch(path.name) and (study := load(path))]
    yield from sorted(found, key=lambda study: (study.began, study.id))


def named(project: Project, name: str = "") -> Study:
    """Return the sweep with this name, or the last one. Raise UserError if there is none."""
    found = list(studies(project))
    if not found:
        raise UserError("there is no sweep here yet; expected one: 'make sweep' runs one")
    if not name:
        return found[-1]
    if not (fitting := [study for study in found if study.id == name]):
        raise UserError(
            f"there is no sweep {name[:60]!r}; expected one of {', '.join(study.id for study in found)}: 'make sweeps' "
            "lists them"
        )
    return fitting[0]


def is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
