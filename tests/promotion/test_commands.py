"""`make models`, `promote`, `rollback`, `lineage`, `compare` and `reproduce`, on a clone with a history."""

import html
import json
import os
import pty
import re
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import yaml

from tests.conftest import NOTHING, OUTPUTS, Clone, Make, last_line, stages_line
from tests.dagshub.stand_in import network_of
from tests.promotion.conftest import CURRENT, OLD, Server, docker

pytestmark = pytest.mark.docker
TOOLZ = "15ccc861ac51c53696de0a5d6d4607f99c210739caf987b5d2054f3efed429d8"
REPRODUCED = r"^version {} of iris-classifier: (.*)$"


@pytest.fixture(
    scope="module", params=[CURRENT, pytest.param(OLD, marks=pytest.mark.deep)], ids=["current-mlflow", "mlflow-2.7.1"]
)
def clone(
    request: pytest.FixtureRequest, clone_at: Callable[[str], Clone], server_for: Callable[[str], Server]
) -> Iterator[Clone]:
    """Yield a clone of four versions: 1 as cloned, 2 of other params (better), 3 of other packages, 4 of a dirty tree.

    After each of the first three there is a commit, and one more since. 2 is in production.
    """
    clone = clone_at(f"models-{request.param}")
    if request.param == OLD:
        old = server_for(OLD)
        docker("network", "connect", network_of(clone), old.container)
        (clone.path / ".env").write_text(f"MLFLOW_TRACKING_URI={old.address}\n")

    def run_and_commit(what: str) -> None:
        clone.make("run")
        clone.git("add", "--all")
        clone.git("commit", "--allow-empty", "--quiet", "--message", what)

    run_and_commit("as cloned")
    clone.edit("params.yaml", "max_depth: null", "max_depth: 1")
    clone.git("commit", "--all", "--quiet", "--message", "params")
    run_and_commit("other params")
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 90")
    with (clone.path / "stages/train/requirements.txt").open("a") as requirements:
        requirements.write(f"toolz==1.1.0 --hash=sha256:{TOOLZ}\n")
    clone.git("commit", "--all", "--quiet", "--message", "packages")
    run_and_commit("other packages")
    clone.edit("stages/train/train.py", "random.Random(args.seed)", "random.Random(args.seed + offset.OFFSET)")
    clone.edit("stages/train/train.py", "import random\n", "import random\n\nimport offset\n")
    (clone.path / "stages/train/offset.py").write_text("OFFSET = 5\n")
    clone.make("run")
    (clone.path / "stages/train/offset.py").unlink()
    clone.restore()
    clone.git("commit", "--allow-empty", "--quiet", "--message", "later")
    clone.git("worktree", "add", "--quiet", "--detach", f"{clone.path}-of-the-user")
    yield clone
    if request.param == OLD:
        docker("network", "disconnect", network_of(clone), server_for(OLD).container)


def reproduced(done: Make, version: int) -> str:
    return re.search(REPRODUCED.format(version), done.stdout, re.M)[1]


def differing(done: Make) -> list[str]:
    """Return what `make reproduce` names as different."""
    return re.findall(r"^(.*?)  +differs", done.stdout, re.M)


def test_models_is_a_table(clone: Clone) -> None:
    """`make models` has a row for each version: stage, alias, score, commit, whether it was dirty, who, why."""
    printed = clone.make("models").stdout
    rows = {part.split()[0]: " ".join(part.split()) for part in re.split(r"^ {6}(?=\d)", printed, flags=re.M)[1:]}
    assert list(rows) == ["1", "2", "3", "4"]
    assert [row.split()[1] for row in rows.values()] == ["Archived", "Production", "Staging", "Staging"]
    assert rows["2"].startswith("2 Production 0.933333 better than production: ") and "and changes" not in rows["2"]
    assert "not better than production: " in rows["4"] and "and changes" in rows["4"]
    assert "in production: 1 -> 2" in printed.splitlines()


TABLES = {"models": [], "status": [], "compare": ["A=1"], "lineage": ["VERSION=4"], "metrics": []}


