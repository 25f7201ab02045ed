"""The texts that people read in MLflow's pages: of a run, and of a registered model (its card). Markdown, and pure.

A text says at its end that the machinery wrote it, with a digest of the rest: what a person edited is left alone.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.markdown import escaped
from scripts.registry.datasets import BOOLEAN, DOUBLE, LONG, TEXT, Dataset
from scripts.registry.gate import Gate

LONGEST = 5000
"""Characters that MLflow servers from 2.7 on take of a tag and of a description."""
LONGEST_OWN = 2500  # of them, of what the project says itself
MOST_COLUMNS, MOST_METRICS, MOST_CLASSES = 25, 12, 12  # rows or words; the run has the rest
SIGNED = re.compile(r"\n\n_Written by the pipeline \(([0-9a-f]{8})\); what you change here stays\._\Z")


@dataclass(frozen=True)
class About:
    """What is known of a model that is published."""

    model: str
    maker: str  # the stage
    scorer: str
    place: str  # of its file among the artifacts of its run
    gate: Gate
    commit: str
    dirty: bool
    repository: str = ""  # its address in a browser
    loads: bool = False  # by mlflow.pyfunc
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: Sequence[Dataset] = ()
    inputs: Sequence[Mapping[str, Any]] = ()  # columns of the signature: name and type
    outputs: Sequence[Mapping[str, Any]] = ()
    example: Mapping[str, Any] | None = None  # a row of inputs
    own: str = ""  # Markdown in which the project says of the model what only people know


def signed(text: str) -> str:
    """Return a text with the line that says whose it is, cut to what servers take."""
    end = "\n\n_Written by the pipeline ({}); what you change here stays._"
    most = LONGEST - len(end) - 8
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text + end.format(_digest(text))


def is_ours(text: str | None) -> bool:
    """Return whether nobody else wrote in a text: there is none, or it is as the pipeline left it."""
    match = SIGNED.search(text or "")
    return not (text or "").strip() or bool(match and match[1] == _digest(text[: match.start()]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# --- a run


def of_run(about: About, version: str, stage: str, reason: str) -> str:
    """Return the description of a run: what it is, data, scores, the decision when it came, how to load it."""
    parts = [
        f"**{escaped(about.model)} version {escaped(version)}**, made by the stage {escaped(about.maker)}, scored by "
        f"{escaped(about.scorer)}. {_code(about)}",
        f"**Decision when it came**: {escaped(stage)}: {escaped(reason, 500)}",
        _scores(about),
        _data(about.data),
        _loading(about, version),
    ]
    return signed("\n\n".join(filter(None, parts)))


def _code(about: About) -> str:
    commit = about.commit[:12]
    if about.repository:
        commit = f"[{commit}]({about.repository}/tree/{about.commit})"
    more = " and the changes in `pipeline/uncommitted.patch`" if about.dirty else ""
    return f"Code: commit {commit}{more}."


def _scores(about: About) -> str:
    first = {name: value for name, value in about.metrics.items() if name == about.gate.metric}
    rows = list((first | dict(about.metrics)).items())[:MOST_METRICS]
    if not rows:
        return ""
    lines = ["| metric | value |", "| --- | --- |", *(f"| {escaped(name)} | {value:.6g} |" for name, value in rows)]
    if len(about.metrics) > len(rows):
        lines.append(f"\n{len(about.metrics) - len(rows)} more are among the metrics of the run.")
    return "\n".join(lines)


def _data(data: Sequence[Dataset]) -> str:
    if not data:
        return ""
    lines = ["| data | file | rows | MD5 |", "| --- | --- | --- | --- |"]
    for each in data:
        rows = str(each.seen.rows) if each.seen and each.seen.rows else ""
        lines.append(f"| {each.context}: {escaped(each.name)} | {escaped(each.path)} | {rows} | {each.digest} |")
    return "\n".join(lines)


def _loading(about: About, which: str) -> str:
    """Return how to load a version, or what an alias names."""
    uri = f"models:/{about.model}{'/' if which.isdecimal() else '@'}{which}"
    lines = ["import mlflow", "", f'model = mlflow.pyfunc.load_model("{uri}")']
    if not about.loads:
        file = re.sub(r"[^\w ./+=@-]", "_", about.place.partition("/")[2])
        lines[2:] = [f'folder = mlflow.artifacts.download_artifacts("{uri}")', f"# in it, {file} is the model"]
    elif about.example:
        lines.append(f"model.predict([{json.dumps(about.example)}])")
    return "\n".join(["```python", *lines, "```"])


# --- a registered model


def of_model(about: About, version: str) -> str:
    """Return the card of a registered model, as the version that was published last has it."""
    parts = [
        about.own.strip()[:LONGEST_OWN],
        _task(about),
        f"**Gives**: {_columns(about.outputs)}" if about.outputs else "",
        f"**Reads**: {_columns(about.inputs)}" if about.inputs else "",
        "\n".join(["**Limits**", "", *(f"- {limit}" for limit in _limits(about))]),
        _data(about.data),
        _loading(about, "production"),
        f"Facts of version {escaped(version)}, published last. {_code(about)}",
    ]
    return signed("\n\n".join(filter(None, parts)))


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    shown = [
        " ".join(f"{escaped(column[key])}" for key in ("name", "type") if column.get(key))
        for column in columns[:MOST_COLUMNS]
    ]
    more = [f"and {len(columns) - MOST_COLUMNS} more"] if len(columns) > MOST_COLUMNS else []
    return ", ".join([*shown, *more])


def _target(about: About) -> tuple[str, Dataset] | None:
    """Return the column of the training data that the model does not read, if there is just one: what it tells."""
    names = {column.get("name") for column in about.inputs}
    for data in about.data:
        columns = data.seen.types.keys() if data.seen and data.context == "training" else set()
        if names and names < columns and len(columns - names) == 1:
            return (columns - names).pop(), data
    return None


def _classes(about: About) -> Mapping[str, int]:
    """Return how often each class is in the training data; none if what the model tells is no text."""
    target = _target(about)
    if target is None or target[1].seen.types[target[0]] not in (TEXT, BOOLEAN):
        return {}
    return target[1].seen.classes.get(target[0], {})


def _task(about: About) -> str:
    if not (target := _target(about)):
        return ""
    name, classes = escaped(target[0]), _classes(about)
    if not classes:
        return (
            f"**Task**: to tell {name}, {'a number' if target[1].seen.types[target[0]] in (LONG, DOUBLE) else 'a text'}"
        )
    listed = [f"{escaped(each)} ({count})" for each, count in list(classes.items())[:MOST_CLASSES]]
    more = [f"and {len(classes) - MOST_CLASSES} more"] if len(classes) > MOST_CLASSES else []
    return f"**Task**: to tell {name}, one of {len(classes)} classes (rows of training): {', '.join([*listed, *more])}"


def _limits(about: About) -> Iterator[str]:
    gate, label = about.gate, escaped(about.gate.label)
    tests = [data.seen for data in about.data if data.seen and data.seen.rows and data.context == "testing"]
    rows = f" on {tests[0].rows} rows" if tests else ""
    if gate.metric in about.metrics:
        score = f"{about.metrics[gate.metric]:.6g}{rows} of the test data below"
        yield f"its {label} is {score}; of other data nothing is known"
    if _classes(about):
        yield "it knows these classes alone, and gives one of them whatever it reads"
    more = f"more than {gate.min_improvement:g} " if gate.min_improvement else ""
    sure = f", with a confidence of {gate.confidence:g} by a paired test" if gate.confidence else ""
    yield f"a version goes to production if its {label} is {more}better on the same test data{sure}"
    if gate.min_score is not None:
        yield f"none does whose {label} is {'below' if gate.higher_is_better else 'above'} {gate.min_score:g}"
