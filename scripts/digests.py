"""Digests of files and folders, and numbers rounded to what agrees across machines."""

import hashlib
import os
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's contents, as 64 hex digits.

    A folder's is that of the sorted lines `<relative path>\\0<SHA-256 of the file>\\n`; empty folders do not count.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = (file for file in path.rglob("*") if file.is_file())
    lines = sorted(os.fsencode(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n") for file in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def rounded(value: Any) -> Any:
    """Return `value` with each float in it rounded to 6 decimals: processors differ in the digits after."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(value, 6) + 0.0 if isinstance(value, float) else value  # + 0.0: no -0.0
