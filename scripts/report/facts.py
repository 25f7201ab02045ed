"""What a run was, as run.json has it, from what it noted as it went on. REPORTS.md says what each name there means."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.pipeline.console import all_harmless, printable

SCHEMA = 1
WELL, FAILED, INTERRUPTED, KILLED, RUNNING = "well", "failed", "interrupted", "killed", "running"
UP_TO_DATE, NOT_RUN = "up to date", "not run"
PARTS = ("waiting", "image", "start", "run", "border", "cache")
CONTAINER = {"container starts": "run", "container ends": "start"}
"""What begins then: the program's run, and Docker's work after it."""
LONGEST = 1000  # characters of a text
MOST_LINES = 40  # of the log of a stage that failed

type Event = Mapping[str, Any]


def read(path: Path) -> list[Event]:
    """Return what a run noted, without a last line that is cut off."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("at"), int | float) and "kind" in event:
            found.append(event)
    return found


def text(value: object) -> str:
    """Return a stranger's text on one line that a terminal and a page can show."""
    return " ".join(printable(str(value)[: 2 * LONGEST]).split())[:LONGEST]


def number(value: Any) -> float | str | None:
    """Return a number as JSON can hold it: one that is not finite as the text nan, inf or -inf."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else str(float(value))


def run_of(name: str, events: Sequence[Event], *, outcome: str, error: str = "", **known: Any) -> dict[str, Any]:
    """Return the run with this name; `known` is what is only known at its end."""
    first = events[0]["at"] if events else 0.0
    last = max((event["at"] for event in events), default=first)
    plan = next((event for event in events if event["kind"] == "plan"), {"needs": {}, "up_to_date": [], "jobs": None})
    stages = _Stages(first, last, plan, events, is_over=outcome != RUNNING)
    why = known.pop("why", {})
    begin = next((event for event in events if event["kind"] == "begin"), {})
    return {
        "schema": SCHEMA,
        "id": name,
        "command": text(begin.get("command", "make run")),
        "began": datetime.fromtimestamp(first, UTC).isoformat(timespec="milliseconds"),
        "seconds": round(last - first, 3),
        "outcome": outcome,
        "error": text(error),
        "jobs": plan["jobs"],
        "stages": [stages.of(stage, why.get(stage, []), begin) for stage in plan["needs"]],
        **{"params": [], "metrics": [], "models": [], "lineage": {}},
        **known,
    }


def _took(spans: Sequence[Mapping[str, Any]], part: str) -> float:
    return round(sum(span["to"] - span["from"] for span in spans if span["part"] == part), 3)


class _Stages:
    """What the events say of each stage. Times of a stage are seconds since the run began."""

    def __init__(self, first: float, last: float, plan: Event, events: Sequence[Event], *, is_over: bool) -> None:
        self._first, self._last, self._plan, self._is_over = first, last, plan, is_over
        self._images = next((event["at"] for event in events if event["kind"] == "images"), first)
        self._of: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if "stage" in event:
                self._of[event["stage"]].append(event)
        ends = [event for of_stage in self._of.values() for event in of_stage if event["kind"] == "ends"]
        self._ended = {event["stage"]: event["at"] for event in ends}

    def of(self, name: str, why: Sequence[str], begin: Event) -> dict[str, Any]:
        events = self._of[name]
        end = next((event for event in events if event["kind"] == "ends"), {})
        began = next((event["at"] for event in events if event["kind"] == "begins"), None)
        spans = self._spans(name, events, began, end.get("at", self._last)) if began is not None else []
        uses = events if began is not None else []  # of a container that started early and came to nothing
        limits = begin.get("limits", {}).get(name, {})
        return {
            "name": text(name),
            "needs": [text(need) for need in self._plan["needs"][name]],
            "result": self._result(name, began, end),
            "why": [text(each) for each in why],
            "sentence": text(end.get("sentence", "")),
            "image": text(begin.get("images", {}).get(name, "")),
            "spans": spans,
            "parts": {part: _took(spans, part) for part in PARTS},
            "memory": {"peak": self._peak(uses), "limit": limits.get("memory")},
            "cpu": {"seconds": self._processor(uses), "limit": limits.get("cpus")},
            "log": [line[:LONGEST] for line in all_harmless(end.get("printed", [])[-MOST_LINES:])],
        }

    def _result(self, name: str, began: float | None, end: Event) -> str:
        if end:
            return end["result"]
        if name in self._plan["up_to_date"]:
            return UP_TO_DATE
        if not self._is_over:
            return NOT_RUN if began is None else RUNNING
        return NOT_RUN if began is None else INTERRUPTED

    def _spans(self, name: str, events: Sequence[Event], began: float, ended: float) -> list[dict[str, Any]]:
        """Return the parts of a stage's time, one after the other, from when all that it needs was there."""
        ready = max([self._first, *(self._ended.get(need, self._first) for need in self._plan["needs"][name])])
        marks = [(min(ready, began), "waiting"), (began, "cache")]  # DVC looks first whether it has the result
        if ready < self._images < began:
            marks = [(ready, "image"), (self._images, "waiting"), marks[-1]]
        starts = [event["at"] for event in events if event["kind"] == "container starts"]
        commands = min([event["at"] for event in events if event.get("step") == "start"], default=math.inf)
        for event in events:
            at = event["at"]
            if event["kind"] == "step":
                # Where its container runs already, or the engine said nothing of one, this is its program's time.
                runs = event["step"] == "start" and (not starts or min(starts) <= at)
                marks.append((at, "run" if runs else event["step"]))
            elif event["kind"] == "retry":
                marks.append((at, "waiting"))
            elif event["kind"] in CONTAINER and at > commands:
                marks.append((at, CONTAINER[event["kind"]]))
        marks.sort(key=lambda mark: mark[0])
        spans = []
        for (start, part), (end, _) in zip(marks, [*marks[1:], (ended, "")], strict=True):
            if end > start:
                spans.append({"part": part, "from": round(start - self._first, 3), "to": round(end - self._first, 3)})
        return spans

    def _peak(self, events: Sequence[Event]) -> int | None:
        return max((event["memory"] for event in events if event["kind"] == "uses"), default=None)

    def _processor(self, events: Sequence[Event]) -> float | None:
        """Return the seconds of processor time of all containers of a stage, to the last look at each."""
        last = {event["container"]: event["cpu"] for event in events if event["kind"] == "uses"}
        return round(sum(last.values()), 3) if last else None