@pytest.mark.parametrize(
    "target", ["models", "status", *(pytest.param(name, marks=pytest.mark.deep) for name in [*TABLES][2:])]
)
def test_a_table_on_a_terminal(clone: Clone, target: str) -> None:
    """On a terminal of 80 columns no line is longer and no word is broken; JSON=1 is JSON, and MD=1 is Markdown."""
    call = [target, *TABLES[target]]
    lines = on_a_terminal(clone, *call)
    links = [line for line in lines if line.startswith("http")]
    assert max(len(line) for line in lines if line not in links) <= 80
    found = clone.make(*call, "JSON=1").stdout
    json.loads(found[found.index("{") :])
    told = clone.make(*call, "MD=1").stdout
    assert re.search(r"^\|( -+:? \|)+$", told, re.M)
    # Each word is one of Markdown's, where nothing is wrapped, or says that its middle is left out.
    words = {*re.sub(r"\\(.)|\u200b|;", r"\1", html.unescape(told)).split()}
    shown = {*" ".join(lines).replace(";", "").split()}
    assert [word for word in shown - words if not re.search(r"…|^-+$", word)] == []


def on_a_terminal(clone: Clone, *arguments: str) -> list[str]:
    """Return the lines that `make ARGUMENTS` prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    called = subprocess.Popen(["make", *arguments], cwd=clone.path, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    found = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):  # which is how its end is said
        while piece := terminal.read(1 << 16):
            found += piece
    assert called.wait() == 0, found
    # What DVC shows on the way is written over, again and again.
    return [line.rstrip("\r").rpartition("\r")[2] for line in found.decode().split("\n")]


@pytest.mark.parametrize("version", [1, 3, 4])
def test_a_version_is_reproduced(clone: Clone, version: int) -> None:
    """Versions of earlier commits, of other params and packages, and of a dirty tree are made again, byte by byte."""
    before = clone.docker("image", "ls", "--quiet"), clone.git("worktree", "list")
    done = clone.make("reproduce", f"VERSION={version}")
    assert reproduced(done, version) == "identical"
    told = [*OUTPUTS, "the registered model", "metric accuracy", "metric train_accuracy", "tag accuracy"]
    assert [what for what in told if not re.search(rf"^{what} +identical", done.stdout, re.M)] == []
    # It cleans up after itself.
    assert not (clone.path / ".local" / "reproduce").exists()
    assert clone.git("status", "--porcelain") == ""
    assert (clone.docker("image", "ls", "--quiet"), clone.git("worktree", "list")) == before
    assert not clone.docker("container", "ls", "--all", "--quiet", "--filter", "label=pipeline.stage")


def test_an_edited_metric_is_named(clone: Clone) -> None:
    """A metric that was edited in MLflow is named, with what it is and what was recorded."""
    run = clone.registry()[0]["run_id"]
    edit = "from mlflow import MlflowClient; MlflowClient().log_metric('{}', 'accuracy', {}, step=1)"
    clone.python(edit.format(run, 0.99))
    try:
        done = clone.make("reproduce", "VERSION=1", check=False)
        assert (done.returncode, reproduced(done, 1)) == (2, "differs")
        assert differing(done) == ["metric accuracy"]
        assert "0.9, recorded 0.99" in " ".join(done.stdout.split())
    finally:
        clone.python(edit.format(run, 0.9))


@pytest.mark.parametrize("where", ["DVC's cache", "the working tree"])
def test_a_tampered_file_is_named(clone: Clone, where: str) -> None:
    """A data file that was changed, in DVC's cache or in the working tree, is named."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    digest = lock["stages"]["ingest"]["outs"][0]["md5"]
    cached = clone.path / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    path = clone.path / "data" / "raw" / "iris.csv" if where == "the working tree" else cached
    text, mode = path.read_text(), path.stat().st_mode
    path.chmod(0o644)
    path.write_text(text.replace("5.1", "5.2", 1))
    try:
        done = clone.make("reproduce", "VERSION=1", check=False)
    finally:
        path.write_text(text)
        path.chmod(mode)
    assert done.returncode == 2
    assert differing(done) == [f"data/raw/iris.csv in {where}"]


