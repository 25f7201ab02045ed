"""What `make lock` resolves, and with which other locks each must agree."""

from pathlib import Path

import pytest

from scripts.verbs import lock


@pytest.fixture
def root(tmp_path):
    """A project with a few requirements.in."""
    stages = ("stages/base", "stages/base/tests", "stages/one", "stages/two")
    for folder in ("scripts", *stages, "tests/browser", "scripts/own"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "requirements.in").touch()
    (tmp_path / "stages" / "plain").mkdir()
    return tmp_path


def test_stages_agree_with_the_base_alone(root):
    """The runner's packages bind no stage; a stage's are those of the base and of its tests, where they overlap."""
    found = {str(source.parent): [str(path) for path in agreed] for source, agreed in lock.locks(root)}
    base = ["stages/base/requirements.txt", "stages/base/tests/requirements.txt"]
    assert found == {
        "scripts": [],
        "stages/base": [],
        "stages/base/tests": base[:1],
        "stages/one": base,
        "stages/two": base,
        "tests/browser": ["scripts/requirements.txt"],
        "scripts/own": [],
    }


def test_what_others_agree_with_is_resolved_before_them(root):
    """Each lock comes after those that it must agree with."""
    done: list[Path] = []
    for source, agreed in lock.locks(root):
        assert set(agreed) <= set(done)
        done.append(source.with_suffix(".txt"))
