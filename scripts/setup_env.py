"""Makes .env from .env.example, once; readable by its owner alone, since it is to hold a token."""

import os

from scripts.project import ROOT


def ensure() -> bool:
    """Makes .env if there is none; tells whether it did. An existing one is never touched."""
    try:
        descriptor = os.open(ROOT / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write((ROOT / ".env.example").read_text())
    print(".env: made from .env.example; everything runs locally until you fill it in", flush=True)
    return True


def main(arguments: list[str]) -> None:
    # Every verb makes .env before it starts: here it is there.
    print(".env: at hand")
