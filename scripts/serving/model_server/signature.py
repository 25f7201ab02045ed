"""The columns that a model reads, by MLflow's signature: what is asked of rows, in words."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

EXPECTED = {
    "double": "a number",
    "float": "a number",
    "long": "a whole number",
    "integer": "a whole number",
    "string": "a text",
    "boolean": "true or false",
}
"""What a cell of each type must be; a cell of any other type is taken as it is."""
LARGEST = {"long": 2**63 - 1, "integer": 2**31 - 1}
MOST_COLUMNS = 10_000


class Column(NamedTuple):
    """A column that the model reads, with MLflow's name of its type."""

    name: str
    type: str
    required: bool = True

    @property
    def expected(self) -> str:
        return EXPECTED.get(self.type, "a value")


def columns(signature: Mapping[str, Any] | None) -> list[Column] | None:
    """Return the columns of a signature in the form of `ModelSignature.to_dict()`; None if it names none.

    Raise ValueError if it is no signature.
    """
    if not signature or not signature.get("inputs"):
        return None
    try:
        listed = json.loads(signature["inputs"])
        if not all("name" in each for each in listed) or any(each["type"] == "tensor" for each in listed):
            return None
        found = [
            Column(str(each["name"]), str(each["type"]), each.get("required", True) is not False) for each in listed
        ]
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no signature of MLflow ({type(error).__name__})") from None
    if len(found) > MOST_COLUMNS or len({column.name for column in found}) < len(found):
        raise ValueError("a signature with too many columns, or with two of one name")
    return found


def example(known: list[Column]) -> dict[str, Any]:
    """Return a row that the columns allow, for a model of which no other example is known."""
    values = {"double": 1.0, "float": 1.0, "long": 1, "integer": 1, "string": "text", "boolean": True}
    return {column.name: values.get(column.type) for column in known}
