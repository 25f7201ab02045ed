"""`make compare` puts two versions side by side and marks what differs."""

import json
import re

import pytest

from scripts.project import UserError
from scripts.verbs import compare

ARGUMENTS = ["model=flowers", "version=", "why="]


def add(registry, seed, accuracy, lock="1", images=None, **tags):
    folder = registry.add(
        "flowers", metrics={"accuracy": accuracy, "n": 4.0}, git_commit="c0", git_dirty="false", **tags
    )
    (folder / "pipeline").mkdir()
    outs = f"{{outs: [{{path: data/x.csv, md5: '{lock * 32}'}}]}}"
    (folder / "pipeline/dvc.lock").write_text(f"schema: '2.0'\nstages: {{ingest: {outs}}}\n")
    (folder / "pipeline/params.yaml").write_text(f"train: {{seed: {seed}, depth: null}}\n")
    (folder / "pipeline/images.json").write_text(json.dumps(images or {"train": "stages/train:1"}))


def rows(text):
    """Return the rows of the table: the mark, the name and the two values."""
    found = [re.split("  +", line) for line in text.splitlines()]
    return {row[1]: (row[0], *row[2:]) for row in found if len(row) == 4}


def test_two_versions_side_by_side(registry, capsys):
    """Scores, parameters, data, images and code of both are there; what differs is marked, and counted."""
    add(registry, 1, 0.9, decision="Production")
    add(registry, 2, 0.95, lock="2", decision="Staging")
    compare.main([*ARGUMENTS, "a=1", "b=2"])
    printed = capsys.readouterr().out
    told = rows(printed)
    assert told["param train.seed"] == ("*", "1", "2")
    assert told["param train.depth"] == ("", "null", "null")
    assert told["metric accuracy"] == ("*", "0.9", "0.95")
    assert told["metric n"] == ("", "4.0", "4.0")
    assert told["data data/x.csv"][0] == "*" and told["data data/x.csv"][1].startswith("111")
    assert told["image train"] == ("", "stages/train:1", "stages/train:1")
    assert told["git_commit"] == ("", "c0", "c0")
    assert printed.endswith(f"4 of {len(told) - 1} differ (*)\n")


def test_the_same_for_a_program(registry, capsys):
    """JSON=1 prints each fact of both with its type; what one of them has not, it lacks there."""
    add(registry, 1, 0.9, images={"train": "stages/train:1"})
    add(registry, 2, 0.9, lock="2", images={"fit": "stages/fit:1"})
    compare.main([*ARGUMENTS, "a=1", "b=2", "json=1"])
    found = json.loads(capsys.readouterr().out)
    facts = {fact.pop("name"): fact for fact in found.pop("facts")}
    assert found == {"model": "flowers", "a": 1, "b": 2}
    assert facts["param train.seed"] == {"a": 1, "b": 2, "differs": True}
    assert facts["param train.depth"] == {"a": None, "b": None, "differs": False}
    assert facts["data data/x.csv"] == {"a": "1" * 32, "b": "2" * 32, "differs": True}
    assert facts["image train"] == {"a": "stages/train:1", "differs": True}


def test_versions_with_other_images(registry, capsys):
    """What only one of them has is marked, and the other has a dash: a renamed stage, a version from before."""
    add(registry, 1, 0.9, images={"base": "stages/base:1", "train": "stages/train:1"})
    add(registry, 1, 0.9, images={"base": "stages/base:1", "fit": "stages/fit:1"})
    compare.main([*ARGUMENTS, "a=1", "b=2"])
    told = rows(capsys.readouterr().out)
    assert (told["image train"], told["image fit"]) == (("*", "stages/train:1", "-"), ("*", "-", "stages/fit:1"))
    assert told["image base"][0] == ""


def test_with_production(registry, capsys):
    """An alias names a version, and without B it is the one in production."""
    add(registry, 1, 0.9, decision="Production", stage="Production")
    add(registry, 2, 0.9, decision="Staging")
    registry.aliases["flowers"] = {"newest": 2}
    compare.main([*ARGUMENTS, "a=newest", "b="])
    assert capsys.readouterr().out.splitlines()[0].split() == ["version", "2", "version", "1"]


def test_no_version_is_named(registry):
    """Without A it is not clear what is asked for."""
    add(registry, 1, 0.9)
    with pytest.raises(UserError, match=r"A is empty; expected two versions, as in 'make compare A=1 B=2'"):
        compare.main([*ARGUMENTS, "a=", "b=2"])
