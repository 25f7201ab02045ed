"""Writes values into params.yaml: what else is there, comments too, stays byte for byte."""

import json
from collections.abc import Mapping
from typing import Any

import ruamel.yaml

from scripts.pipeline import params
from scripts.project import UserError
from scripts.sweeps.spec import Value, with_values


def written(text: str, values: Mapping[str, Value]) -> str:
    """Return the text of params.yaml with other values, by their names with dots. Raise UserError if one is not there
    as a value of its own."""
    places = dict(_places(ruamel.yaml.YAML().compose(text), ""))
    wanted = with_values(params.parse(text), values)
    for name, value in sorted(values.items(), key=lambda item: places.get(item[0], (0, 0)), reverse=True):
        if name not in places:
            raise _not_written(name)
        start, end = places[name]
        text = f"{text[:start]}{_scalar(value)}{text[end:]}"
    try:
        found = params.parse(text)
    except UserError:
        found = None
    if found != wanted:
        raise _not_written(", ".join(values))
    return text


def _places(node: ruamel.yaml.Node, above: str) -> Any:
    """Yield where the value of each key begins and ends in the text, with all keys that lead to it."""
    for key, value in node.value if isinstance(node, ruamel.yaml.MappingNode) else ():
        name = f"{above}{key.value}"
        if isinstance(value, ruamel.yaml.ScalarNode):
            yield name, (value.start_mark.index, value.end_mark.index)
        yield from _places(value, f"{name}.")


def _scalar(value: Value) -> str:
    """Return a value as YAML has it; JSON's words for it are YAML's."""
    return json.dumps(value, ensure_ascii=False)


def _not_written(names: str) -> UserError:
    return UserError(
        f"{names} cannot be written into params.yaml; expected each as 'key: value' in a line of its own, without an "
        "anchor: write it by hand"
    )
