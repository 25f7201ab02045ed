"""Makes .env from .env.example, once; readable by its owner alone, since it is to hold a token."""

import os
import tempfile
from pathlib import Path

from scripts.project import ROOT


def ensure() -> bool:
    """Makes .env if there is none; tells whether it did. An existing one is never touched."""
    if (ROOT / ".env").exists():
        return False
    # In one step, so that a kill leaves no half of it, which would count as the user's own.
    descriptor, part = tempfile.mkstemp(prefix=".env.", suffix=".part", dir=ROOT)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write((ROOT / ".env.example").read_text())
    Path(part).rename(ROOT / ".env")
    print(".env: made from .env.example; everything runs locally until you fill it in", flush=True)
    return True


def main(arguments: list[str]) -> None:
    # Every verb makes .env before it starts: here it is there.
    print(".env: at hand")
