"""git's own merge, rebase, cherry-pick and stash, with the driver of dvc.lock: no container, no run."""

import os
import shlex
import subprocess
import sys

import pytest
import yaml

from scripts.merging import sides
from scripts.pipeline import dvc_adapter
from scripts.project import ROOT, UserError
from scripts.verbs import merge_lock

DRIVER = """\
import os, sys
from pathlib import Path
from scripts.project import Project, UserError
from scripts.verbs import merge_lock
heads = [name[8:] for name in os.environ if name.startswith("GITHEAD_")]
try:
    sys.exit(merge_lock.main([*sys.argv[1:], *heads], Project(Path.cwd())))
except UserError as error:
    sys.exit(str(error))
"""
NAMES = ("split", "fit", "score")
PARAMS = {
    "split": {"share": 0.2},
    "fit": {"trees": 100, "depth": None, "seed": 42, "bag": True},
    "score": {"repeats": 10},
}
IMAGES = {name: f"stages/{name}:1" for name in NAMES}


@pytest.fixture
def clone(project, git):
    """A repository whose first commit is a run of the pipeline, and which merges dvc.lock by the driver."""
    driver = f"PYTHONPATH={shlex.quote(str(ROOT))} {sys.executable} -c {shlex.quote(DRIVER)} %O %A %B"
    git("config", "merge.dvc-lock.driver", driver)
    (project.root / ".gitattributes").write_text((ROOT / ".gitattributes").read_text())
    (project.root / ".gitignore").write_text("/.local/\n/.dvc/tmp/\n")
    run(project, git, "a run")
    return project


def run(project, git, message, params=PARAMS, images=IMAGES):
    """Write dvc.yaml, params.yaml and dvc.lock as a run of this pipeline does; commit them."""
    names = [name for name in NAMES if name in images]
    blocks, entries, made = {}, {}, "0" * 32
    for name in names:
        block = {"cmd": [f"docker run {images[name]} ${{{name}}}"], "params": [name]}
        block |= {"deps": [f"data/{NAMES.index(name)}"], "outs": [f"data/{NAMES.index(name) + 1}"]}
        cmd = [dvc_adapter.filled_in(command, params) for command in block["cmd"]]
        given = {"path": block["deps"][0], "hash": "md5", "md5": made, "size": 1}
        made = subprocess.run(
            ["git", "hash-object", "--stdin"], input=f"{cmd}{made}", capture_output=True, text=True, check=True
        ).stdout[:32]
        entry = {"cmd": cmd, "deps": [given], "params": {"params.yaml": {name: params[name]}}}
        entries[name] = entry | {"outs": [{"path": block["outs"][0], "hash": "md5", "md5": made, "size": 1}]}
        blocks[name] = block
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))
    project.params.write_text(yaml.safe_dump(params, sort_keys=False))
    dvc_adapter.write_lock(project.dvc_lock, {"schema": "2.0", "stages": entries})
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return entries


def lock(project):
    return yaml.safe_load(project.dvc_lock.read_text())["stages"]


def edited(section, **values):
    return PARAMS | {section: PARAMS[section] | values}


def branches(project, git, mine, other):
    """Make a branch `other` and a commit on main, each a run of (params, images); return their entries."""
    git("branch", "-M", "main")
    git("checkout", "--quiet", "-b", "other")
    theirs = run(project, git, "theirs", *other)
    git("checkout", "--quiet", "main")
    return run(project, git, "ours", *mine), theirs


def call(project, *arguments, check=True):
    """Call git; return what it and the driver printed, and its exit code."""
    environ = os.environ | {"GIT_EDITOR": "true"}
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments]
    done = subprocess.run(command, cwd=project.root, env=environ, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr, done.returncode


WAYS = {
    "merge": [["merge", "other"]],
    "merge without a commit": [["merge", "--no-commit", "--no-ff", "other"]],
    "rebase": [["checkout", "--quiet", "other"], ["rebase", "main"]],
    "rebase by patches": [["checkout", "--quiet", "other"], ["rebase", "--apply", "main"]],
    "cherry-pick": [["cherry-pick", "other"]],
    "stash": [["checkout", "--quiet", "other"], ["reset", "--quiet", "--soft", "HEAD^"], ["stash"],
              ["checkout", "--quiet", "main"], ["stash", "pop"]],
}  # fmt: skip


DEEP = ("merge without a commit", "rebase by patches")


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.deep if way in DEEP else ()) for way in WAYS])
def test_each_side_ran_another_stage(clone, git, way):
    """However git brings two branches together that edited another stage each, it does so without a conflict; each
    entry is the result of the merged pipeline's command."""
    ours, theirs = branches(clone, git, (edited("fit", trees=50),), (edited("score", repeats=5),))
    assert not all(ours[name] == theirs[name] for name in ("fit", "score"))
    for arguments in WAYS[way]:
        call(clone, *arguments)
    assert lock(clone) == ours | {"score": theirs["score"]}
    assert yaml.safe_load(clone.params.read_text()) == edited("fit", trees=50) | {"score": {"repeats": 5}}


