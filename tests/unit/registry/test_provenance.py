"""What is not committed travels as a patch that git applies, whatever a person has set for their own eyes."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.pipeline import images
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import Project, UserError
from scripts.registry import provenance
from scripts.registry.gate import Gate

CODE = "".join(f"line {number}\n" for number in range(40))
MODEL = Model("m", "models/m.bin", "metrics/m.json", "train", "evaluate", "e", Gate("accuracy"))
ENTRY = {"cmd": "run", "outs": [{"path": "a", "hash": "md5", "md5": "1" * 32, "size": 1}]}


@pytest.fixture
def committed(project, git):
    """A project with a commit, in which nothing has changed."""
    write(project, ".gitignore", ".local/\n/data/\n__pycache__/\n.env*\n!.env.example\n")
    write(project, ".env.example", "TOKEN=\n")
    write(project, "dvc.yaml", "stages: {}\n")
    write(project, "dvc.yaml.template", "stages:\n")
    write(project, "params.yaml", "train: {seed: 1}\n")
    write(project, "stages/base/Dockerfile", "FROM scratch\n")
    write(project, "stages/train/train.py", CODE)
    write(project, "stages/train/old.py", CODE.upper())
    (project.root / "stages/train/dos.bat").write_bytes(b"a\r\nb\r\n")
    (project.root / "stages/train/data.bin").write_bytes(bytes(range(256)))
    write(project, "docs/notes.txt", "a\n\nb\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    return project


def write(project, path, text):
    (project.root / path).parent.mkdir(parents=True, exist_ok=True)
    (project.root / path).write_text(text)


def change(project):
    """Change tracked files in every way that git knows, and add files that do and do not belong to the code."""
    write(project, "stages/train/train.py", CODE.replace("line 20\n", "line twenty\n").replace("line 22\n", ""))
    (project.root / "stages/train/data.bin").write_bytes(bytes(reversed(range(256))))
    (project.root / "stages/train/old.py").rename(project.root / "stages/train/new.py")
    write(project, "docs/notes.txt", "a\n\nc\n")
    write(project, "params.yaml", "train: {seed: 2}\n")
    (project.root / "stages/train/train.py").chmod(0o755)
    write(project, "stages/train/apt.txt", "libgomp1\n")
    write(project, "stages/fit/tests/test_fit.py", "")
    write(project, "stages/fit/fit.sh", "#!/bin/sh")
    (project.root / "stages/fit/fit.sh").chmod(0o755)
    (project.root / "stages/fit/latin \u00e9\udcff.txt").write_bytes(b"\xff\xfe\n")
    (project.root / "stages/fit/link").symlink_to("fit.sh")
    (project.root / "stages/fit/dos.py").write_bytes(b"a\r\nb\r\n")
    (project.root / "stages/train/dos.bat").write_bytes(b"a\r\nc\r\n")
    write(project, "stages/fit/odd attributes.py", "a \n\tb\n  \tc \n\n\n")
    write(project, "stages/fit/__pycache__/fit.pyc", "")
    write(project, "scripts/more.py", "pass\n")
    write(project, "dvc.yaml", "stages: {a: {cmd: b}}\n")
    write(project, "dvc.lock", "schema: '2.0'\n")
    write(project, ".env", "TOKEN=secret\n")
    write(project, ".env.example", "TOKEN=secret\n")
    write(project, "data/raw.csv", "1\n")
    write(project, "token.txt", "secret\n")


def applied(project, patch, tmp_path, commit="HEAD"):
    """Return a worktree of the commit with the patch applied."""
    tree = tmp_path / "tree"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=project.root, check=True)
    clean = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_COUNT": "0"}
    subprocess.run(["git", "apply", "--whitespace=nowarn"], input=patch, cwd=tree, env=os.environ | clean, check=True)
    return tree


def code_of(root):
    """Return the code in a tree: mode, and content or target, of each file that git would have of it."""
    paths = [
        *(root / "stages").rglob("*"),
        *(root / "scripts").rglob("*"),
        root / "docs/notes.txt",
        root / "params.yaml",
    ]
    return {
        path.relative_to(root): path.readlink()
        if path.is_symlink()
        else (path.stat().st_mode & 0o111, path.read_bytes())
        for path in paths
        if (path.is_symlink() or path.is_file()) and "__pycache__" not in path.parts
    }


def test_a_clean_tree_has_no_patch(committed):
    """Where nothing is changed there is no patch; what a run writes, or git ignores, changes nothing."""
    write(committed, "dvc.yaml", "stages: {a: {cmd: b}}\n")
    write(committed, "dvc.lock", "schema: '2.0'\n")
    write(committed, "data/raw.csv", "1\n")
    assert provenance.uncommitted(provenance.head(committed), committed) == b""


def test_the_patch_makes_the_code(committed, tmp_path):
    """Commit and patch make the code that ran, byte for byte: changed, binary, renamed, new, executable, linked."""
    change(committed)
    patch = provenance.uncommitted(provenance.head(committed), committed)
    assert code_of(applied(committed, patch, tmp_path)) == code_of(committed.root)


def test_a_file_can_count_with_another_text(committed, git, tmp_path):
    """A text given in place of a file's is in the patch, beside all else that is not committed; the file, the index and
    the objects of the clone stay as they are."""
    change(committed)
    before = (code_of(committed.root), git("status", "--porcelain"), git("count-objects"))
    instead = {"params.yaml": "train: {seed: 7}\n"}
    patch = provenance.uncommitted(provenance.head(committed), committed, instead)
    tree = applied(committed, patch, tmp_path)
    assert code_of(tree).pop(Path("params.yaml"))[1] == b"train: {seed: 7}\n"
    for tree_or_clone in (found := [code_of(tree), before[0]]):
        del tree_or_clone[Path("params.yaml")]
    assert found[0] == found[1]
    assert (code_of(committed.root), git("status", "--porcelain"), git("count-objects"))[1:] == before[1:]
    assert (committed.root / "params.yaml").read_text() == "train: {seed: 2}\n"


def test_nothing_else_travels(committed, tmp_path):
    """Of new files only the code's are in the patch; none of .env.example, no data, no token, no ignored file."""
    change(committed)
    patch = provenance.uncommitted(provenance.head(committed), committed)
    for secret in (b"secret", b"raw.csv", b"token", b"pyc", b"dvc.lock", b"a/dvc.yaml\n"):
        assert secret not in patch


