"""What a branch changes: its stages, parameters, metrics and models beside those of the commit that it is to go to."""

import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from scripts.explain import explanation
from scripts.explain.report import would_run as runs
from scripts.pipeline import template
from scripts.pipeline.dvc_adapter import Will
from scripts.pipeline.params import as_written, read_params
from scripts.pipeline.stage import Model, Pipeline
from scripts.project import Project, UserError
from scripts.registry import logged, provenance, recorded, scoring
from scripts.registry.gate import Measurement, Unscorable, checked_score
from scripts.registry.paired_tests import paired_p_value
from scripts.report import base as base_commit
from scripts.report import facts, history, intervals, outcome, verdicts
from scripts.report.base import Base
from scripts.report.facts import number, text

BREAKS, NOT_RUN, WORSE, DIFFERS, NEW, BETTER, UNCHANGED = (
    "breaks", "not run", "worse", "differs", "new", "better", "unchanged"
)  # fmt: skip
SEVERITY = (BREAKS, NOT_RUN, WORSE, DIFFERS, NEW, BETTER, UNCHANGED)
"""What can be said of a branch, the most important first."""
MOST = 1000  # metrics, parameters


class Word(NamedTuple):
    """What is said of a branch, or of one of its models: one of SEVERITY, and why."""

    word: str
    why: str


def changes(project: Project, pipeline: Pipeline, base: Base, *, ended_well: bool) -> dict[str, Any]:
    """Return what differs between the working tree and `base`: `words` has the most important one first."""
    lock, stale = provenance.read_lock(project), _stale(project, ended_well=ended_well)
    found = [] if stale else [_model(project, pipeline, base, lock, model) for model in pipeline.models]
    words = [each.word for each in found] or [_without_models(project, pipeline, base, lock, stale)]
    left_out = [each.left_out for each in found if each.left_out]
    if base.lacks:
        left_out.append(f"of {base.name} neither DVC's cache nor the remote has {', '.join(base.lacks)}")
    return {
        "schema": facts.SCHEMA,
        "words": [word._asdict() for word in sorted(words, key=lambda word: SEVERITY.index(word.word))],
        "base": {"name": base.name, "commit": base.commit, "behind": base.behind},
        "lineage": _head(project),
        "stages": list(_stages(pipeline, base.lock, lock, stale)),
        "params": list(_params(project, base))[:MOST],
        "metrics": [] if stale else list(_metrics(project, pipeline, base))[:MOST],
        "models": [each.facts for each in found],
        "left_out": [text(each) for each in left_out],
    }


def broken(error: UserError, base: str) -> dict[str, Any]:
    """Return the same of a branch whose pipeline cannot be read."""
    lists = {name: [] for name in ("stages", "params", "metrics", "models", "left_out")}
    word = Word(BREAKS, text(error))._asdict()
    return {
        "schema": facts.SCHEMA,
        "words": [word],
        "base": {"name": base, "commit": "", "behind": 0},
        "lineage": {},
        **lists,
    }


# --- whether the results at hand are the branch's


def _stale(project: Project, *, ended_well: bool) -> dict[str, list[str]]:
    """Return the stages with which the next run would do something, and why."""
    found = explanation.explain(project, [], ended_well=ended_well)
    wills = (*runs(found), *(about.name for about, _ in found if about.will is Will.RESTORE))
    return {about.name: [f"{why.kind}: {why.text}" for why in causes] for about, causes in found if about.name in wills}


def _without_models(
    project: Project, pipeline: Pipeline, base: Base, lock: recorded.Lock, stale: Mapping[str, Sequence[str]]
) -> Word:
    if not stale:
        same = not any(_stages(pipeline, base.lock, lock, {}))
        return Word(UNCHANGED if same else DIFFERS, "the pipeline has no model to be scored")
    last = next(history.backwards(project), None)
    if last and _is_of(last, pipeline) and last["outcome"] in (facts.FAILED, facts.INTERRUPTED, facts.KILLED):
        failed = [f"{each['name']}: {each['sentence']}" for each in last["stages"] if each["result"] == facts.FAILED]
        return Word(BREAKS, text("; ".join(failed) or f"the run was {last['outcome']}: {last['error']}"))
    return Word(NOT_RUN, f"{', '.join(stale)} would run, so what is here is not this branch's: 'make run' first")


def _is_of(run: Mapping[str, Any], pipeline: Pipeline) -> bool:
    """Return whether a run was one of the code and the parameters as they are now."""
    images = {stage["name"]: stage["image"] for stage in run["stages"]}
    now = {name: text(stage.image) for name, stage in pipeline.stages.items() if name in images}
    params = {param["name"]: param["value"] for param in run["params"]}
    return images == now and params == {
        param["name"]: param["value"] for param in outcome.params(pipeline, {"params": []})
    }


