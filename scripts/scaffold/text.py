"""Edits of dvc.yaml.template, params.yaml and .gitignore as texts: what is not edited stays byte for byte."""

import bisect
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import ruamel.yaml

from scripts.pipeline import template
from scripts.pipeline.images import Image
from scripts.pipeline.params import parse
from scripts.pipeline.stage import Pipeline
from scripts.pipeline.template import TEMPLATE
from scripts.project import UserError
from scripts.yaml12 import load_yaml

BYTES = "surrogateescape"
"""How a text that need not be UTF-8 is read and written: other bytes stay as they are."""


def lines_of(text: str) -> list[str]:
    """Return the lines of a text with their ends, whatever those are."""
    return io.StringIO(text, newline="").readlines()


def inserted(text: str, line: int, block: str) -> str:
    """Return `text` with the lines `block` after its line number `line` (0: before all), with the ends of its lines."""
    lines = lines_of(text)
    end = "\r\n" if "\r\n" in text else "\n"
    new = [f"{each}{end}" for each in block.split("\n")]
    if line and not lines[line - 1].endswith(("\n", "\r")):
        new = [end, *new[:-1], new[-1].removesuffix(end)]
    return "".join([*lines[:line], *new, *lines[line:]])


# --- dvc.yaml.template


def with_block(
    text: str, block: str, name: str, after: str, params: Mapping[str, Any], images: Mapping[str, Image], root: Path,
    before: Pipeline,
) -> str:  # fmt: skip
    """Return the template with the block of the stage `name` below that of the stage `after`.

    That is the first place there outside of loops and conditions at which the block adds a stage to the pipeline
    `before` and changes nothing else. Raise UserError if there is none.
    """
    lines, problem = lines_of(text), None
    for end in range(_end_of(after, lines, before.params), len(lines) + 1):
        if not _is_template("".join(lines[:end])):
            continue
        new = inserted(text, end, block)
        try:
            if _adds_only(name, before, template.render(new, params, images, root)):
                return new
        except UserError as error:
            problem = problem or error
    why = f" ({problem})" if problem else ""
    raise UserError(
        f"{TEMPLATE} has no place below the block of {after} where another block adds a stage and changes nothing "
        f"else{why}; expected one outside of loops and conditions: write the block by hand; nothing was changed"
    )


def _end_of(stage: str, lines: list[str], params: Mapping[str, Any]) -> int:
    """Return how many lines of a template make the shortest template of whole lines that has the block of a stage."""

    def template_of(least: int) -> int:
        return next(end for end in range(least, len(lines) + 1) if _is_template("".join(lines[:end])))

    def has_it(least: int) -> bool:
        return stage in _stages_of("".join(lines[: template_of(least)]), params)

    return template_of(bisect.bisect_left(range(len(lines)), True, key=has_it))


def _is_template(text: str) -> bool:
    """Return whether a text is a template by itself: no expression, comment, loop or condition in it is left open."""
    try:
        jinja2.Environment().parse(text)
    except jinja2.TemplateSyntaxError:
        return False
    return True


def _stages_of(text: str, params: Mapping[str, Any]) -> set[str]:
    """Return the names of the stages of a template, or of the beginning of one."""
    found = set()

    def stage(name: str, **_: Any) -> str:
        found.add(name)
        return ""

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.from_string(text).render(params=params, stage=stage, model=lambda *_, **__: "")
    return found


def _adds_only(name: str, before: Pipeline, now: Pipeline) -> bool:
    """Return whether a pipeline is another one and the stage `name`, also in what DVC reads of it."""
    others = {each: stage for each, stage in now.stages.items() if each != name}
    read, read_before = load_yaml(now.text), load_yaml(before.text)
    block = read.get("stages", {}).pop(name, None)
    own = load_yaml(now.stages[name].as_yaml()) if name in now.stages else None
    return (
        list(others.items()) == list(before.stages.items())
        and now.models == before.models
        and read == read_before
        and own == {name: block}
    )


# --- params.yaml


def with_section(text: str, name: str, section: str, values: Mapping[str, Any], after: Iterable[str]) -> str:
    """Return params.yaml with the lines `section`, which hold `values`, below the last of the sections `after`.

    Without any of those, they come last. Raise UserError if that cannot be done by lines.
    """
    start, end = None, len(lines_of(text))
    for each in after:
        start, end = _place_of(text, each) or (start, end)
    new = inserted(text, end, f"\n{section}")
    try:
        right = parse(new) == {**parse(text), name: values}
    except UserError:
        right = False
    if not right:
        raise UserError(
            f"params.yaml cannot be given the section {name} as lines of its own; expected a section a stage, each "
            "beginning in a line of its own: write it by hand; nothing was changed"
        )
    return new


def section_of(text: str, name: str, new: str) -> str | None:
    """Return the lines of a section of params.yaml, comments and all, under a new name; None if there is none."""
    place = _place_of(text, name)
    if place is None:
        return None
    first, *others = lines_of(text)[slice(*place)]
    key = _keys(text)[name]
    lines = [first[: key.start_mark.column] + new + first[key.end_mark.column :], *others]
    return "\n".join(line.rstrip("\r\n") for line in lines)


def _place_of(text: str, section: str) -> tuple[int, int] | None:
    """Return the lines of a section, from its first to that after its last; the comment above the next is not its."""
    keys = _keys(text)
    if section not in keys:
        return None
    lines = lines_of(text)
    starts = [key.start_mark.line for key in keys.values()]
    start = keys[section].start_mark.line
    end = min((line for line in starts if line > start), default=len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return start, end


def _keys(text: str) -> dict[str, Any]:
    """Return the keys of a YAML text as ruamel.yaml has them, with their places."""
    return {key.value: key for key, _ in ruamel.yaml.YAML().compose(text).value}


# --- .gitignore


def with_folder(text: str, folder: str, others: Iterable[str]) -> str:
    """Return .gitignore with a line for a folder of outputs, below that of the last of the `others` that it has."""
    lines = [line.strip() for line in lines_of(text)]
    known = {f"/{other}/" for other in others}
    place = max((number for number, line in enumerate(lines, 1) if line in known), default=len(lines))
    return inserted(text, place, f"/{folder}/")
