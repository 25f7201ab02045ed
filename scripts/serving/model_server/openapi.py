"""Describes the server in OpenAPI: its routes, and an example that can be sent as it stands."""

import json
from typing import Any

import pandas as pd

from .model import Model
from .signature import Column

SHOWN = 2  # rows of an example
TYPES = {
    "double": {"type": "number"},
    "float": {"type": "number", "minimum": -3e38, "maximum": 3e38},
    "long": {"type": "integer", "minimum": -(2**63) + 1, "maximum": 2**63 - 1},
    "integer": {"type": "integer", "minimum": -(2**31) + 1, "maximum": 2**31 - 1},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
}
MESSAGE = {
    "type": "object",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error_code", "message"],
}
STATUSES = {
    400: "Rows that the model cannot read; the message names row, column, and what is expected",
    413: "A body that is too large",
    415: "Neither JSON nor CSV",
    503: "No version serves yet, or too many rows wait",
    504: "No answer within the time limit",
}


def describe(model: Model | None, example: pd.DataFrame | None, largest: int) -> dict[str, Any]:
    """Return the OpenAPI document of the server with this model; `largest` is the most bytes of a body."""
    name = model.name if model else "no model yet"
    about = f"Version {model.version}, SHA-256 `{model.sha256}`" if model else "No version serves yet"
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(model.version if model else 0), "description": about},
        "paths": {
            "/invocations": {"post": _invocations(model, example, largest)},
            **{path: {"get": _get(text)} for path, text in _others().items()},
        },
    }


def _others() -> dict[str, str]:
    return {
        "/ping": "200 if a version serves, else 503",
        "/health": "The same",
        "/version": "Which version serves, since when, and why another one does not",
        "/metrics": "For Prometheus",
    }


def _get(text: str) -> dict[str, Any]:
    statuses = {"200": {"description": "Well"}}
    return {
        "summary": text,
        "responses": statuses | ({"503": _status(503)} if "503" in text or text == "The same" else {}),
    }


def _status(status: int) -> dict[str, Any]:
    return {"description": STATUSES[status], "content": {"application/json": {"schema": MESSAGE}}}


def _invocations(model: Model | None, example: pd.DataFrame | None, largest: int) -> dict[str, Any]:
    columns = model.columns if model else None
    csv = {"schema": {"type": "string"}}
    body = {"schema": _schema(columns)}
    if example is not None and len(example):
        some = example.head(SHOWN)
        split = json.loads(some.to_json(orient="split", index=False, double_precision=15))
        records = json.loads(some.to_json(orient="records", double_precision=15))
        values = {"dataframe_split": split, "dataframe_records": records, "inputs": some.to_dict("list")}
        body["examples"] = {form: {"value": {form: value}} for form, value in values.items()}
        csv["example"] = some.to_csv(index=False, lineterminator="\n")
    said = {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]}
    return {
        "summary": "Predict",
        "description": f"In MLflow's forms, at most {largest} bytes. The header X-Model-Version says which version "
        "answered. With ?all=1 each prediction is an object of all that the model says.",
        "parameters": [{"name": "all", "in": "query", "required": False, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/json": body, "text/csv": csv}},
        "responses": {
            "200": {"description": "A prediction for each row", "content": {"application/json": {"schema": said}}},
            **{str(status): _status(status) for status in STATUSES},
        },
    }


def _schema(columns: list[Column] | None) -> dict[str, Any]:
    """Return the schema of the three forms; of a model whose columns are unknown, of any rows."""
    if columns is None:
        cell: dict[str, Any] = {}
        record, split, lists = {"type": "object"}, {"type": "array", "items": cell}, {"type": "object"}
        names: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    else:
        cells = {column.name: _cell(column) for column in columns}
        required = [column.name for column in columns if column.required]
        record = {"type": "object", "properties": cells, "required": required}
        width = {"minItems": len(columns), "maxItems": len(columns)}
        split = {"type": "array", "prefixItems": [*cells.values()], **width}
        arrays = {name: {"type": "array", "items": cell, "minItems": 1, "maxItems": 1} for name, cell in cells.items()}
        lists = {"type": "object", "properties": arrays, "required": required, "additionalProperties": False}
        names = {"const": [*cells]}
    table = {"type": "array", "minItems": 1}
    forms = {
        "dataframe_split": {
            "type": "object",
            "properties": {"columns": names, "data": {**table, "items": split}},
            "required": ["columns", "data"],
            "additionalProperties": False,
        },
        "dataframe_records": {**table, "items": record},
        "inputs": lists,
    }
    return {
        "oneOf": [
            {"type": "object", "properties": {form: schema}, "required": [form], "additionalProperties": False}
            for form, schema in forms.items()
        ]
    }


def _cell(column: Column) -> dict[str, Any]:
    kind = TYPES.get(column.type, {})
    return kind if column.required or not kind else {"anyOf": [kind, {"type": "null"}]}
