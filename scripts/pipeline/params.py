"""Reads params.yaml."""

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import ruamel.yaml

from scripts.project import ROOT, UserError, may_be_cut_off

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def text_of(path: Path) -> str:
    """Return a text file that stands beside the Makefile. Raise UserError if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not UTF-8: byte {error.start}"
        raise UserError(
            f"{path.name} cannot be read ({why}); expected a text beside the Makefile: correct it, or take the "
            f"committed one with 'git checkout {path.name}'"
        ) from None


def read_params(path: Path = ROOT / "params.yaml") -> dict[str, Any]:
    """Return params.yaml as a mapping of sections.

    Raise UserError if it is missing, is not YAML, or is not a mapping of mappings.
    """
    return parse(text_of(path), path.name)


def load(text: str, name: str) -> Any:
    """Return the value of a YAML text as DVC reads it; `name` is the file's. Raise UserError if it is none."""
    if may_be_cut_off(text):
        raise UserError(f"{name} ends within a line; expected a line break after the last one: complete that line")
    try:
        return ruamel.yaml.YAML(typ="safe").load(text)
    except ruamel.yaml.error.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        where = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{name} is no YAML ({where}{' '.join(str(problem).split())}); correct it") from None
    except (ValueError, RecursionError) as error:  # a date of month 13, or a depth that only Python knows
        why = "too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{name} holds a value that cannot be read ({why}); correct it") from None


def as_written(value: Any) -> str:
    """Return a value as params.yaml has it: null and true, not Python's None and True."""
    if isinstance(value, str | date):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # a list within itself, by an anchor; a key that is a list
        return str(value)


def told_apart(value: Any) -> str:
    """Return a value as `as_written` does, a text in quotes: 1, 1.0, true and "1" are different ones, as to a stage."""
    return (repr(value) if isinstance(value, str) else as_written(value))[:100]


def parse(text: str, name: str = "params.yaml") -> dict[str, Any]:
    """Return the text of params.yaml, or of a file `name` like it, as a mapping of sections. Raise UserError if it is
    none."""
    params = load(text, name)  # by DVC's reader, so that both find the same values
    if not isinstance(params, dict):
        found = "is empty" if params is None else f"holds a {type(params).__name__}"
        raise UserError(f"{name} {found}; expected sections of 'key: value': correct it")
    for key, section in params.items():
        if not isinstance(section, dict):
            found = "empty" if section is None else repr(section)[:200]
            raise UserError(
                f"{name}: the section {str(key)[:100]} is {found}; expected 'key: value' below it: correct it"
            )
        try:
            _check_keys(str(key), section, name)
        except RecursionError:  # by an anchor, a section may be part of itself
            raise UserError(f"{name}: the section {str(key)[:100]} is too deep; correct it") from None
    return params


def _check_keys(where: str, section: Mapping[Any, Any], file: str) -> None:
    """Raise UserError for a key that is no name: keys become arguments of a shell command."""
    for key, value in section.items():
        if not NAME.fullmatch(str(key)):
            raise UserError(
                f"{file}: {where[:100]} has the key {str(key)[:100]!r}; expected a name of letters, digits, - and _: "
                "correct it"
            )
        if isinstance(value, Mapping):
            _check_keys(f"{where}.{key}", value, file)
