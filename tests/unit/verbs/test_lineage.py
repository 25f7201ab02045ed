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


def found(capsys, project, *arguments):
    """Return what `make lineage JSON=1` prints of the one version that it shows."""
    lineage.main([*ARGUMENTS, *arguments, "json=1"], project)
    (version,) = json.loads(capsys.readouterr().out)["versions"]
    return version


def test_lineage_leads_to_everything(registry, project, capsys):
    """Model, version, file and digest, decision, run, commit, lock, images, params, files: all of it is there."""
    record(registry, model_file="model/m.bin")
    registry.aliases["flowers"] = {"best": 1}
    told = found(capsys, project)
    assert (told["model"], told["version"], told["stage"], told["aliases"]) == ("flowers", 1, "Staging", ["best"])
    assert (told["file"], told["sha256"], told["lock_sha256"]) == ("model/m.bin", "ab" * 32, "10c")
    assert (told["decision"], told["reason"], told["patch_lines"]) == ("Staging", "not better", 0)
    assert (told["run"], told["commit"]) == ("flowers-1", "c0" * 20)
    assert told["commit_page"].endswith(f"/commit/{'c0' * 20}")
    assert told["images"]["base"] == "stages/base:0"
    assert told["params"] == {"train.seed": 1, "train.layers.width": 8, "train.layers.depth": None}
    assert told["files"] == [
        {"path": "data/external/x.csv", "made_by": "given", "md5": "1" * 32, "remote": "not pushed"},
        {"path": "data/raw", "made_by": "ingest", "md5": f"{'2' * 32}.dir", "remote": "not pushed"},
        {"path": "models/m.bin", "made_by": "train", "md5": "3" * 32, "remote": "not pushed"},
    ]


def test_its_tables(registry, project, capsys):
    """The same for a person: in 80 columns, hashes, the commit and the link whole; as Markdown for who pastes it."""
    record(registry, model="my flowers")
    lineage.main(["model=my flowers", "version=1"], project)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for whole in ("ab" * 32, "c0" * 20, "3" * 32, "my flowers version 1 (Staging)", "Staging: not better"):
        assert whole in printed
    assert re.search(r"^data/raw +ingest +2{32}\.dir +no$", printed, re.M)
    assert re.search(r"^train\.layers\.depth +null$", printed, re.M)
    assert re.search(r"^http\S+/#/models/my%20flowers\?workflowType=machine_learning$", printed, re.M)
    lineage.main(["model=my flowers", "version=1", "md=1"], project)
    assert f"| data/raw | ingest | {'2' * 32}\\.dir | no |" in capsys.readouterr().out


def test_the_place_of_what_was_pushed(registry, project, capsys):
    """A file that was pushed is told with its place in DVC's remote."""
    digest = "3" * 32
    place = project.local / "dvc-remote" / "files" / "md5" / digest[:2] / digest[2:]
    place.parent.mkdir(parents=True)
    place.write_text("model")
    record(registry)
    assert found(capsys, project)["files"][2]["remote"].endswith(str(place))
    lineage.main(ARGUMENTS, project)
    printed = capsys.readouterr().out
    assert re.search(r"^models/m\.bin +train +3{32} +yes$", printed, re.M)
    assert re.search(r"pushed to \S+ first two digits of the md5/the others", " ".join(printed.split()))


def test_a_dirty_tree_has_a_patch(registry, project, capsys):
    """A version of a dirty tree has a patch, and its length is told."""
    (record(registry) / "pipeline" / "uncommitted.patch").write_text("a\nb\nc\n")
    lineage.main(ARGUMENTS, project)
    told = " ".join(capsys.readouterr().out.split())
    assert "patch 3 lines beyond the commit: the run's artifact pipeline/uncommitted.patch" in told


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
    assert found(capsys, project)["files"][2]["remote"].startswith("unknown: ")
    lineage.main(ARGUMENTS, project)
    printed = capsys.readouterr().out
    assert re.search(r"^models/m\.bin +train +3{32} +unknown$", printed, re.M) and "pushed: unknown: " in printed