def test_git_alone_makes_an_entry_that_nobody_had(clone, git):
    """What the driver is for: line by line, an entry has one side's inputs and the other's command."""
    git("config", "--unset", "merge.dvc-lock.driver")
    ours, theirs = branches(clone, git, (edited("split", share=0.3),), (edited("score", repeats=5),))
    call(clone, "merge", "other", check=False)
    text = clone.dvc_lock.read_text()
    assert "<<<<<<<" in text or lock(clone)["score"] not in (ours["score"], theirs["score"])


@pytest.mark.parametrize(
    ("mine", "other", "clash"),
    [
        ((edited("fit", trees=50),), (edited("fit", bag=False),), "dvc.lock"),
        pytest.param((edited("fit", trees=50),), (edited("fit", trees=60),), "params.yaml", marks=pytest.mark.deep),
        ((PARAMS, IMAGES | {"fit": "stages/fit:2"}), (PARAMS, IMAGES | {"fit": "stages/fit:3"}), "dvc.yaml"),
    ],
    ids=["other parameters", "one parameter", "the code"],
)
def test_both_edited_one_stage(clone, git, mine, other, clash):
    """A stage that both edited is a conflict, told in one sentence with what to do; dvc.lock can be used as it is, and
    has HEAD's entries for what depends on that stage."""
    ours, _ = branches(clone, git, mine, other)
    printed, code = call(clone, "merge", "other", check=False)
    assert code == 1 and f"Merge conflict in {clash}" in printed and "Merge conflict in dvc.lock" in printed
    (sentence,) = [line for line in printed.splitlines() if line.startswith("dvc.lock: ")]
    assert sentence.startswith("dvc.lock: both sides changed fit, and neither") and "'make run'" in sentence
    assert lock(clone) == ours


def test_one_side_has_all_of_the_other(clone, git):
    """Where one side edited what the other edited and more, its results are taken."""
    both = edited("fit", trees=50, bag=False)
    _, theirs = branches(clone, git, (edited("fit", trees=50),), (both,))
    call(clone, "merge", "other")
    assert lock(clone) == theirs


def test_a_deleted_stage_goes(clone, git):
    """A stage that one side deleted from dvc.yaml is gone, though all that it reads changed on the other."""
    without = {name: image for name, image in IMAGES.items() if name != "score"}
    _, theirs = branches(clone, git, (PARAMS, without), (edited("fit", trees=50),))
    call(clone, "merge", "other")
    assert lock(clone) == {name: theirs[name] for name in ("split", "fit")}


def test_an_entry_that_somebody_deleted_stays(clone, git):
    """An entry that is gone on one side, while dvc.yaml still has its stage, is not lost."""
    _, theirs = branches(clone, git, (PARAMS | {"mlflow": {"model": "m"}},), (edited("fit", trees=50),))
    whole = yaml.safe_load(clone.dvc_lock.read_text())
    del whole["stages"]["score"]
    dvc_adapter.write_lock(clone.dvc_lock, whole)
    git("commit", "--quiet", "--all", "--message", "run score again")
    call(clone, "merge", "other")
    assert lock(clone) == theirs


def test_a_branch_that_did_not_run_since(clone, git):
    """The pipeline is that of the commit that git merges, not that of the one in which dvc.lock changed last."""
    ours, theirs = branches(clone, git, (edited("fit", trees=50),), (edited("score", repeats=5),))
    call(clone, "checkout", "--quiet", "other")
    without = {name: image for name, image in IMAGES.items() if name != "score"}
    run(clone, git, "without score", edited("score", repeats=5), without)
    dvc_adapter.write_lock(clone.dvc_lock, {"schema": "2.0", "stages": theirs})  # a run leaves such an entry
    git("commit", "--quiet", "--all", "--amend", "--no-edit")
    call(clone, "checkout", "--quiet", "main")
    call(clone, "merge", "other")
    assert lock(clone) == {name: ours[name] for name in ("split", "fit")}


