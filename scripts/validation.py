"""Checks a section of a file against a schema. Voluptuous does it, which DVC has imported already: others take long."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from voluptuous import Invalid, MultipleInvalid, RequiredFieldInvalid, Schema

from scripts.project import UserError


def is_asked(given: Mapping[str, str], word: str, what: str) -> bool:
    """Return whether `WORD=1` was typed, which asks for `what`. Raise UserError for another value."""
    value = given.get(word.lower(), "")
    if value not in ("", "0", "1"):
        raise UserError(f"{word} is {value!r}; expected 1 for {what}, or nothing: correct it")
    return value == "1"


def validated(schema: Schema, section: Mapping[str, Any], name: str, file: str) -> dict[str, Any]:
    """Return the section as the schema has it; `name` and `file` say whose it is in a sentence.

    Raise UserError for the first value that is refused: `promotion.min_score is 'much'; expected a number`.
    """
    try:
        return schema(dict(section))
    except MultipleInvalid as error:
        raise UserError(f"{_fault(error.errors[0], section, name)}: correct it in {file}") from None


def _fault(error: Invalid, section: Mapping[str, Any], name: str) -> str:
    path = [getattr(key, "schema", key) for key in error.path]  # a key that is required, as its name
    where = ".".join(map(str, [name, *path]))
    if isinstance(error, RequiredFieldInvalid):
        return f"{where} is missing; expected a value"
    if error.msg == "extra keys not allowed":
        return f"{where} is not known; expected no such key"
    value: Any = section
    for key in path:
        value = value[key]
    return f"{where} is {value!r}; expected {error.msg}"


def true_or_false(value: Any) -> bool:
    """Return the value if it is a Boolean: 0, 1 and "yes" are none."""
    if not isinstance(value, bool):
        raise Invalid("true or false")
    return value


def number(value: Any) -> float:
    """Return the value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("a number")
    try:
        finite = isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        finite = False
    if not finite:
        raise Invalid("a finite number")
    return float(value)


def within(test: Callable[[float], bool], described: str) -> Callable[[Any], float]:
    """Return a check for numbers that pass the test."""

    def check(value: Any) -> float:
        if not test(found := number(value)):
            raise Invalid(described)
        return found

    return check


def optional[T](check: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Return a check that lets null pass as well."""
    return lambda value: None if value is None else check(value)
