"""Reads params.yaml."""

from pathlib import Path
from typing import Any

import ruamel.yaml

from scripts.project import ROOT, UserError, may_be_cut_off


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
    text = text_of(path)
    if may_be_cut_off(text):
        raise UserError(f"{path.name} ends within a line; expected a line break after the last one: complete that line")
    try:
        params = ruamel.yaml.YAML(typ="safe").load(text)  # DVC's reader, so that both find the same values
    except ruamel.yaml.error.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        where = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{path.name} is no YAML ({where}{' '.join(str(problem).split())}); correct it") from None
    if not isinstance(params, dict):
        found = "is empty" if params is None else f"holds a {type(params).__name__}"
        raise UserError(f"{path.name} {found}; expected sections of 'key: value': correct it")
    for name, section in params.items():
        if not isinstance(section, dict):
            found = "empty" if section is None else repr(section)
            raise UserError(f"{path.name}: the section {name} is {found}; expected 'key: value' below it: correct it")
    return params
