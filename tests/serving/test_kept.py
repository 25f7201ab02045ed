"""What a server follows: versions that are kept by their hash, and a registry that may be away."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.project import ROOT, Project, UserError
from scripts.registry import reader, recorded, records
from scripts.registry.records import State, Version
from scripts.serving.agent import Agent, Wish
from scripts.serving.kept import GOOD, WANTED, Kept

SIGNATURE = {"inputs": '[{"type": "double", "name": "x"}]', "outputs": None}


class Registry:
    """Stands for MLflow: versions with their files, which one is in production, and whether it answers."""

    def __init__(self) -> None:
        self.files: dict[int, dict[str, bytes]] = {}
        self.tags: dict[int, dict[str, str]] = {}
        self.order: list[int] = []  # of promotions
        self.away, self.downloads = False, 0

    def add(self, number: int, content: bytes, *, promoted: bool = True, **tags: str) -> Version:
        described = json.dumps({"signature": SIGNATURE}).encode()
        self.files[number] = {"model/m.json": content, "model/MLmodel": described}
        digest = hashlib.sha256(content).hexdigest()
        self.tags[number] = {records.DIGEST: digest, records.MODEL_FILE: "model/m.json"} | tags
        if promoted:
            self.promote(number)
        return self.state().version(number)

    def promote(self, number: int) -> None:
        self.order.append(number)
        turn = len(self.order)
        self.tags[number][f"promotion_{turn}"] = json.dumps({"turn": turn, "version": number, "action": "promote"})

    def state(self) -> State:
        if self.away:
            raise UserError("the MLflow server did not answer; ask 'make doctor'")
        found = [Version(number, "None", f"run{number}", dict(tags)) for number, tags in self.tags.items()]
        return State.of(found, {"staging": max(self.files)}, {})

    def fetch(self, version: Version, path: str, folder: Path) -> Path | None:
        if self.away:
            raise UserError("the MLflow server did not answer; ask 'make doctor'")
        self.downloads += path != "model/MLmodel"
        content = self.files[version.number].get(path)
        if content is None:
            return None
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        return folder / path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry()
    monkeypatch.setattr(recorded, "fetch", found.fetch)
    monkeypatch.setattr(reader, "look_up", lambda model: found.state())
    return found


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(Project(tmp_path), "a/model")


@pytest.fixture
def agent(kept: Kept, said: list[str]) -> Callable[..., Agent]:
    return lambda which="", shadow="": Agent(kept, Wish(which, shadow), said.append)


@pytest.fixture
def said() -> list[str]:
    return []


def wanted(kept: Kept) -> dict[str, Any]:
    return json.loads((kept.folder / WANTED).read_text())


def told(about: dict[str, Any]) -> dict[str, Any]:
    """Return what a server says that serves this version."""
    return {"version": about["version"], "sha256": about["sha256"], "shadow": None, "refused": {}}


# --- files by their hash


def test_a_version_is_fetched_once(registry, kept):
    """A file that is here whole is not fetched again; one that was damaged is."""
    version = registry.add(1, b"one")
    about = kept.fetch(version)
    assert (kept.folder / about["file"]).read_bytes() == b"one" and about["signature"] == SIGNATURE
    assert kept.fetch(version) == about and registry.downloads == 1
    (kept.folder / about["file"]).write_bytes(b"two")
    assert kept.fetch(version) == about and registry.downloads == 2
    assert (kept.folder / about["file"]).read_bytes() == b"one"


@pytest.mark.parametrize(
    ("files", "tags", "sentence"),
    [
        ({"model/m.json": b"other"}, {}, "is not the one that was published"),
        ({}, {}, "has no file in its run any more"),
        ({"model/m.json": b"one"}, {records.DIGEST: "../../x"}, "has no hash of its file"),
        ({"model/m.json": b"one", "model/MLmodel": b'{"signature": {"inputs": "5"}}'}, {}, "no signature of MLflow"),
    ],
)
def test_what_is_not_what_was_published_is_refused(registry, kept, files, tags, sentence):
    """A file of another hash, none at all, a version without a hash or with no signature: a sentence, and no file."""
    version = registry.add(1, b"one", **tags)
    registry.files[1] = files
    with pytest.raises(UserError, match=sentence):
        kept.fetch(version)
    assert [path for path in kept.folder.rglob("*") if path.is_file()] == []


def test_few_versions_are_kept(registry, kept):
    """The newest stay, and those that serve, whatever their age."""
    first = kept.fetch(registry.add(1, b"1"))
    for number in range(2, 10):
        kept.fetch(registry.add(number, str(number).encode()))
    kept.forget_others({first["sha256"]})
    assert len([*(kept.folder / "models").iterdir()]) == 6
    assert (kept.folder / first["file"]).is_file()


# --- following


def test_it_follows_the_records(registry, kept, agent, said):
    """What the records say is in production is what is to serve, after a promotion and back again."""
    registry.add(1, b"one")
    agent = agent()
    agent.look()
    assert wanted(kept)["current"]["version"] == 1 and wanted(kept)["registry"]["ok"]
    registry.add(2, b"two", promoted=False)
    agent.look()
    assert wanted(kept)["current"]["version"] == 1
    registry.promote(2)
    agent.look()
    assert wanted(kept)["current"]["version"] == 2
    registry.promote(1)
    agent.look()
    assert wanted(kept)["current"]["version"] == 1 and said == []


def test_an_alias_a_number_and_a_shadow(registry, kept, agent):
    """An alias or a number may be followed in place of production, and a second version beside it."""
    registry.add(1, b"one")
    registry.add(2, b"two", promoted=False)
    agent("1", "staging").look()
    assert [wanted(kept)[role]["version"] for role in ("current", "shadow")] == [1, 2]
    agent("staging").look()
    assert (wanted(kept)["current"]["version"], wanted(kept)["shadow"]) == (2, None)


def test_a_registry_that_is_away_is_no_outage(registry, kept, agent, said):
    """What served last stays, also for a server that starts while the registry is away; it is said once."""
    registry.add(1, b"one")
    first = agent()
    first.look()
    first.heard(told(wanted(kept)["current"]))
    registry.away = True
    first.look()
    first.look()
    assert wanted(kept)["current"]["version"] == 1 and not wanted(kept)["registry"]["ok"]
    assert len(said) == 2 and "version 1 serves" in said[0] and "did not answer" in said[1]
    second = agent()
    second.look()
    assert wanted(kept)["current"]["version"] == 1
    registry.away = False
    first.look()
    assert wanted(kept)["registry"]["ok"] and "the registry answers again" in said[-1]


def test_only_what_served_is_remembered(registry, kept, agent):
    """A version that the server refuses is not the one to begin with, nor is one whose file was damaged since."""
    about = kept.fetch(registry.add(1, b"one"))
    agent = agent()
    agent.look()
    agent.heard(told(about))
    registry.add(2, b"two")
    agent.look()
    agent.heard(told(about) | {"refused": {"current": "version 2 failed"}})
    assert json.loads((kept.folder / GOOD).read_text())["version"] == 1
    (kept.folder / about["file"]).write_bytes(b"damaged")
    assert kept.remembered("") is None


def test_a_server_begins_with_what_served_last(registry, kept, agent):
    """Before the registry is asked, what served last by the same wish is what is to serve; else nothing is."""
    first = agent()
    assert not first.begin() and not (kept.folder / WANTED).exists()
    about = kept.fetch(registry.add(1, b"one"))
    first.look()
    first.heard(told(about))
    registry.away = True
    (kept.folder / WANTED).unlink()
    assert not agent("2").begin() and not (kept.folder / WANTED).exists()
    assert agent().begin() and wanted(kept)["current"] == about


def test_a_version_that_cannot_be_fetched_changes_nothing(registry, kept, agent, said):
    """If the new version's file is not what was published, the old one stays, and a sentence says why."""
    registry.add(1, b"one")
    agent = agent()
    agent.look()
    registry.add(2, b"two")
    registry.files[2]["model/m.json"] = b"other"
    agent.look()
    assert wanted(kept)["current"]["version"] == 1
    assert "is not the one that was published" in said[-1] and "version 1 stays" in said[-1]


