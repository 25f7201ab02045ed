"""Checks a value against the JSON Schema of run.json: as much of the language as that uses."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from scripts.project import ROOT

SCHEMA = (
    json.loads((ROOT / "scripts" / "report" / "schema.json").read_text()) if (ROOT / "scripts/report").is_dir() else {}
)
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "null": type(None),
    "boolean": bool,
}
KNOWN = {
    "type", "required", "properties", "items", "enum", "const", "anyOf", "$ref", "additionalProperties", "pattern",
    "minimum", "maxLength", "maxItems", "propertyNames", "format", "title", "$schema", "$defs",
}  # fmt: skip


def is_of(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def faults(value: Any, schema: Mapping[str, Any] = SCHEMA, where: str = "run") -> Iterator[str]:
    """Yield what is wrong with a value."""
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        yield from faults(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    kinds = schema.get("type", [])
    if kinds and not any(is_of(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{where} is {value!r}, expected {kinds}"
        return
    if "anyOf" in schema and all(list(faults(value, each, where)) for each in schema["anyOf"]):
        yield f"{where} is {value!r}, of no kind"
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{where} is {value!r}"
    if isinstance(value, dict):
        yield from (f"{where} lacks {name}" for name in schema.get("required", []) if name not in value)
        others = schema.get("additionalProperties", {})
        for name, inner in value.items():
            yield from faults(inner, schema.get("properties", {}).get(name, others), f"{where}.{name}")
            yield from faults(name, schema.get("propertyNames", {}), f"{where}, a name")
    if isinstance(value, list):
        yield from (fault for inner in value for fault in faults(inner, schema.get("items", {}), f"{where}[]"))
    limits = {"maxItems": list, "maxLength": str}
    yield from (
        f"{where} is too long"
        for limit, kind in limits.items()
        if isinstance(value, kind) and len(value) > schema.get(limit, len(value))
    )
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where} is {value!r}"
    if is_of(value, "number") and value < schema.get("minimum", value):
        yield f"{where} is {value}"