def test_a_notebook_does_not_travel(committed, git):
    """What a notebook writes is in no patch, be it new, changed since the commit, or deleted."""
    for name in ("changed", "deleted"):
        write(committed, f"notebooks/{name}.ipynb", "{}\n")
    git("add", "notebooks")
    git("commit", "--quiet", "--message", "notebooks")
    write(committed, "notebooks/changed.ipynb", '{"cells": []}\n')
    write(committed, "notebooks/new.ipynb", '{"cells": []}\n')
    (committed.root / "notebooks" / "deleted.ipynb").unlink()
    assert provenance.uncommitted(provenance.head(committed), committed) == b""


def test_a_new_template(committed, git):
    """A template that is not committed yet is code."""
    git("rm", "--cached", "--quiet", "dvc.yaml.template")
    git("commit", "--quiet", "--message", "without")
    assert b"+stages:" in provenance.uncommitted(provenance.head(committed), committed)


@pytest.mark.parametrize(
    "setting",
    [
        "color.ui=always",
        "color.diff=always",
        "diff.context=0",
        "diff.interHunkContext=50",
        "diff.noprefix=true",
        "diff.mnemonicPrefix=true",
        "diff.external=/bin/false",
        "diff.renames=copies",
        "diff.orderFile=/nowhere",
        "diff.suppressBlankEmpty=true",
        "diff.relative=true",
        "diff.submodule=log",
        "diff.wsErrorHighlight=all",
        "diff.algorithm=patience",
        "core.fsmonitor=/bin/false",
        "core.quotePath=false",
        "core.whitespace=cr-at-eol,tab-in-indent",
        "apply.whitespace=error-all",
        "apply.whitespace=fix",
        "apply.ignoreWhitespace=change",
        "core.autocrlf=true",
        "core.autocrlf=input",
        "core.eol=crlf",
        "core.symlinks=false",
        "core.splitIndex=true",
        "core.bigFileThreshold=1",
        "core.abbrev=4",
        "core.attributesFile=odd-attributes",
        "core.excludesFile=odd-attributes",
    ],
)
def test_whatever_a_person_has_set(committed, git, tmp_path, setting):
    """No setting of git's spoils the patch."""
    change(committed)
    (tmp_path / "odd-attributes").write_text("*.py text eol=crlf\n*.txt binary\n")
    expected, before = code_of(committed.root), {*(committed.root / ".git").iterdir()}
    git("config", *setting.replace("odd-attributes", str(tmp_path / "odd-attributes")).split("=", 1))
    patch = provenance.uncommitted(provenance.head(committed), committed)
    git("config", "--unset", setting.split("=", 1)[0])
    assert {*(committed.root / ".git").iterdir()} == before
    assert code_of(applied(committed, patch, tmp_path)) == expected


