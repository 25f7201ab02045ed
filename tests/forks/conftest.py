"""What is tested here are edits of the example: they apply to no other stages."""

import hashlib

import pytest

from scripts.pipeline import template
from scripts.project import ROOT

EXAMPLE = "2da42ac43a2b"
"""The digest of the example (see `example`)."""


def example() -> str:
    """Return a digest of the programs, the template and the parameters of this repository."""
    programs = sorted(path for path in (ROOT / "stages").glob("*/*.py") if not path.name.startswith("test_"))
    texts = [path.read_bytes() for path in [*programs, ROOT / template.TEMPLATE, ROOT / "params.yaml"]]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]


@pytest.fixture(scope="session", autouse=True)
def of_the_example() -> None:
    """Skip all in a repository that is a fork itself."""
    if (found := example()) != EXAMPLE:
        pytest.skip(f"the stages here are not the example's; if they are, its digest is {found} now: write it above")
