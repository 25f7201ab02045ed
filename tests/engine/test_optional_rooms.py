"""Rooms that not everyone needs: one is a folder below scripts/ with targets of its own, and can be deleted."""

import re
import shutil
from collections.abc import Callable

import pytest

from scripts.project import ROOT
from tests.conftest import NOTHING, Clone, stages_line

pytestmark = pytest.mark.docker
ROOM = {
    "__init__.py": "",
    "targets.mk": """\
##@ Greetings

WORDS += WHOM

greet: ## Greet WHOM=
	@$(RUNNER) greet "$$WHOM"
""",
    "checks.py": """\
from scripts.checks.check import Check

def greetings():
    yield Check("greetings", None, "nobody was greeted", "make greet")

CHECKS = (greetings,)
""",
    "env.example": "GREETING=hello\n",
    "rights.sh": "case $verb in greet) holds_socket='' needs_network='' ;; esac\n",
    "verbs/__init__.py": "ONE_AT_A_TIME = {'greet'}\nNO_SECRETS = {'greet'}\n",
    "verbs/greet.py": """\
import os
from pathlib import Path

def main(arguments):
    print(f"{os.environ['GREETING']},", *arguments)
    print("with", [name for name in ("AWS_SECRET_ACCESS_KEY",) if name in os.environ])
    print("socket", Path("/var/run/docker.sock").exists())
    return 3
""",
}
OPTIONAL = sorted(path.parent.name for path in (ROOT / "scripts").glob("*/targets.mk"))


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    return clone_at("rooms")


def test_a_room_is_a_folder(clone: Clone) -> None:
    """A folder below scripts/ brings targets, what is typed for them, their help, settings, what they may, and lines of
    `make doctor`; without it they are gone."""
    room = clone.path / "scripts" / "greetings"
    for name, text in ROOM.items():
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_text(text)
    assert re.search(r"^Greetings\n  make greet +Greet WHOM=$", clone.make("help").stdout, re.M)
    done = clone.make("greet", "WHOM=$(shell touch bad) 'you'", check=False, AWS_SECRET_ACCESS_KEY="secret")
    assert "hello, $(shell touch bad) 'you'\nwith []\nsocket False\n" in done.stdout
    assert done.returncode == 2 and "Error 3" in done.stdout
    assert not (clone.path / "bad").exists()
    assert "welcome, 'you'" in clone.make("greet", "WHOM='you'", check=False, GREETING="welcome").stdout
    assert "note  greetings  nobody was greeted; make greet" in clone.make("doctor", check=False).stdout
    shutil.rmtree(room)
    assert "greet" not in clone.make("help").stdout
    assert "greetings" not in clone.make("doctor", check=False).stdout
    assert "No rule to make target 'greet'" in clone.make("greet", check=False).stdout


@pytest.mark.parametrize("room", [pytest.param(name, marks=pytest.mark.deep) for name in OPTIONAL])
def test_a_room_can_be_deleted(clone: Clone, room: str) -> None:
    """Without an optional room everything else works: a run, a second one, `make check`, `make lint`, the tests of the
    documents and of the rooms."""
    clone.make("setup-env")
    findings = clone.make("check", check=False).stdout
    shutil.rmtree(clone.path / "scripts" / room)
    clone.make("run")
    assert stages_line(clone.make("run")) == NOTHING
    assert clone.make("check", check=False).stdout == findings
    clone.make("lint")
    clone.make("test", "T=tests/unit/test_docs.py tests/unit/test_rooms.py")
    clone.restore()
