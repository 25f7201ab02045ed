"""Several stages from one block: one for each value, as DVC's `foreach` and `matrix` make them.

DVC reads the block as it stands in dvc.yaml; the pipeline has its stages one by one, under the names that DVC gives
them: `train@fr`. (https://dvc.org/doc/user-guide/project-structure/dvcyaml-files#foreach-stages)
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scripts.pipeline.stage import JOIN, Files, Stage
from scripts.project import UserError

Item = str | int | float | Mapping[str, Any]
NAME = re.compile(r"[\w.-]+")
FIELD = re.compile(r"\$\{([^}]*)\}")


def items(foreach: Any, matrix: Any) -> tuple[dict[str, Any], dict[str, Item]]:
    """Return what dvc.yaml says of the values, and the values themselves by the name that DVC gives each.

    Raise UserError if they are no list and no mapping of plain values.
    """
    if foreach is not None and matrix is not None:
        raise UserError("it has foreach and matrix; expected one of them: remove the other")
    if matrix is not None:
        found = dict(_combinations(matrix))
    elif isinstance(foreach, Mapping):
        found = {_text(key): value for key, value in foreach.items()}
    elif isinstance(foreach, Sequence) and not isinstance(foreach, str):
        found = {_text(value): value for value in foreach}
        if len(found) < len(foreach):
            raise UserError("foreach has a value twice; expected each once: remove one")
    else:
        raise UserError(f'foreach is {foreach!r}; expected ["a", "b"] or {{"a": {{"argument": 1}}}}: correct it')
    if not found:
        raise UserError("foreach or matrix is empty; expected at least one value: add one")
    for name, item in found.items():
        for value in item.values() if isinstance(item, Mapping) else [item]:
            if not isinstance(value, str | int | float):
                raise UserError(f"{name} has the value {value!r}; expected a text or a number: correct it")
    return {"foreach": foreach} if matrix is None else {"matrix": matrix}, found


def _combinations(matrix: Any) -> Iterator[tuple[str, Item]]:
    if not isinstance(matrix, Mapping) or not all(
        isinstance(values, Sequence) and not isinstance(values, str) for values in matrix.values()
    ):
        raise UserError(f'matrix is {matrix!r}; expected {{"argument": ["a", "b"]}}: correct it')
    for values in itertools.product(*matrix.values()):
        yield "-".join(map(_text, values)), dict(zip(matrix, values, strict=True))


def _text(value: object) -> str:
    """Return a value as DVC writes it into a name."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not NAME.fullmatch(text):
        raise UserError(f"{value!r} is to be part of a name; expected letters, digits and ._-: give it another one")
    return text


def pattern(stage: Stage, found: Mapping[str, Item], *, by_key: bool) -> Stage:
    """Return the stage as the block of dvc.yaml has it, with ${...} where DVC fills in each value."""
    is_mapping = all(isinstance(item, Mapping) for item in found.values())
    if not is_mapping and any(isinstance(item, Mapping) for item in found.values()):
        raise UserError("foreach has texts beside mappings; expected one kind: correct it")
    filled_in = "${item}" if is_mapping else "--item ${item}"
    return replace(stage, name=f"{stage.name}{JOIN}${{{'key' if by_key else 'item'}}}", filled_in=filled_in)


def expand(stage: Stage, found: Mapping[str, Item]) -> Iterator[Stage]:
    """Yield the stage of each value. Raise UserError for a ${...} that no value fills, or an argument that is twice."""
    for name, item in found.items():
        arguments = item if isinstance(item, Mapping) else {"item": item}
        if twice := set(stage.section or {}) & set(arguments):
            raise UserError(f"{min(twice)} is an argument of foreach and in params.yaml; expected it once: rename one")
        fields = {"key": name, "item": item} if not isinstance(item, Mapping) else {"key": name}
        fields |= {f"item.{argument}": value for argument, value in arguments.items()}

        def fill(files: Files, fields: Mapping[str, Any] = fields) -> Files:
            return {argument: _filled(path, fields) for argument, path in files.items()}

        yield replace(
            stage,
            name=f"{stage.name}{JOIN}{name}",
            inputs=fill(stage.inputs),
            outputs=fill(stage.outputs),
            metrics=fill(stage.metrics),
            plots=fill(stage.plots),
            section={**(stage.section or {}), **arguments},
        )


def _filled(path: object, fields: Mapping[str, Any]) -> Any:
    if not isinstance(path, str):
        return path

    def value(match: re.Match[str]) -> str:
        if match[1] not in fields:
            known = ", ".join(f"${{{name}}}" for name in fields)
            raise UserError(f"the path {path} has {match[0]}, which no value fills; expected {known}: correct it")
        return _text(fields[match[1]])

    return FIELD.sub(value, path)
