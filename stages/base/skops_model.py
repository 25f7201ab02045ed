"""Models on disk: skops files (loading one runs no code), the same bytes for the same model."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import skops.io

from stagekit import BadInput, writing

TRUSTED_TYPES = ["sklearn.tree._tree.Tree"]
"""Types beyond skops' own list that a model file may hold. A forest is made of these."""
_MALFORMED = (LookupError, ValueError, TypeError, AttributeError)
"""What skops raises for an archive that is not one of its own."""


def save(model: Any, path: Path) -> None:
    """Write a fitted scikit-learn estimator to `path`."""
    with writing(path) as part:
        part.write_bytes(reproducible(skops.io.dumps(model)))


def load(path: Path) -> Any:
    """Return the estimator in `path`. Raise BadInput if that is no skops file or holds types that are not trusted."""
    try:
        return skops.io.load(path, trusted=TRUSTED_TYPES)
    except (zipfile.BadZipFile, skops.io.exceptions.UntrustedTypesFoundException, *_MALFORMED) as error:
        raise BadInput(f"{path} is no model that can be trusted ({error}); expected what train wrote") from None


def reproducible(archive: bytes) -> bytes:
    """Return the same skops archive with nothing in it that differs from run to run.

    skops writes object addresses as `__id__` and as names of files. Both are numbered here in the order in which the
    schema mentions them; equal stays equal, so shared objects stay shared. Dates and compression are fixed.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        schema = json.loads(source.read("schema.json"))
        names: dict[str, str] = {}
        _renumber(schema, {}, names)
        files = {new: source.read(old) for old, new in names.items()}
    files["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as zip_file:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            zip_file.writestr(entry, data, compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    return target.getvalue()


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str]) -> None:
    if isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
        if isinstance(node.get("file"), str):
            old = node["file"]
            node["file"] = names.setdefault(old, f"{len(names) + 1}{Path(old).suffix}")
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            _renumber(item, ids, names)
