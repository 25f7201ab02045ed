"""Why a stage is not up to date: what differs from what dvc.lock recorded, each cause in a sentence."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from scripts.explain import code
from scripts.pipeline import dvc_adapter
from scripts.pipeline.dvc_adapter import Difference, Forecast, Version, Will
from scripts.pipeline.images import Image
from scripts.pipeline.params import told_apart
from scripts.pipeline.stage import Pipeline, Stage
from scripts.project import Project

MOST = 6
"""Words of a command, and files of an image, that are shown."""


class Cause(NamedTuple):
    """One thing that differs; `kind` is one of new, input, parameter, code, block, output, lost."""

    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Clone:
    """What causes are looked for in: the clone, its pipeline and images as they are now, and dvc.lock's stages."""

    project: Project
    pipeline: Pipeline
    images: Mapping[str, Image]
    recorded: Mapping[str, Any]


def causes(clone: Clone, about: Forecast) -> list[Cause]:
    """Return what differs of a stage; nothing if it is up to date, or waits for another one alone."""
    if about.will is Will.NOTHING:
        return []
    if about.is_new:
        found = [Cause("new", "dvc.lock has no entry of it"), *_missing(clone, about)]
    else:
        found = [*_inputs(clone, about), *_params(about), *_command(clone, about)]
        found += _outputs(about)
    if about.lost:
        lost = f"what it made of this before is neither in DVC's cache nor on the remote: {_some(about.lost)}"
        found.append(Cause("lost", lost))
    if not found and not about.waits_for:
        found = [Cause("dvc", "DVC counts it as changed, and no file, parameter or command shows why")]
    return found


def _some(words: Sequence[str], between: str = ", ") -> str:
    """Return the first of `words`, and how many more there are."""
    return between.join([*words[:MOST], *([f"and {len(words) - MOST} more"] if len(words) > MOST else [])])


# --- files


def _inputs(clone: Clone, about: Forecast) -> Iterator[Cause]:
    for each in about.inputs:
        yield Cause("input", f"{each.path}, {_maker(clone.pipeline, each.path)}, {_change(each)}")


def _missing(clone: Clone, about: Forecast) -> Iterator[Cause]:
    for each in about.inputs:
        if not each.now:
            yield Cause("input", f"{each.path}, {_maker(clone.pipeline, each.path)}, is not there")


def _maker(pipeline: Pipeline, path: str) -> str:
    here = PurePosixPath(path)
    for stage in pipeline.stages.values():
        for made in map(PurePosixPath, stage.written.values()):
            if here.is_relative_to(made) or made.is_relative_to(here):
                return f"which {stage.name} makes"
    return "which is given"


def _change(each: Difference) -> str:
    if not each.now:
        return "is not there"
    if not each.was:
        return f"is a new input ({_shown(each.now)})"
    return f"has changed: {_shown(each.was)} -> {_shown(each.now)}"


def _outputs(about: Forecast) -> Iterator[Cause]:
    lock, then = (about.name, "") if about.name.endswith(".dvc") else ("dvc.lock", "; a run replaces it")
    for each in about.outputs:
        if each.was and not each.now:
            yield Cause("output", f"the output {each.path} ({_shown(each.was)}) is not there")
        elif each.was and each.now.digest != each.was.digest:
            changed = f"{_shown(each.was)} -> {_shown(each.now)}{then}"
            yield Cause(
                "output", f"the output {each.path} is not what {lock} recorded, as if edited by hand: {changed}"
            )
        elif each.was:
            yield Cause("output", f"the output {each.path} ({_shown(each.was)}) is not in DVC's cache")
        elif not about.is_called_otherwise:
            yield Cause("output", f"the output {each.path} is not in {lock}")


def _shown(version: Version) -> str:
    digest, _, folder = version.digest.partition(".")
    size = "" if version.size is None else f", {version.size} bytes"
    return f"{digest[:8]}{size}{', a folder' if folder else ''}"


# --- parameters


