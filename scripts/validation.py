"""What pydantic refused, as a phrase of one sentence."""

from pydantic import ValidationError

_WORDS = (
    ("Input should be ", ""),
    ("Value should be ", ""),
    ("Value error, ", ""),
    ("String should have ", "a string with "),
    ("String should match ", "a string that matches "),
)


def first_fault(error: ValidationError, section: str = "") -> str:
    """Return the name, the value found and what is expected, of the first value that pydantic refused.

    `section` is put before the name: `promotion.min_score is 'much'; expected a valid number, ...`.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, [*filter(None, [section]), *first["loc"]])) or "value"
    if first["type"] == "missing":
        return f"{name} is missing; expected a value"
    if first["type"] == "extra_forbidden":
        return f"{name} is not known; expected no such key"
    expected = first["msg"]
    for pydantics, ours in _WORDS:
        expected = expected.replace(pydantics, ours)
    return f"{name} is {first['input']!r}; expected {expected}"