def test_lineage_leads_to_each_file(clone: Clone) -> None:
    """`make lineage` names run, commit, patch, images, params, and each file's place; without VERSION, production's."""
    clone.make("push")
    told = clone.make("lineage", "VERSION=4").stdout
    version = clone.registry()[3]
    for part in (version["run_id"], version["tags"]["git_commit"], version["tags"]["model_sha256"], "lines beyond the"):
        assert part in " ".join(told.split())
    assert re.search(r"^train +stages/train:[0-9a-f]{12}$", told, re.M)
    assert re.search(r"^train\.n_estimators +90$", told, re.M)
    assert re.search(r"^data/raw/iris\.csv +ingest +[0-9a-f]{32} +yes$", told, re.M)
    printed = clone.make("lineage", "VERSION=4", "JSON=1").stdout
    found = json.loads(printed[printed.index("{") :])["versions"][0]
    places = {file["path"]: file["remote"] for file in found["files"]}
    assert f"{clone.path}/.local/dvc-remote/files/md5/" in places["data/raw/iris.csv"]
    of_production = clone.make("lineage", "ALIAS=production").stdout
    assert "lines beyond" not in of_production
    assert "model/model.json, SHA-256" in of_production
    assert clone.make("lineage").stdout.splitlines() == of_production.splitlines()


def test_compare_shows_what_differs(clone: Clone) -> None:
    """`make compare` puts two versions side by side and marks what differs; the second is by default production's."""
    told = clone.make("compare", "A=1").stdout
    assert told == clone.make("compare", "A=1", "B=production").stdout
    assert re.search(r"^\* +param train\.max_depth +null +1$", told, re.M)
    assert re.search(r"^\* +metric accuracy +0\.9 +0\.933333$", told, re.M)
    assert re.search(r"^ +param train\.seed +(\d+) +\1$", told, re.M)
    assert re.search(r"^ +image train +(\S+) +\1$", told, re.M)


def test_rollback_walks_back_and_stays(clone: Clone) -> None:
    """Rolled back twice, production is what it was before that; a run with nothing new leaves it there."""
    assert last_line(clone.make("promote", "VERSION=3")).startswith("version 3 of iris-classifier is in production")
    assert last_line(clone.make("rollback")).startswith("version 2 of")
    assert last_line(clone.make("rollback")).startswith("version 1 of")
    done = clone.make("run")
    assert "published" in done.stdout
    production = {version["version"]: version for version in clone.registry()}["1"]
    assert (production["stage"], production["aliases"]) == ("Production", ["production"])
    assert stages_line(clone.make("run")) == NOTHING
    said = " ".join(clone.make("models").stdout.split())
    assert "version 1 in production (rollback: by 'make rollback')" in said
    refused = clone.make("rollback", check=False)
    assert refused.returncode == 2
    assert last_line(refused).startswith("error: no version was in production before this one; expected one")
    clone.make("promote", "VERSION=2")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (["promote"], "error: VERSION is empty; expected one, as in 'make promote VERSION=3'"),
        (["promote", "VERSION=77"], "error: there is no version 77; expected one of 1, 2, 3, 4, "),
        (["rollback", "VERSION=4"], "error: version 4 was not in production before; expected one of "),
        (["lineage", "VERSION=none"], "error: there is no version none; expected one of 1, 2, 3, 4, "),
        (["compare"], "error: A is empty; expected two versions, as in 'make compare A=1 B=2'"),
        (["compare", "A=1", "B=champion"], "error: there is no version champion; expected one of "),
        (["reproduce", "ALIAS=nobody"], "error: there is no version nobody; expected one of "),
        (["models", "MODEL=other"], "error: there is no version of other in the registry; expected one: 'make run'"),
    ],
)
def test_what_is_not_there_is_said(clone: Clone, call: list[str], told: str) -> None:
    """A version, an alias or a model that is not there is one sentence, with those that are."""
    done = clone.make(*call, check=False)
    assert done.returncode == 2
    assert last_line(done).startswith(told)
    assert "Traceback" not in done.stdout


def test_a_commit_that_is_not_here_is_said(clone: Clone) -> None:
    """A version of a commit that this clone lacks cannot be made again, and that is one sentence."""
    set_tag = "MlflowClient().set_model_version_tag('iris-classifier', '1', 'git_commit', '{}')"
    tag = f"from mlflow import MlflowClient; {set_tag}"
    commit = clone.registry()[0]["tags"]["git_commit"]
    clone.python(tag.format("1" * 40))
    try:
        done = clone.make("reproduce", "VERSION=1", check=False)
    finally:
        clone.python(tag.format(commit))
    assert done.returncode == 2
    assert re.search(r"^error: version 1 is of commit 1{40}, which is not here; expected it", last_line(done))
    assert subprocess.run(["git", "-C", str(clone.path), "worktree", "prune"]).returncode == 0
