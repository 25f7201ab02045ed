"""Where things are, and the error that a user can act on."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
"""This machine's own: MLflow's database and artifacts, the default DVC remote, logs. Git-ignored."""


class UserError(Exception):
    """A mistake that its reader can mend: the text is one sentence of what, found, expected, what to do next."""


def may_be_cut_off(text: str) -> bool:
    """Whether the last line of a file may have lost its end: a value of 100 could have been left as 10."""
    last = text.rpartition("\n")[2].strip()
    return bool(last) and not last.startswith("#")


def load_yaml(text: str | bytes) -> Any:
    """The value of a YAML text, as `yaml.safe_load` gives it, by the parser in C: a tenth of the time."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def write_if_changed(path: Path, text: str) -> bool:
    """Puts `text` into `path` in one step, unless it holds that already; tells whether it wrote."""
    if path.exists() and path.read_text() == text:
        return False
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)
    return True
