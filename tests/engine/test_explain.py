"""`make explain` says what a run would do and why, and starts, builds and changes nothing for that."""

import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import STAGES, Clone, Make, inspecting, stage_in, stages_line

pytestmark = pytest.mark.docker


@pytest.fixture
def clone(started: tuple[Clone, Make]) -> Iterator[Clone]:
    """The started clone, its files put back after the test."""
    yield started[0]
    started[0].restore()


def test_nothing_is_to_be_explained_of_a_clone_that_is_up_to_date(clone: Clone) -> None:
    """All stages are up to date, and the exit code is 0."""
    lines = clone.make("explain").stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:4]] == ["up to date"] * 4
    assert lines[-1] == "nothing would run"


def test_each_cause_is_named_and_nothing_is_done(clone: Clone) -> None:
    """Parameter, code and block are named with old and new, dvc.yaml is not rendered, and no stage or build begins."""
    clone.edit("params.yaml", "test_size: 0.2", "test_size: 0.3")
    clone.edit("stages/train/train.py", '"""', '"""Edited. ')
    clone.edit("dvc.yaml.template", '"metrics": "metrics/metrics.json"}', '"metrics": "metrics/all.json"}')
    clone.edit("dvc.yaml.template", 'metrics="metrics/metrics.json"', 'metrics="metrics/all.json"')
    changes, tags = clone.changes(), clone.docker("image", "ls", "--quiet")
    with inspecting(clone) as containers:
        done = clone.make("explain", check=False)
    assert "Error 1" in done.stdout
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith(STAGES):
            name, _, found[name := line.split()[0]] = line.partition(" ")
            found[name] = [found[name].strip()]
        elif line.startswith("   "):
            found[name].append(line.strip())
    assert found["ingest"] == ["up to date"]
    assert found["preprocess"] == ["will run", "parameter: preprocess.test_size: 0.2 -> 0.3"]
    assert found["train"][0] == "will run after preprocess, which will run"
    assert re.match(r"code: stages/train/train\.py \(since commit \w{8}; image \w{12} -> \w{12}\)$", found["train"][1])
    assert found["evaluate"][1].startswith(
        "block: its command in dvc.yaml: no longer --metrics metrics/metrics.json; now --metrics metrics/all.json"
    )
    assert [stage_in(each) for each in containers] == [None]
    assert (clone.changes(), clone.docker("image", "ls", "--quiet")) == (changes, tags)


@pytest.mark.deep
def test_a_run_does_what_was_explained(clone_at: Callable[[str], Clone]) -> None:
    """What would run runs, what would be restored does not, in an untouched clone and after each kind of edit."""
    clone = clone_at("explained")

    def would() -> dict[str, str]:
        done = clone.make("-s", "explain", check=False, JSON="1")
        read = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])[0]
        return {each["name"]: each["will"] for each in read["stages"]}

    assert would() == dict.fromkeys(STAGES, "run")
    clone.make("run")
    for edit, expected in (
        (lambda: clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 101"), "nothing nothing run wait"),
        (
            lambda: clone.edit("params.yaml", "n_estimators: 101", "n_estimators: 100"),
            "nothing nothing restore restore",
        ),
        (lambda: clone.edit("stages/evaluate/evaluate.py", "Measures", "Tells"), "nothing nothing nothing run"),
        (lambda: (clone.path / "models" / "model.json").write_text("{}"), "nothing nothing restore nothing"),
    ):
        edit()
        foreseen = would()
        assert " ".join(foreseen.values()) == expected
        ran = set(stages_line(clone.make("run")).removeprefix("ran ").split(", "))
        assert {name for name, will in foreseen.items() if will == "run"} <= ran
        assert not {name for name, will in foreseen.items() if will in ("nothing", "restore")} & ran
        assert would() == dict.fromkeys(STAGES, "nothing")