def test_a_full_disk_changes_nothing(registry, kept, agent, said, monkeypatch):
    """If what is to serve cannot be written down, what serves stays, and a sentence says so."""
    registry.add(1, b"one")
    agent = agent()
    agent.look()
    registry.add(2, b"two")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "wanted.json")

    monkeypatch.setattr("scripts.serving.kept.atomic_write", full)
    agent.look()
    assert wanted(kept)["current"]["version"] == 1
    assert "wanted.json cannot be written (No space left on device)" in said[-1]


FULL = """
import json, pathlib, sys
from scripts.project import Project
from scripts.registry import reader, recorded
from scripts.serving.agent import Agent, Wish
from scripts.serving.kept import Kept
from tests.serving.test_kept import Registry, told, wanted

registry, said, ballast = Registry(), [], pathlib.Path("/full/ballast")
recorded.fetch, reader.look_up = registry.fetch, lambda model: registry.state()
kept = Kept(Project(pathlib.Path("/full")), "m")
agent = Agent(kept, Wish("", ""), said.append)
registry.add(1, b"one")
agent.look()
agent.heard(told(wanted(kept)["current"]))
registry.add(2, bytes(100_000))
ballast.write_bytes(bytes(150_000))
agent.look()
served = [wanted(kept)["current"]["version"]]
ballast.unlink()
agent.look()
print(json.dumps([*served, wanted(kept)["current"]["version"], said]))
"""


@pytest.mark.docker
def test_a_disk_that_is_full_keeps_the_old_version():
    """A version for which a real disk has no room is not served: the old one stays, a sentence says so, and as soon as
    there is room, the new one is what is to serve."""
    mount = ["--mount", f"type=bind,src={ROOT},dst={ROOT},readonly", "--workdir", str(ROOT)]
    command = ["docker", "run", "--rm", "--network", "none", "--tmpfs", "/full:size=200k", *mount]
    command += ["--env", "PYTHONDONTWRITEBYTECODE=1", os.environ["RUNNER_IMAGE"], "python", "-c", FULL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, said = json.loads(done.stdout)
    assert (before, after) == (1, 2)
    assert re.search(r"cannot be written \(No space left on device\) \(version 1 stays\)$", said[1]), said