def test_the_commit_of_a_merge_and_of_a_stash(clone, git, tmp_path):
    """A version that only a merge brought, or a stash, is found as one of a commit before it is."""
    branches(clone, git, (edited("fit", trees=50),), (edited("score", repeats=5),))
    call(clone, "merge", "other")
    versions = [tmp_path / name for name in "oab"]
    for path, revision in zip(versions, ("main~1", "main", "other"), strict=True):
        path.write_text(git("show", f"{revision}:dvc.lock"))
    merge = git("rev-parse", "main").strip()
    run(clone, git, "later", edited("split", share=0.5))
    git("reset", "--quiet", "--soft", "HEAD^")
    git("stash")
    (tmp_path / "s").write_text(git("show", "stash:dvc.lock"))
    for ours, found in (versions[1], merge), (tmp_path / "s", git("rev-parse", "stash").strip()):
        git("checkout", "--quiet", "--detach", "main~1")
        assert sides.read([versions[0], ours, versions[2]], [], clone)[1].commit == found


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"cmd": "run ${fit}", "params": ["fit"]}, ("run --trees 1", {"fit": {"trees": 1}})),
        ({"cmd": ["run ${fit.trees}"], "params": ["fit.trees"]}, ("run 1", {"fit.trees": 1})),
        ({"cmd": "run ${gone}"}, None),
        ({"cmd": "run", "params": ["gone"]}, None),
        ({"cmd": "run", "params": [{"other.yaml": ["x"]}]}, None),
        ({"cmd": "run", "params": 5}, None),
        ({"cmd": "run ${day}", "params": ["day"]}, None),
        ("run", None),
    ],
)
def test_what_a_block_asks_for(clone, git, block, says):
    """A block's command and parameters are those that its entry would have; of what cannot be read none are known."""
    clone.dvc_yaml.write_text(yaml.safe_dump({"stages": {"fit": block}}))
    clone.params.write_text("fit: {trees: 1}\n" + ("day: {first: 2020-01-01}\n" if "day" in str(block) else ""))
    git("commit", "--quiet", "--all", "--message", "another pipeline")
    side = sides.Side({}, "HEAD")
    asked = says and {"cmd": [says[0]], "params": {"params.yaml": says[1]}}
    assert sides.wanted(side, side, side, clone) == {"fit": asked}


def test_locks_that_are_in_no_commit(clone, tmp_path):
    """Versions that no commit has are merged by what their entries say of their commands."""
    versions = []
    for name, params in (("o", PARAMS), ("a", edited("fit", trees=50)), ("b", edited("score", repeats=5))):
        stages = lock(clone)
        for stage, entry in stages.items():
            entry["cmd"] = [dvc_adapter.filled_in(f"elsewhere ${{{stage}}}", params)]
            entry["params"]["params.yaml"][stage] = params[stage]
        versions.append(tmp_path / name)
        dvc_adapter.write_lock(versions[-1], {"schema": "2.0", "stages": stages})
    found = sides.read(versions, ["0" * 40], clone)
    assert [side.commit for side in found] == [None, None, None]
    assert sides.wanted(*found, clone)["fit"]["params"] == {"params.yaml": {"fit": edited("fit", trees=50)["fit"]}}
    assert sides.wanted(*found, clone)["score"]["cmd"] == ["elsewhere --repeats 5"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<<<<<<< ours\nstages:\n", "cannot be read"),
        ("[1, 2]\n", "has no stages"),
        ("stages: [a]\n", "has no stages"),
        ("stages: {a: b}\n", "has no stages"),
        ("a: &x [1]\nstages: {b: *x}\n", "alias"),
        ("a: " + "[" * 99 + "]" * 99, "too deep"),
        ("\xe9", "cannot be read"),
    ],
)
def test_what_is_no_lock_is_refused(clone, tmp_path, text, says):
    """A version that no run wrote is refused in one sentence, and OURS stays as it was."""
    names = [tmp_path / name for name in "oab"]
    for path in names:
        path.write_bytes(clone.dvc_lock.read_bytes())
    names[2].write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=says):
        merge_lock.main([str(path) for path in names], clone)
    assert names[1].read_bytes() == clone.dvc_lock.read_bytes()


def test_a_merge_writes_as_dvc_does(clone, tmp_path):
    """The repository's own dvc.lock, merged with itself and with nothing, comes out byte for byte."""
    names = [tmp_path / name for name in "oab"]
    text = (ROOT / "dvc.lock").read_bytes() if (ROOT / "dvc.lock").exists() else clone.dvc_lock.read_bytes()
    for base, ours in ((text, text), (b"", text), (b"", b"")):
        for path, content in zip(names, (base, ours, text), strict=True):
            path.write_bytes(content)
        assert merge_lock.main([str(path) for path in names], clone) == 0
        assert names[1].read_bytes() == text
