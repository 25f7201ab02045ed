"""`make test-<stage>`: a stage's own tests run in the stage's own image, and its program is held to its block."""

import re
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Clone, last_line

pytestmark = pytest.mark.docker

SEALED = """
import os, pathlib, socket
import pytest

def test_it_is_sealed():
    with pytest.raises(OSError):
        socket.create_connection(("1.1.1.1", 53), timeout=2)
    with pytest.raises(OSError):
        pathlib.Path("/app/new").touch()
    assert os.getuid() == OWNER
    assert "CapEff:\\t0000000000000000" in pathlib.Path("/proc/self/status").read_text()
"""


@pytest.fixture(scope="module")
def begun(clone_at: Callable[[str], Clone]) -> Clone:
    """The one clone of this module."""
    return clone_at("stage tests")


@pytest.fixture
def clone(begun: Clone) -> Iterator[Clone]:
    """That clone, as it was committed after each test."""
    yield begun
    begun.restore()
    begun.git("clean", "--quiet", "--force", "stages")


def test_a_stages_tests_run_in_its_image(clone: Clone) -> None:
    """The stage's tests and the contract's pass; the image is made once, and nothing else stays."""
    done = clone.make("test-train")
    assert re.search(r"^test_train\.py \.", done.stdout, re.M) and re.search(r"= 3 passed in", done.stdout)
    assert clone.git("status", "--porcelain") == ""
    assert "building" not in clone.make("test-train").stdout
    assert clone.docker("container", "ls", "--all", "--quiet", "--filter", "label=pipeline.role=test") == []


def test_the_kits_tests_run_in_the_base(clone: Clone) -> None:
    """`make test-base` runs the tests of what all stages share."""
    assert re.search(r"^tests/test_stagekit\.py \.", clone.make("test-base").stdout, re.M)


def test_some_tests_of_a_stage(clone: Clone) -> None:
    """T= gives pytest more arguments."""
    assert "2 passed, 1 deselected" in clone.make("test-train", "T=-k 'bytes or block'").stdout
    done = clone.make("test-train", "T=-k 'bytes", check=False)
    assert last_line(done) == (
        "error: T=-k 'bytes: No closing quotation; expected arguments as in a shell, like T=\"-k 'a or b'\""
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("params.yaml", "  seed: 58", "  colour: red # a colour\n  seed: 58", "no fields for ['colour']"),
        ("params.yaml", "  seed: 58", "  # seed: 58", "which do not give ['seed']"),
        ("dvc.yaml.template", '"training": "m', '"growth": "m', r"no fields for ['growth'] of dvc.yaml.template"),
        ("stages/train/train.py", "if __name__", "print('begins')\nif __name__", "train.py lacks an 'if __name__"),
    ],
    ids=["a parameter too many", "a parameter missing", "another argument", "a program that runs when imported"],
)
def test_a_program_that_does_not_fit_its_block_fails(clone: Clone, file: str, old: str, new: str, found: str) -> None:
    """Arguments that a program does not have, or lacks, and work at import, fail with what is to be corrected."""
    clone.edit(file, old, new)
    done = clone.make("test-train", check=False)
    assert done.returncode == 2
    assert found in done.stdout


def test_tests_are_as_sealed_as_the_stage(clone: Clone) -> None:
    """A stage's tests have no network, no capabilities, the owner's uid, and cannot change the folder."""
    (clone.path / "stages/train/test_sealed.py").write_text(SEALED.replace("OWNER", str(clone.path.stat().st_uid)))
    assert "test_sealed.py ." in clone.make("test-train").stdout


def test_a_stage_without_tests_says_so(clone: Clone) -> None:
    """A stage that has no tests is no failure; it is said in one sentence."""
    done = clone.make("test-ingest")
    assert last_line(done) == "stages/ingest has no tests; expected test_ingest.py, or another file test_*.py"


def test_a_stage_without_python_says_so(clone: Clone) -> None:
    """The tests of a stage whose image has no Python cannot run in it; that is said in one sentence."""
    folder = clone.path / "stages" / "shell"
    folder.mkdir()
    hidden = "ARG PYTHON_IMAGE\nFROM ${PYTHON_IMAGE}\nRUN rm -f /usr/bin/python3* /usr/local/bin/python3*\n"
    (folder / "Dockerfile").write_text(hidden)
    (folder / "test_shell.py").touch()
    done = clone.make("test-shell")
    assert last_line(done) == "the image of stages/shell has no Python, so its tests cannot run in it"


def test_an_unknown_stage_is_refused(clone: Clone) -> None:
    """A name that no folder has is refused with those that there are."""
    done = clone.make("test-nobody", check=False)
    assert done.returncode == 2
    assert last_line(done) == (
        "error: there is no folder stages/nobody; expected one of base, evaluate, ingest, preprocess, train: correct "
        "the name"
    )