BROKEN = {
    "coloured": lambda patch: patch.replace(b"\n-", b"\n\x1b[31m-"),
    "cut off": lambda patch: patch[: len(patch) // 2],
    "without context": lambda patch: patch.replace(b"\n line", b"\n eline"),
    "of other files": lambda patch: patch.replace(b"train.py", b"trai.py"),
    "no patch": lambda patch: b"no patch",
    "of a part": lambda patch: patch[patch.rindex(b"diff --git") :],
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=list(BROKEN))
def test_a_patch_that_does_not_make_the_code_is_said_at_once(committed, monkeypatch, spoil):
    """A patch is applied once before it is recorded: one that git refuses, or that makes other code, is a sentence."""
    change(committed)
    run = provenance._git
    monkeypatch.setattr(
        provenance,
        "_git",
        lambda arguments, *rest, **options: (
            spoil(run(arguments, *rest, **options))
            if arguments[0] == "diff" and "--binary" in arguments
            else run(arguments, *rest, **options)
        ),
    )
    said = r"what is not committed cannot be kept as a patch \(.+\); expected .*: commit your changes, and run again$"
    with pytest.raises(UserError, match=said) as told:
        provenance.uncommitted(provenance.head(committed), committed)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("name", "value"), [("GIT_DIFF_OPTS", "-u0"), ("GIT_EXTERNAL_DIFF", "/bin/false")])
def test_whatever_the_environment_has_set(committed, monkeypatch, tmp_path, name, value):
    """No variable of git's spoils it either."""
    change(committed)
    monkeypatch.setenv(name, value)
    patch = provenance.uncommitted(provenance.head(committed), committed)
    assert code_of(applied(committed, patch, tmp_path)) == code_of(committed.root)


def test_attributes_spoil_nothing(committed, git, tmp_path):
    """A text conversion or a driver of an attribute changes nothing."""
    git("config", "diff.odd.textconv", "tr a-z A-Z <")
    git("config", "diff.odd.command", "/bin/false")
    write(committed, ".gitattributes", "*.py diff=odd\n")
    change(committed)
    patch = provenance.uncommitted(provenance.head(committed), committed)
    assert code_of(applied(committed, patch, tmp_path)) == code_of(committed.root)


def test_the_users_index_stays(committed, git):
    """What is staged, and what is not, stays as it was; no object is added to the repository."""
    change(committed)
    git("add", "stages/train/train.py")
    before = git("status", "--porcelain"), git("count-objects")
    provenance.uncommitted(provenance.head(committed), committed)
    assert (git("status", "--porcelain"), git("count-objects")) == before


def test_before_the_first_commit(project, tmp_path, git):
    """Without any commit the patch holds all of the code that git knows or would add."""
    write(project, "stages/train/train.py", CODE)
    write(project, "other.txt", "")
    assert provenance.head(project) == provenance.NO_COMMIT
    patch = provenance.uncommitted(provenance.NO_COMMIT, project)
    assert b"+++ b/stages/train/train.py" in patch
    assert b"other.txt" not in patch


def test_a_repository_that_is_broken(committed):
    """Where git cannot tell, that is one sentence with its words."""
    commit = provenance.head(committed)
    (committed.root / ".git" / "objects" / commit[:2] / commit[2:]).unlink()
    with pytest.raises(UserError, match=r"'git read-tree .*' failed: .*; expected a whole repository"):
        provenance.uncommitted(commit, committed)


# --- the snapshot


