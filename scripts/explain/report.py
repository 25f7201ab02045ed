"""How `make explain` says it: as lines for a person, or as JSON for a program."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.explain.causes import Cause
from scripts.pipeline.dvc_adapter import Forecast, Will

Found = Sequence[tuple[Forecast, Sequence[Cause]]]
FROM = {
    "dvc.lock": "from DVC's cache, by dvc.lock",
    "the run-cache": "from DVC's cache, by the run-cache: it ran like this before",
    "the remote": "from the remote",
}
FAILS = "a run would fail here"


def would_run(found: Found) -> list[str]:
    """Return the stages that run, that may run, or at which a run fails."""
    return [about.name for about, _ in found if about.will in (Will.RUN, Will.WAIT, Will.FAIL)]


def lines(found: Found) -> list[str]:
    """Return the lines for a person: what happens to each stage, below it each cause, at the end the sum."""
    will = {about.name: about.will for about, _ in found}
    width = max([len(name) for name in will], default=0)
    told = []
    for about, causes in found:
        told.append(f"{about.name:<{width}}  {_headline(about, will)}")
        told += [f"{'':<{width}}    {cause.kind}: {cause.text}" for cause in causes]
    return [*told, "", summary(found)]


def _headline(about: Forecast, will: Mapping[str, Will]) -> str:
    if about.will is Will.RESTORE:
        return f"{about.will} {FROM[about.source]}"
    waits = _waits(about.waits_for, will)
    if about.will is Will.WAIT:
        return f"waits for {waits}: {_then(about)}"
    if about.will is Will.RUN and waits:
        return f"will run after {waits}"
    if about.will is Will.FAIL:
        return f"{about.will}: an input or data of 'dvc add' is missing"
    return "is noted as it is now, as 'dvc add' does" if about.will is Will.NOTE else str(about.will)


def _waits(names: Sequence[str], will: Mapping[str, Will]) -> str:
    """Return the stages that one waits for, and what is known of each, in words."""
    by_future: dict[str, list[str]] = {}
    for name in names:
        by_future.setdefault("may run" if will[name] is Will.WAIT else str(will[name]), []).append(name)
    return ", and ".join(f"{' and '.join(alike)}, which {future}" for future, alike in by_future.items())


def _then(about: Forecast) -> str:
    if about.is_called_otherwise or about.is_new or about.inputs or about.outputs:
        return "then it runs, unless DVC has the result of what that makes"
    return "then it runs if that makes something else than before"


def summary(found: Found) -> str:
    """Return in a line what a run would do."""
    counts = {kind: [about.name for about, _ in found if about.will is kind] for kind in Will}
    if not would_run(found):
        restored = len(counts[Will.RESTORE])
        return "nothing would run" + (f"; {restored} of {len(found)} stages would be restored" if restored else "")
    said = [f"would run: {', '.join(counts[Will.RUN])}"] if counts[Will.RUN] else []
    said += [f"may run: {', '.join(counts[Will.WAIT])}"] if counts[Will.WAIT] else []
    said += [f"would fail: {', '.join(counts[Will.FAIL])}"] if counts[Will.FAIL] else []
    return "; ".join(said)


def rows(found: Found) -> list[tuple[str, str, list[str]]]:
    """Return for each stage its name, what happens to it, and the causes."""
    will = {about.name: about.will for about, _ in found}
    return [
        (about.name, _headline(about, will), [f"{cause.kind}: {cause.text}" for cause in causes])
        for about, causes in found
    ]


def as_json(found: Found) -> str:
    """Return the same for a program."""
    return json.dumps(described(found), indent=2)


def described(found: Found) -> dict[str, Any]:
    """Return the same as values that JSON has."""
    stages = [
        {
            "name": about.name,
            "will": about.will.name.lower(),
            "from": about.source or None,
            "waits_for": list(about.waits_for),
            "causes": [cause._asdict() for cause in causes],
        }
        for about, causes in found
    ]
    return {"stages": stages, "would_run": would_run(found)}
