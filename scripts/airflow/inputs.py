"""Files that no stage makes, on which the pipeline begins: have they changed since the last look?"""

import hashlib
from pathlib import Path


def has_changed(path: str, clone: Path) -> bool:
    """Return whether a file or folder of the clone differs from what it was at the last look, and remember it.

    The first look compares with nothing, and says no.
    """
    seen = clone / ".local" / "airflow" / "inputs" / hashlib.sha256(path.encode()).hexdigest()
    now, before = _digest(clone / path), seen.read_text() if seen.exists() else None
    if now != before:
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.write_text(now)
    return before is not None and now != before


def _digest(path: Path) -> str:
    """Return a digest of a file's content, or of all files in a folder with their names; of nothing, a word."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if path.is_dir():
        files = (each for each in sorted(path.rglob("*")) if each.is_file())
        lines = (f"{each.relative_to(path)}\0{_digest(each)}\n" for each in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    return "absent"