def pipeline(*names):
    stages = {
        "ingest": Stage("ingest", "stages/ingest:1", outputs={"out": "data/x.csv"}),
        "train": Stage("train", "stages/train:2", inputs={"data": "data/x.csv"}, outputs={"model": "models/m.bin"}),
        "report": Stage("report", "stages/report:3", inputs={"data": "data/x.csv"}, outputs={"out": "report/r.txt"}),
        "evaluate": Stage(
            "evaluate", "stages/evaluate:4", inputs={"model": "models/m.bin"}, metrics={"m": "metrics/m.json"}
        ),
    }
    return Pipeline("stages: rendered\n", {name: stages[name] for name in names or stages}, (MODEL,))


def test_snapshot(committed, git):
    """The snapshot holds the commit, dvc.yaml as rendered, params.yaml as typed, the images, and the patch."""
    wanted = images.load(committed.stages)
    clean = provenance.snapshot(pipeline(), wanted, committed)
    assert (clean.commit, clean.dirty) == (git("rev-parse", "HEAD").strip(), False)
    assert clean.files["dvc.yaml"] == b"stages: rendered\n"
    assert clean.files["params.yaml"] == b"train: {seed: 1}\n"
    tags = {"base": wanted["base"].tag} | {s.name: s.image for s in pipeline().stages.values()}
    assert json.loads(clean.files["images.json"]) == tags
    write(committed, "stages/train/train.py", "changed\n")
    dirty = provenance.snapshot(pipeline(), wanted, committed)
    assert dirty.dirty
    assert b"+changed" in dirty.files["uncommitted.patch"]


# --- dvc.lock


def write_lock(path: Path, *names: str) -> None:
    entries = {name: ENTRY | {"cmd": f"run {name} é"} for name in names}
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}, sort_keys=False, allow_unicode=True))


def test_the_models_part_of_the_lock(project):
    """A model's part is its scorer and what leads to it, in the pipeline's order, whatever else dvc.lock holds."""
    write_lock(project.dvc_lock, "evaluate", "report", "train", "gone", "ingest")
    part = provenance.lock_of(pipeline(), MODEL, project)
    assert list(yaml.safe_load(part)["stages"]) == ["ingest", "train", "evaluate"]
    assert yaml.safe_load(part)["stages"]["train"] == ENTRY | {"cmd": "run train é"}
    write_lock(project.dvc_lock, "ingest", "train", "evaluate")
    assert provenance.lock_of(pipeline(), MODEL, project) == part


def test_the_lock_that_was_whole(project):
    """The kept copy counts, since DVC may be writing dvc.lock; without a dvc.lock there is none."""
    project.dvc_lock.write_text("schema: '2.0'\nstages:\n  inge")
    write_lock(project.kept_lock, "ingest", "train", "evaluate")
    assert list(provenance.read_lock(project)) == ["ingest", "train", "evaluate"]
    project.dvc_lock.unlink()
    assert provenance.read_lock(project) == {}


@pytest.mark.parametrize("text", ["", "stages:\n", "[]\n", "a: [", "schema: '2.0'\n", "\x00"])
def test_a_damaged_lock(project: Project, text):
    """What is no dvc.lock is one sentence."""
    project.dvc_lock.write_text(text)
    with pytest.raises(UserError, match=r"dvc\.lock is damaged; expected what a run wrote: delete it"):
        provenance.read_lock(project)


def test_a_stage_that_never_ran(project):
    """A stage without an entry is named."""
    write_lock(project.dvc_lock, "ingest", "train")
    with pytest.raises(UserError, match=r"dvc\.lock has no entry of evaluate, which m needs; expected one: 'make run'"):
        provenance.lock_of(pipeline(), MODEL, project)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("git@github.com:me/iris.git", "https://github.com/me/iris"),
        ("ssh://git@host.example:2222/group/sub/iris.git", "https://host.example/group/sub/iris"),
        ("https://me:token@github.com/me/iris.git", "https://github.com/me/iris"),
        ("https://token@dagshub.com/me/iris", "https://dagshub.com/me/iris"),
        ("http://localhost:3000/me/iris", "http://localhost:3000/me/iris"),
        ("/srv/git/iris.git", ""),
        ("../iris", ""),
        ("file:///srv/git/iris.git", ""),
        ("https://host/a/<script>", ""),
        ("https://host", ""),
        ("", ""),
    ],
)
def test_where_a_browser_finds_the_code(address, found):
    """What git calls a remote is an address without user and token; a folder is none."""
    assert provenance.browsable(address) == found