def _head(project: Project) -> dict[str, Any]:
    command = ["git", "-C", str(project.root), "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return {"commit": provenance.head(project), "changed": [text(line[3:]) for line in changed][:MOST]}


# --- what differs


def _stages(
    pipeline: Pipeline, before: recorded.Lock, now: recorded.Lock, stale: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys([*pipeline.stages, *before]):
        if name not in pipeline.stages:
            why = ["it is gone"]
        elif name in stale:
            why = ["it has not run", *stale[name]]
        else:
            why = list(outcome.why(pipeline, name, before.get(name), now[name]))
        if why:
            yield {"name": text(name), "why": [text(each) for each in why]}


def _params(project: Project, base: Base) -> Iterator[dict[str, Any]]:
    now = dict(logged.leaves(read_params(project.params)))
    for name in dict.fromkeys([*base.params, *now]):
        was, value = (text(as_written(side[name])) if name in side else None for side in (base.params, now))
        if was != value:
            yield {"name": text(name), "base": was, "value": value}


def _metrics(project: Project, pipeline: Pipeline, base: Base) -> Iterator[dict[str, Any]]:
    rows = {(model.metrics, model.gate.metric): model for model in pipeline.models}
    for path in [path for stage in pipeline.stages.values() for path in stage.metrics.values()]:
        now, before = (outcome.numbers(root, path) for root in (project.root, base.root))
        for name in dict.fromkeys([*now, *before]):
            metric = {
                "file": text(path),
                "name": text(name),
                "value": number(now.get(name)),
                "base": number(before.get(name)),
            }
            model = rows.get((path, name))
            for key, root in (("interval", project.root), ("base_interval", base.root)):
                metric[key] = _interval(scoring.read(root, model), name) if model else None
            yield metric


def _interval(measured: Measurement | Unscorable, metric: str) -> list[float] | None:
    if isinstance(measured, Unscorable) or metric not in measured.metrics:
        return None
    found = intervals.of_score(measured.metrics[metric], measured.rows)
    return list(found) if found else None


# --- models


class _Found(NamedTuple):
    word: Word
    facts: dict[str, Any]
    left_out: str


def _model(project: Project, pipeline: Pipeline, base: Base, lock: recorded.Lock, model: Model) -> _Found:
    ours, theirs = scoring.read(project.root, model), scoring.read(base.root, model)
    alike = model.scorer in base.lock and _measure(base.lock[model.scorer], model) == _measure(
        lock[model.scorer], model
    )
    word = _word(model, (ours, theirs), base, lock, alike=alike)
    said, left_out = verdicts.of_production(project, pipeline, model, lock, ours)
    gate = [said] if said else []
    stands_in = isinstance(theirs, Measurement) and word.word != BREAKS and not _is_same(base.lock, lock, model)
    if stands_in and not (said and said.is_compared):
        gate.append(verdicts.of_stand_in(model, ours, base.name, theirs if alike else Unscorable(OTHERWISE)))
    found = {
        "model": text(model.name),
        "metric": text(model.gate.metric),
        "word": word.word,
        "score": number(checked_score(ours, model.gate)[0]),
        "base": number(checked_score(theirs, model.gate)[0]),
        "gate": [text(each.sentence) for each in gate],
    }
    return _Found(word, found, left_out and f"{model.name}: {left_out}")


OTHERWISE = "it was measured by another scorer or on other data"


def _measure(entry: Mapping[str, Any], model: Model) -> tuple[Any, ...]:
    """Return what of a scorer's entry in dvc.lock a score depends on besides the model."""
    deps = {path: md5 for path, md5 in outcome.inputs(entry).items() if path != model.file}
    return str(entry.get("cmd")), entry.get("params"), deps


def _is_same(before: recorded.Lock, now: recorded.Lock, model: Model) -> bool:
    """Return whether a model and what its scorer found of it are the same files."""
    files = [recorded.files(lock) for lock in (before, now)]
    return all(files[0].get(path) == files[1].get(path) for path in (model.file, model.metrics, model.rows) if path)


def _word(
    model: Model, measured: tuple[Measurement | Unscorable, ...], base: Base, lock: recorded.Lock, *, alike: bool
) -> Word:
    (score, fault), (was, unknown) = (checked_score(each, model.gate) for each in measured)
    if fault:
        return Word(BREAKS, f"{model.name} cannot be scored: {fault}")
    mine = f"{model.name}: its {model.gate.label} is {score:.6g}"
    if model.scorer not in base.lock:
        return Word(NEW, f"{mine}, and {base.name} has no such model")
    if _is_same(base.lock, lock, model):
        return Word(UNCHANGED, f"{mine}, and the model is that of {base.name}")
    if unknown:
        return Word(DIFFERS, f"{mine}; that of {base.name} is not known: {unknown}")
    numbers = f"{mine}, that of {base.name} is {was:.6g}"
    if not alike:
        return Word(DIFFERS, f"{numbers}, but {OTHERWISE}")
    by = model.gate.improvement(score, was)
    return Word(BETTER if by > 0 else WORSE if by < 0 else UNCHANGED, numbers + _how_sure(*measured))


def _how_sure(ours: Measurement, theirs: Measurement) -> str:
    rows = ours.rows or (), theirs.rows or ()
    if len(rows[0]) != len(rows[1]) or rows[0] == rows[1] or not all(map(math.isfinite, [*rows[0], *rows[1]])):
        return ""
    return f" (p = {paired_p_value(*rows):.2g} on {len(rows[0])} rows)"


@contextmanager
def against(
    project: Project, name: str, *, ended_well: bool
) -> Iterator[tuple[dict[str, Any], Pipeline | None, Base | None]]:
    """Give what differs from the commit `name`, and pipeline and base, whose files are there until the block ends.

    A pipeline that cannot be read breaks; then there are neither. Raise UserError if there is no such commit.
    """
    try:
        pipeline = template.load(project.root)
    except UserError as error:
        yield broken(error, name), None, None
        return
    with base_commit.of(project, pipeline, name) as base:
        try:
            found = changes(project, pipeline, base, ended_well=ended_well)
        except UserError as error:
            found = broken(error, name)
        yield found, pipeline, base
