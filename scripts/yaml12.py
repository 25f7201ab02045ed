"""YAML as DVC reads it: version 1.2, in which `1e-5` and `017` are numbers, and `yes` and `12:30` are texts.

PyYAML's own readers follow version 1.1, which takes each of them for something else; its parser in C takes a tenth of
the time of DVC's reader.
"""

import re
from typing import Any, ClassVar

import yaml
from ruamel.yaml.resolver import implicit_resolvers

OF_DVC = [(tag, regexp, first) for versions, tag, regexp, first in implicit_resolvers if (1, 2) in versions]
"""What a value without quotes is: tag, form, and characters that it may begin with."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Finds the values that DVC finds."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


class Dumper(yaml.SafeDumper):
    """Puts a text into quotes if either version takes it for something else without them."""


class Block(str):
    """Text that YAML shows line by line, so that a command can be copied out of it."""


for _tag, _regexp, _first in OF_DVC:
    Loader.add_implicit_resolver(_tag, _regexp, _first)
    Dumper.add_implicit_resolver(_tag, _regexp, _first)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0 if re.match(r"[-+]?0[box]", text) else 10)


Dumper.add_representer(Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "|"))
Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def load_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text. Raise yaml.YAMLError, or ValueError for a date of month 13, if it is none."""
    return yaml.load(text, Loader=Loader)


DEEPEST = 50


def load_strangers_yaml(text: str | bytes, *, aliases: bool = True) -> Any:
    """Return the value of a YAML text that anybody may have written.

    Raise ValueError if its values lie deeper than DEEPEST in each other, on which the parser in C crashes; without
    `aliases` also if it has one: a few bytes become gigabytes for whoever walks through them. Raise yaml.YAMLError if
    it is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError("too deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) and not aliases:
            raise ValueError(f"it has an alias, *{event.anchor}")
    return load_yaml(text)


def dump_yaml(value: Any, *, width: int = 80) -> str:
    """Return the YAML of a value, its keys in their order, which both versions read alike."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, width=width, allow_unicode=True)