def _params(about: Forecast) -> Iterator[Cause]:
    for section, (was, now) in about.params.items():
        before, after = _flat(section, was), _flat(section, now)
        for name in dict.fromkeys([*before, *after]):
            if name not in before:
                yield Cause("parameter", f"{name} is new: {told_apart(after[name])}")
            elif name not in after:
                yield Cause("parameter", f"{name} is gone; it was {told_apart(before[name])}")
            elif told_apart(before[name]) != told_apart(after[name]):
                yield Cause("parameter", f"{name}: {told_apart(before[name])} -> {told_apart(after[name])}")


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Return the values of a section by their dotted names."""
    if isinstance(value, Mapping):
        return {key: each for inner in value for key, each in _flat(f"{name}.{inner}", value[inner]).items()}
    return {} if value is None and "." not in name else {name: value}


# --- the command: image, block


def _command(clone: Clone, about: Forecast) -> Iterator[Cause]:
    """Yield what differs in the command but for parameters: the code, by the image's tag, and the block."""
    if not about.is_called_otherwise:
        return
    recorded = _texts(clone.recorded.get(about.name, {}).get("cmd"))
    stage = clone.pipeline.stages.get(about.name)
    if stage is None:  # the template has it as it stands
        yield Cause("block", "its command in dvc.yaml has changed")
        return
    image = next((found[0] for found in map(_tag_of(stage), recorded) if found), stage.image)
    if image != stage.image:
        yield from _code(clone, stage, image)
    was, _ = about.params.get(stage.name, (None, None))
    before = _commands(dataclasses.replace(stage, image=image), was)
    if before == recorded:
        if image == stage.image and not [*_params(about)]:
            yield Cause("parameter", f"the order of the parameters in the section {stage.name}")
        return
    yield Cause("block", f"its command in dvc.yaml: {_words(*_docker_runs(recorded, before))}")


def _docker_runs(before: list[str], now: list[str]) -> tuple[list[str], list[str]]:
    """Return the `docker run` of two lists of commands; all of them, if that is the same or is not one of three."""
    if len(before) == len(now) == 3 and before[1] != now[1]:  # the other two follow from it
        return before[1:2], now[1:2]
    return before, now


def _texts(commands: Any) -> list[str]:
    return [commands] if isinstance(commands, str) else list(commands or [])


def _tag_of(stage: Stage) -> Any:
    return re.compile(rf"(?<=\s)stages/{re.escape(stage.name)}:[0-9a-f]{{12}}(?=\s)").search


def _commands(stage: Stage, section: Mapping[str, Any] | None) -> list[str]:
    """Return a stage's commands with the values of a section of params.yaml, as DVC fills them in."""
    stage = dataclasses.replace(stage, section=section)
    values = "" if section is None else dvc_adapter.arguments(section)
    return [command.replace(f"${{{stage.name}}}", values) for command in stage.commands()]


def _words(before: Sequence[str], now: Sequence[str]) -> str:
    """Return which options two lists of commands do not share."""
    old, new = (dict.fromkeys(option for text in texts for option in _options(text)) for texts in (before, now))
    gone = [option for option in old if option not in new]
    come = [option for option in new if option not in old]
    told = [f"no longer {_some(gone)}"] if gone else []
    told += [f"now {_some(come)}"] if come else []
    return "; ".join(told) or "the order of its words"


def _options(command: str) -> list[str]:
    """Return a command in pieces: an option with its value is one."""
    text = " ".join(command.replace("\\\n", " ").split())
    return [f" {piece}".strip() for piece in re.split(r" (?=--?[a-z])| (?=stages/)", text)]


def _code(clone: Clone, stage: Stage, image: str) -> Iterator[Cause]:
    tags = f"{image.partition(':')[2]} -> {stage.image.partition(':')[2]}"
    found = code.origin(clone.project, image, clone.images, stage.name)
    if found:
        yield Cause("code", f"{_some(found.files)} (since commit {found.commit[:8]}; image {tags})")
        return
    dirty = code.since_head(clone.project, clone.images, stage.name)
    now = f"; not committed now: {_some(dirty)}" if dirty else ""
    yield Cause(
        "code",
        f"the image of stages/{stage.name} and stages/base ({tags}); no commit of the last {code.MOST} that changed "
        "these folders gives the recorded one: it ran with changes that were never committed, or on another branch"
        f"{now}",
    )
