"""`make lineage` leads from a version to its run, commit, images, parameters and each file's place."""

import json
import re
import subprocess

import pytest
import yaml

from scripts.project import UserError
from scripts.verbs import lineage

LOCK = {
    "schema": "2.0",
    "stages": {
        "ingest": {"cmd": "a", "deps": [{"path": "data/external/x.csv", "md5": "1" * 32, "size": 1}],
                   "outs": [{"path": "data/raw", "md5": f"{'2' * 32}.dir", "size": 1, "nfiles": 2}]},
        "train": {"cmd": "b", "deps": [{"path": "data/raw", "md5": f"{'2' * 32}.dir", "size": 1}],
                  "outs": [{"path": "models/m.bin", "md5": "3" * 32, "size": 1}]},
    },
}  # fmt: skip
ARGUMENTS = ["model=flowers", "version=", "a=", "b=", "why="]


def record(registry, model="flowers", **changes):
    """Add a version with a record of its pipeline; return the folder of its artifacts."""
    known = {
        "model_sha256": "ab" * 32,
        "git_commit": "c0" * 20,
        "decision": "Staging",
        "reason": "not better",
        "dvc_lock_sha256": "10c",
    }
    folder = registry.add(model, **known | changes)
    pipeline = folder / "pipeline"
    pipeline.mkdir()
    (pipeline / "dvc.lock").write_text(yaml.safe_dump(LOCK, sort_keys=False))
    (pipeline / "dvc.yaml").write_text("stages: {}\n")
    (pipeline / "params.yaml").write_text("train: {seed: 1, layers: {width: 8, depth: null}}\n")
    (pipeline / "images.json").write_text(json.dumps({"base": "stages/base:0", "train": "stages/train:1"}))
    return folder


def lines(text):
    return {line.split()[0]: re.split("  +", line) for line in text.splitlines() if line.strip()}


def test_lineage_leads_to_everything(registry, project, capsys):
    """Model, version, file and digest, decision, run, commit, lock, images, params, files: all of it is there."""
    record(registry, model_file="model/m.bin")
    registry.aliases["flowers"] = {"best": 1}
    lineage.main(ARGUMENTS, project)
    printed = capsys.readouterr().out
    told = lines(printed)
    assert told["model"][1].startswith("flowers version 1 (Staging, best)")
    assert f"model/m.bin, SHA-256 {'ab' * 32}\n" in printed
    assert told["decision"][1] == "Staging: not better"
    assert (told["run"][1], told["commit"][1]) == ("flowers-1", "c0" * 20)
    assert told["lock"][1] == "pipeline/dvc.lock, SHA-256 10c"
    assert "patch" not in told
    assert told["base"] == ["base", "stages/base:0"]
    assert (told["train.seed"][1], told["train.layers.width"][1], told["train.layers.depth"][1]) == ("1", "8", "null")
    assert told["data/external/x.csv"] == ["data/external/x.csv", "given", "1" * 32, "not pushed"]
    assert told["data/raw"][1:3] == ["ingest", f"{'2' * 32}.dir"]
    assert told["models/m.bin"][1:3] == ["train", "3" * 32]


def test_the_link_to_a_model_is_one_word(registry, project, capsys):
    """The link to a model whose name has spaces can be clicked, as any other."""
    record(registry, model="my flowers")
    lineage.main(["model=my flowers", "version=1"], project)
    assert lines(capsys.readouterr().out)["model"][2].endswith("/#/models/my%20flowers?workflowType=machine_learning")


def test_the_place_of_what_was_pushed(registry, project, capsys):
    """A file that was pushed is told with its place in DVC's remote."""
    digest = "3" * 32
    place = project.local / "dvc-remote" / "files" / "md5" / digest[:2] / digest[2:]
    place.parent.mkdir(parents=True)
    place.write_text("model")
    record(registry)
    lineage.main(ARGUMENTS, project)
    assert lines(capsys.readouterr().out)["models/m.bin"][3].endswith(str(place))


def test_a_dirty_tree_has_a_patch(registry, project, capsys):
    """A version of a dirty tree has a patch, and its length is told."""
    (record(registry) / "pipeline" / "uncommitted.patch").write_text("a\nb\nc\n")
    lineage.main(ARGUMENTS, project)
    told = lines(capsys.readouterr().out)["patch"]
    assert told[1] == "3 lines beyond the commit: the run's artifact pipeline/uncommitted.patch"


def test_without_a_version_it_is_the_one_in_production(registry, project, capsys):
    """Without VERSION it is the one in production; while none is, the newest."""
    record(registry, stage="Production", decision="Production")
    record(registry)
    lineage.main(ARGUMENTS, project)
    assert "flowers version 1 " in capsys.readouterr().out
    registry.versions["flowers"][0]["tags"] = []
    lineage.main(ARGUMENTS, project)
    assert "flowers version 2 " in capsys.readouterr().out


def test_a_version_from_before(registry, project, capsys):
    """A version of the code before names no file and has the whole dvc.lock: its lineage is told as well."""
    record(registry)
    lineage.main(ARGUMENTS, project)
    assert "model/model.skops, SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "told"), [("7", "there is no version 7; expected one of 1"), ("x", "no version x")]
)
def test_a_version_that_is_not_there(registry, project, version, told):
    """A version that is not there is one sentence."""
    record(registry)
    with pytest.raises(UserError, match=told):
        lineage.main([*ARGUMENTS, f"version={version}"], project)


def test_a_version_without_a_record(registry, project):
    """A version that was never published to its end, or that is a stranger's, is one sentence."""
    registry.add("flowers")
    with pytest.raises(UserError, match="version 1 has no record of its pipeline; expected one that 'make run'"):
        lineage.main(ARGUMENTS, project)


def test_what_a_registry_says_moves_no_cursor(registry, project, capsys):
    """No character that a registry holds moves a terminal's cursor."""
    folder = record(registry, reason="\x1b[2J\r\nwell")
    (folder / "pipeline" / "params.yaml").write_text('"a\\x1b": {"b\\x9b": "c\\x07"}\n')
    lineage.main(ARGUMENTS, project)
    printed = capsys.readouterr().out
    assert not set(printed) & set("\x1b\x9b\r\x07")
    assert "Staging: ?[2J??well" in printed


def test_a_remote_that_is_away(registry, project, capsys):
    """If the remote cannot be asked, that is said of each file, and the rest is told."""
    subprocess.run(["dvc", "remote", "modify", "--local", "local", "url", "ssh://nowhere.invalid/x"], check=True)
    record(registry)
    lineage.main(ARGUMENTS, project)
    assert lines(capsys.readouterr().out)["models/m.bin"][3].startswith("unknown: ")
