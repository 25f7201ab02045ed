"""A version is made again from its commit, patch and data alone, and each thing that differs is named."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.digests import sha256
from scripts.pipeline import images
from scripts.pipeline.dvc_adapter import md5
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import Project, UserError
from scripts.registry import comparison, logged, provenance, recorded, reproduction
from scripts.registry.comparison import DIFFERS, EQUAL, IDENTICAL, Line
from scripts.registry.gate import Gate
from scripts.registry.recorded import Record
from scripts.registry.records import Version

MODEL = Model("m", "models/m.bin", "metrics/m.json", "train", "evaluate", "e", Gate("accuracy"))
DVC_YAML = """\
stages:
  ingest:
    cmd: mkdir -p data/raw && cp data/external/x.csv data/raw/x.csv
    deps: [data/external/x.csv]
    outs: [data/raw/x.csv]
  split:
    cmd: mkdir -p data/parts/a && cp data/raw/x.csv data/parts/a/x.csv && echo "0.5$PARTS" > data/parts/y.txt
    deps: [data/raw/x.csv]
    outs: [data/parts]
  train:
    cmd: mkdir -p models && cat stages/train/seed.txt > models/m.bin && printf "$MODEL" >> models/m.bin
    deps: [data/parts]
    outs: [models/m.bin]
  evaluate:
    cmd:
    - mkdir -p metrics
    - echo "::metric loss=0.5$LIVE step=1"
    - 'echo "{\\"accuracy\\": 0.75$SCORE, \\"n\\": 4}" > metrics/m.json'
    - 'printf "score\\n1\\n0.25$SCORE\\n" > metrics/rows.csv'
    - 'printf "step,gain\\n0,1\\n1,2$SCORE\\n" > metrics/curve.csv'
    deps: [models/m.bin, data/raw/x.csv]
    outs: [metrics/rows.csv]
    metrics: [metrics/m.json]
    plots: [metrics/curve.csv]
  report:
    cmd: mkdir -p report && date +%N > report/r.txt
    deps: [metrics/m.json]
    outs: [report/r.txt]
"""
STAGES = {
    "ingest": Stage("ingest", "stages/ingest:1", {"external": "data/external/x.csv"}, {"out": "data/raw/x.csv"}),
    "split": Stage("split", "stages/split:1", {"raw": "data/raw/x.csv"}, {"parts": "data/parts"}),
    "train": Stage("train", "stages/train:1", {"parts": "data/parts"}, {"model": "models/m.bin"}),
    "evaluate": Stage(
        "evaluate", "stages/evaluate:1", {"model": "models/m.bin", "raw": "data/raw/x.csv"},
        {"rows": "metrics/rows.csv"}, {"metrics": "metrics/m.json"}, {"curve": "metrics/curve.csv"},
    ),
    "report": Stage("report", "stages/report:1", {"metrics": "metrics/m.json"}, {"out": "report/r.txt"}),
}  # fmt: skip
OUTPUTS = [
    "data/external/x.csv", "data/raw/x.csv", "data/parts", "models/m.bin", "metrics/rows.csv", "metrics/m.json",
    "metrics/curve.csv",
]  # fmt: skip
METRICS = {"accuracy": 0.75, "n": 4.0, "gain": 2.0, "loss": 0.5}


@pytest.fixture(scope="module")
def made(empty_repository, tmp_path_factory):
    """A project whose pipeline has run, with a change that is not committed; and the record of that run."""
    base = tmp_path_factory.mktemp("made")
    root = base / "project"
    shutil.copytree(empty_repository, root)
    project = Project(root)
    outputs = ["data", "models", "metrics", "report", ".local"]
    write(root, ".gitignore", "".join(f"/{name}/\n" for name in outputs))
    write(root, "dvc.yaml", DVC_YAML)
    write(root, "params.yaml", "train: {seed: 1}\n")
    write(root, "data/external/x.csv", "a,b\n1,2\n")
    write(root, "stages/base/Dockerfile", "ARG PYTHON_IMAGE=python:3@sha256:1\nFROM x\n")
    for name in STAGES:
        write(root, f"stages/{name}/Dockerfile", "FROM y\n")
    write(root, "stages/train/seed.txt", "committed\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "first")
    write(root, "stages/train/seed.txt", "not committed\n")
    subprocess.run(["dvc", "repro", "--quiet"], cwd=root, check=True)
    pipeline = Pipeline(DVC_YAML, STAGES, (MODEL,))
    wanted = images.load(project.stages)
    snapshot = provenance.snapshot(pipeline, wanted, project)
    tags = {name: image.tag for name, image in wanted.items()}
    files = dict(snapshot.files) | {"dvc.lock": provenance.lock_of(pipeline, MODEL, project)}
    for name, data in (files | {"images.json": json.dumps(tags).encode()}).items():
        (base / "record" / name).parent.mkdir(exist_ok=True)
        (base / "record" / name).write_bytes(data)
    shutil.copy(root / "models/m.bin", base / "registered.bin")
    git(root, "checkout", "--quiet", ".")
    return base


@pytest.fixture
def project(made, tmp_path, monkeypatch, docker):
    """A copy of that project, and limits for its stages."""
    shutil.copytree(made / "project", tmp_path / "project", symlinks=True)
    for name, value in (
        ("MEMORY", "1g"),
        ("CPUS", "1"),
        ("PIDS", "99"),
        ("TIMEOUT", "60"),
        ("OUTPUT_SIZE", "0"),
        ("OUTPUT_FILES", "0"),
    ):
        monkeypatch.setenv(f"STAGE_{name}", value)
    for name in ("PARTS", "MODEL", "SCORE", "LIVE"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def record(made, tmp_path):
    shutil.copytree(made / "record", tmp_path / "record")
    return Record(3, tmp_path / "record")


@pytest.fixture
def registered(made, tmp_path):
    """The model's file as the registry gives it."""
    return Path(shutil.copy(made / "registered.bin", tmp_path))


def own(project, record):
    """Let the record be one that this clone has published."""
    project.made.mkdir(parents=True, exist_ok=True)
    (project.made / record.seal).touch()


def trusted(patch):
    """Agree to run a patch."""


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def git(root, *arguments):
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def version(project, registered, **tags):
    known = {"git_commit": git(project.root, "rev-parse", "HEAD").strip(), "git_dirty": "true", "accuracy": "0.75"}
    return Version(3, "Staging", "run", known | {"model_sha256": sha256(registered)} | tags)


def cached(project, path):
    digest = md5(project.root / path).removesuffix(".dir")
    return next(project.cache.glob(f"files/md5/{digest[:2]}/{digest[2:]}*"))


def reproduce(project, record, registered, metrics=METRICS, **tags):
    """Return the lines of making the version again, without images."""
    one = version(project, registered, **tags)
    with reproduction.worktree(one, record, project, agree=trusted) as tree:
        reproduction.give_inputs(tree, record.lock, project)
        printed = reproduction.run_stages(tree, record.lock, project)
        return comparison.compare(one, record, metrics, registered, tree, printed, project)


def differing(lines):
    return [line.what for line in lines if not line.agrees]


# --- run it again


def test_made_again(project, record, registered):
    """All that leads to the model is made again from commit, patch and the user's data, and nothing else is run.

    The worktree is gone then, the clone is as it was, and a worktree of the user's stays.
    """
    git(project.root, "worktree", "add", "--quiet", "--detach", str(project.root.parent / "mine"))
    before = git(project.root, "worktree", "list"), git(project.root, "status", "--porcelain")
    lines = reproduce(project, record, registered)
    told = [*OUTPUTS, "the registered model", *(f"metric {name}" for name in METRICS), "tag accuracy"]
    assert sorted(lines) == sorted(Line(what, IDENTICAL) for what in told)
    assert comparison.verdict(lines) == IDENTICAL
    assert "report" not in record.lock
    assert (git(project.root, "worktree", "list"), git(project.root, "status", "--porcelain")) == before
    assert not (project.local / "reproduce").exists()


# --- whose record it is


def test_a_patch_of_somebody_else_is_shown_before_it_is_applied(project, record, registered):
    """A record that this clone has not written is a stranger's: nothing of it is run unless a person agrees."""
    shown = []

    def refuse(patch):
        shown.append(patch)
        raise UserError("no")

    with (
        pytest.raises(UserError, match=r"^no$"),
        reproduction.worktree(version(project, registered), record, project, agree=refuse),
    ):
        pass
    assert shown == [record.patch] and not (project.local / "reproduce" / "version-3").exists()


def test_a_record_of_this_clone_is_run_without_a_question(project, record, registered):
    """What this clone published itself is known by its digest, whatever has been edited since."""
    own(project, record)
    with reproduction.worktree(version(project, registered), record, project, agree=pytest.fail) as tree:
        assert (tree / "stages/train/seed.txt").read_text() == "not committed\n"


def test_the_seal_of_a_record_is_that_of_its_snapshot(made, record, tmp_path, monkeypatch):
    """What is published and what comes back have one digest, and one other byte has another one."""
    shutil.copytree(made / "project", tmp_path / "copy", symlinks=True)
    project = Project(tmp_path / "copy")
    monkeypatch.chdir(project.root)
    write(project.root, "stages/train/seed.txt", "not committed\n")
    snapshot = provenance.snapshot(Pipeline(DVC_YAML, STAGES, (MODEL,)), images.load(project.stages), project)
    assert snapshot.seal == record.seal
    write(record.folder, "params.yaml", "train: {seed: 2}\n")
    assert snapshot.seal != Record(3, record.folder).seal


def test_commands_that_are_not_the_commits_are_refused(project, record, registered):
    """A dvc.yaml that the registry alone has is not run, even if its patch is agreed to."""
    write(record.folder, "dvc.yaml", DVC_YAML.replace("cp ", "cp -v "))
    with (
        pytest.raises(UserError, match=r"has a dvc\.yaml in the registry that is neither its commit's nor what its t"),
        reproduction.worktree(version(project, registered), record, project, agree=trusted),
    ):
        pass
    assert not (project.local / "reproduce" / "version-3").exists()


def test_what_a_killed_call_left_is_cleared(project, record, registered):
    """A worktree that a killed call left is no obstacle."""
    left = project.local / "reproduce" / "version-3"
    git(project.root, "worktree", "add", "--quiet", "--detach", str(left))
    shutil.rmtree(left)
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        assert (tree / "stages/train/seed.txt").read_text() == "not committed\n"
    assert "reproduce" not in git(project.root, "worktree", "list")


def test_hooks_and_settings_of_the_user(project, record, registered):
    """No hook and no setting of the user's changes what the worktree is made of."""
    write(project.root, ".git/hooks/post-checkout", "#!/bin/sh\necho hooked > hooked\nexit 1\n")
    (project.root / ".git/hooks/post-checkout").chmod(0o755)
    git(project.root, "config", "apply.whitespace", "error-all")
    git(project.root, "config", "color.ui", "always")
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        assert (tree / "stages/train/seed.txt").read_text() == "not committed\n"
        assert not (tree / "hooked").exists()


@pytest.mark.parametrize(
    "setting", ["core.autocrlf=true", "core.eol=crlf", "apply.whitespace=fix", "apply.ignoreWhitespace=change"]
)
def test_settings_of_the_user_change_no_code(project, record, registered, setting):
    """Whatever a person has set in git, the tree has the code that ran, byte for byte."""
    git(project.root, "config", *setting.split("="))
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        assert (tree / "stages/train/seed.txt").read_bytes() == b"not committed\n"
        assert (tree / "stages/base/Dockerfile").read_bytes() == b"ARG PYTHON_IMAGE=python:3@sha256:1\nFROM x\n"


@pytest.mark.parametrize("commit", ["1" * 40, "none", "", "--help", "HEAD"])
def test_a_commit_that_is_not_here(project, record, registered, commit):
    """A commit that this clone lacks, or what is none, is one sentence."""
    told = f"version 3 is of commit {commit}, which is not here; expected it: fetch it with 'git fetch'"
    with (
        pytest.raises(UserError, match=told),
        reproduction.worktree(version(project, registered, git_commit=commit), record, project, agree=trusted),
    ):
        pass


def test_a_patch_that_does_not_fit(project, record, registered):
    """A patch that does not fit the commit is one sentence, and leaves nothing behind."""
    (record.folder / "uncommitted.patch").write_text("--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n")
    with (
        pytest.raises(UserError, match=r"'git apply .*' failed: error: none: No such file"),
        reproduction.worktree(version(project, registered), record, project, agree=trusted),
    ):
        pass
    assert not (project.local / "reproduce").exists()


def test_a_stage_that_fails(project, record, registered):
    """A stage that fails is one sentence with its own words, and where the log is."""
    text = DVC_YAML.replace("mkdir -p models", r"printf 'error\072 no luck\n' >&2; exit 2")
    (record.folder / "dvc.yaml").write_text(text)
    own(project, record)
    with pytest.raises(UserError, match="it did not run again: no luck"):
        reproduce(project, record, registered)
    assert not (project.local / "reproduce").exists()


def test_a_stage_is_told_of_no_server(project, record, registered, monkeypatch):
    """What the stages run again has no address and no token to publish with."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "of-the-runner-alone")
    text = DVC_YAML.replace("mkdir -p models", "env > seen.txt; mkdir -p models")
    (record.folder / "dvc.yaml").write_text(text)
    own(project, record)
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        reproduction.give_inputs(tree, record.lock, project)
        reproduction.run_stages(tree, record.lock, project)
        seen = (tree / "seen.txt").read_text()
    assert "of-the-runner-alone" not in seen
    assert "TRAIN_MEMORY=1g" in seen


# --- the user's data


def test_data_that_changed_since(project, record, tmp_path):
    """Data that changed since is taken from DVC's cache; if that has none, it is named with both hashes."""
    path = project.root / "data/external/x.csv"
    digest, kept = md5(path), cached(project, "data/external/x.csv")
    path.write_text("other\n")
    reproduction.give_inputs(tmp_path / "tree", record.lock, project)
    assert md5(tmp_path / "tree/data/external/x.csv") == digest
    kept.unlink()
    with pytest.raises(
        UserError, match=f"data/external/x.csv has the MD5 [0-9a-f]*; expected the data of MD5 {digest}"
    ):
        reproduction.give_inputs(tmp_path / "other", record.lock, project)
    path.unlink()
    with pytest.raises(UserError, match=r"data/external/x\.csv is missing; expected the data of MD5"):
        reproduction.give_inputs(tmp_path / "other", record.lock, project)


def test_a_folder_of_data(project, tmp_path):
    """A folder of the user's own is taken as it is, by the hash of all its files."""
    write(project.root, "data/external/images/a.txt", "a")
    write(project.root, "data/external/images/b/c.txt", "c")
    digest = md5(project.root / "data/external/images")
    lock = {"ingest": {"deps": [{"path": "data/external/images", "md5": digest}]}}
    tree = tmp_path / "tree"
    reproduction.give_inputs(tree, lock, project)
    assert (tree / "data/external/images/b/c.txt").read_text() == "c"
    write(project.root, "data/external/images/a.txt", "b")
    with pytest.raises(
        UserError, match=rf"data/external/images has the MD5 [0-9a-f]*\.dir; expected the data of MD5 {digest}"
    ):
        reproduction.give_inputs(tmp_path / "other", lock, project)


# --- compare


def test_the_last_digits_may_differ(project, record, registered, monkeypatch):
    """What differs beyond the sixth decimal is equal: a text, a file of a folder, a metric, a row, a point."""
    monkeypatch.setenv("PARTS", "0000001")
    monkeypatch.setenv("SCORE", "0000001")
    write(project.root, "metrics/curve.csv", "step,gain\n0,1\n1,2\n")
    lines = dict(reproduce(project, record, registered))
    assert [what for what, verdict in lines.items() if verdict == EQUAL] == [
        "data/parts", "metrics/m.json", "metrics/rows.csv", "metric accuracy", "tag accuracy",
    ]  # fmt: skip
    assert [what for what, verdict in lines.items() if verdict.startswith(DIFFERS)] == [
        "metrics/curve.csv", "metric gain",
    ]  # fmt: skip


def test_a_model_that_scores_alike(project, record, registered, monkeypatch):
    """A model of other bytes is equal if the scorer finds the same of it, row by row; and differs if not."""
    monkeypatch.setenv("MODEL", "other bytes")
    lines = dict(reproduce(project, record, registered))
    assert (lines["models/m.bin"], lines["the registered model"]) == (EQUAL, EQUAL)
    assert comparison.verdict([Line(*line) for line in lines.items()]) == EQUAL
    monkeypatch.setenv("SCORE", "5")
    lines = reproduce(project, record, registered)
    assert {"models/m.bin", "the registered model", "metrics/m.json", "metric accuracy"} <= set(differing(lines))
    assert "scores differently" in dict(lines)["the registered model"]


def test_a_registered_file_that_is_another(tmp_path):
    """A registered file that was exchanged, or is gone, is named with what is recorded, whatever the stages made."""
    write(tmp_path, "made", "weights")
    write(tmp_path, "registered", "exchanged")
    digest, made = sha256(tmp_path / "made"), tmp_path / "made"
    exchanged = comparison.compare_model(tmp_path / "registered", digest, made, measures=True)
    assert exchanged.verdict == f"differs: SHA-256 {sha256(tmp_path / 'registered')}, recorded {digest}"
    assert (
        comparison.compare_model(None, digest, made, measures=True).verdict
        == f"differs: its file is gone, recorded {digest}"
    )
    assert (
        comparison.compare_model(made, digest, None, measures=True).verdict == "differs: no stage of its record made it"
    )


def test_metrics_of_the_run():
    """A metric that was edited, deleted or added in MLflow is named."""
    recorded, now = {"accuracy": 0.99, "by hand": 1.0}, {"accuracy": 0.75, "n": 4.0}
    assert list(comparison.compare_metrics(recorded, now, {})) == [
        Line("metric accuracy", "differs: 0.75, recorded 0.99"),
        Line("metric n", "differs: nothing recorded"),
        Line("metric by hand", "differs: not measured now"),
    ]


def test_the_score_of_the_version(tmp_path):
    """A tag that bears the name of a number of the scorer's is compared with it, whatever is in the name."""
    write(tmp_path, "m.json", '{"accuracy": 0.75, "f1@10": {"a": 0.5}, "n": 4}')
    found = [logged.read(logged.Made(["m.json"]), tmp_path)]
    tags = {"accuracy": "0.8", "f1_10.a": "0.5", "decision": "Staging", "n": "many"}
    assert list(comparison.compare_score(tags, found)) == [
        Line("tag accuracy", "differs: 0.75, recorded 0.8"),
        Line("tag f1@10.a", IDENTICAL),
    ]


def test_live_metrics(project, record, registered, monkeypatch):
    """A metric that a stage only printed is compared with what it prints now, at the last step."""
    monkeypatch.setenv("LIVE", "1")
    assert dict(reproduce(project, record, registered))["metric loss"] == "differs: 0.51, recorded 0.5"
    printed = ["::metric loss=0.1 step=2", "loss=0.3", "::metric loss=0.2 step=1", "::metric loss=x step=3"]
    assert comparison.live(printed) == {"loss": 0.1}


def test_a_run_without_live_metrics():
    """A run that the server was away for lacks them, and nothing is wrong with that."""
    assert list(comparison.compare_metrics({"a": 1.0}, {"a": 1.0}, {"loss": 0.5})) == [Line("metric a", IDENTICAL)]


def test_values_that_are_not_finite():
    """NaN is NaN; infinity is what a server's database makes of it."""
    before = {"a": float("nan"), "b": 1.7976931348623157e308, "c": 1.0}
    now = {"a": float("nan"), "b": float("inf"), "c": float("nan")}
    verdicts = [line.verdict for line in comparison.compare_metrics(before, now, {})]
    assert verdicts == [IDENTICAL, EQUAL, "differs: nan, recorded 1"]


@pytest.mark.parametrize(
    ("path", "told"),
    [("metrics/m.json", "metrics/m.json in DVC's cache"), ("data/parts/y.txt", "data/parts/y.txt in DVC's cache")],
)
def test_a_copy_in_the_cache_that_was_changed(project, record, path, told):
    """A file that was changed in DVC's cache is named, one of a folder by its own path."""
    kept = cached(project, path)
    kept.chmod(0o644)
    kept.write_text("tampered")
    assert differing(comparison.damaged(record.lock, project)) == [told]


def test_a_folders_list_in_the_cache_that_was_changed(project, record):
    """So is a folder's list."""
    kept = cached(project, "data/parts")
    kept.chmod(0o644)
    kept.write_text("[]")
    assert differing(comparison.damaged(record.lock, project)) == ["data/parts in DVC's cache"]


@pytest.mark.parametrize("path", ["metrics/m.json", "data/parts/a/x.csv"])
def test_a_file_of_the_working_tree_that_was_changed(project, record, path):
    """A file that was changed by hand in the working tree is named; what another run made of it is not."""
    (project.root / path).unlink()
    write(project.root, path, "tampered")
    assert differing(comparison.tampered(record.lock, project)) == [f"{path} in the working tree"]
    shutil.copy(project.root / "data/raw/x.csv", project.root / path)  # DVC's cache has it
    assert differing(comparison.tampered(record.lock, project)) == []


@pytest.mark.parametrize(
    ("name", "one", "other", "alike"),
    [
        ("x.json", '{"a": 0.1234561, "b": [1, "x"]}', '{"b": [1, "x"], "a": 0.1234564}', True),
        ("x.json", '{"a": NaN}', '{"a": NaN}', True),
        ("x.json", '{"a": 1}', '{"a": true}', False),
        ("x.json", '{"a": 1}', '{"a": 1, "b": 2}', False),
        ("x.json", '{"a": ', '{"a":', False),
        ("x.yaml", "a: 0.1234561\n", "{a: 0.1234564}\n", True),
        ("x.csv", "n,v\nv1.2,0.1234561\n", "n,v\nv1.2,0.1234564\n", True),
        ("x.csv", "n,v\nv1.20,1\n", "n,v\nv1.2,1\n", False),
        ("x.csv", "v\n1e-7\n", "v\n-1E-8\n", True),
        ("x.csv", "v\n1\n", "v\n2\n", False),
        ("x.tsv", "a\t0.1234561\n", "a\t0.1234564\n", True),
        ("x.txt", "mean: 0.1234561 (of 3)\n", "mean: 0.1234564 (of 3)\n", True),
        ("x.txt", "mean: 0.12345\n", "mean: 0.12346\n", False),
        ("x.txt", "0.1234561\n", "0.1234564 \n", False),
        ("x.bin", "\udcff0.1234561", "\udcff0.1234564", False),
    ],
)
def test_equal_to_six_decimals(tmp_path, name, one, other, alike):
    """JSON, YAML, CSV and texts may differ in the last digits of a number, and in nothing else."""
    for folder, text in (("one", one), ("other", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(os.fsencode(text))
    assert comparison.close(tmp_path / "one" / name, tmp_path / "other" / name) is alike


# --- images


def test_the_recorded_images_are_what_commit_and_patch_make(project, record, registered):
    """The images of the worktree bear the recorded tags; only the model's and the base are asked for."""
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        wanted = reproduction.matching(tree, record, project)
    assert [*wanted] == ["base", "ingest", "split", "train", "evaluate"]
    assert wanted["train"].tag == record.images["train"]


def test_another_image(project, record, registered):
    """A stage whose image is another one than its commit and patch make is named with both tags."""
    tags = json.loads((record.folder / "images.json").read_text()) | {"split": "stages/split:0"}
    (record.folder / "images.json").write_text(json.dumps(tags))
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        with pytest.raises(UserError, match=r"the image of split was stages/split:0, and its commit and patch make"):
            reproduction.matching(tree, record, project)
        write(tree, "stages/base/Dockerfile", "ARG PYTHON_IMAGE=python:2\n")
        with pytest.raises(UserError, match="the version was made with python:2; expected the Python image that"):
            reproduction.matching(tree, record, project)


def test_images_that_were_not_here_are_deleted(project, record, registered, docker):
    """Images that are built for it are deleted again; those that were here, and those that others use, stay."""
    tags = record.images
    here = "\n".join(f"{tags[name]} id-{name}" for name in ("base", "ingest", "split"))
    docker.does("image ls", f"echo '{here}'; test ! -f {docker.log}.built || echo '{tags['train']} id-train'")
    docker.does("buildx build", f"cat > /dev/null; touch {docker.log}.built")
    of_another = f'case "$*" in *{tags["train"]}) echo "[stages/clone-other:train]" ;; *) echo "[]" ;; esac'
    docker.does("image inspect", of_another)
    with reproduction.worktree(version(project, registered), record, project, agree=trusted) as tree:
        with reproduction.images_of(tree, record, project):
            assert sum("buildx build" in line for line in docker.asked) == 2  # train, evaluate
        removed = [line.split()[-1] for line in docker.asked if line.startswith("image rm")]
    assert tags["evaluate"] in removed
    assert not {tags[name] for name in ("base", "ingest", "split", "train")} & set(removed)


# --- the record


def test_where_a_version_has_its_file():
    """A version says where its file is; one from before did not, and has it at one place."""
    assert recorded.model_file(Version(1, "None", "r", {"model_file": "model/m.bin"})) == "model/m.bin"
    assert recorded.model_file(Version(1, "None", "r", {})) == "model/model.skops"


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("images.json", "{", lambda record: record.images),
        ("images.json", "[]", lambda record: record.images),
        ("params.yaml", "a: [", lambda record: record.params),
        ("dvc.lock", "stages: [a]", lambda record: record.lock),
        ("dvc.lock", "stages: {a: 1}", lambda record: record.lock),
        (
            "dvc.lock",
            yaml.safe_dump({"stages": {"a": {"outs": [{"path": "/etc/passwd"}]}}}),
            lambda record: record.lock,
        ),
        ("dvc.lock", yaml.safe_dump({"stages": {"a": {"deps": [{"path": "x/../../y"}]}}}), lambda record: record.lock),
        ("dvc.yaml", "{}", lambda record: record.stages),
    ],
)
def test_a_record_that_cannot_be_read(record, name, text, read):
    """A record that somebody edited, or that leads outside the project, is one sentence."""
    (record.folder / name).write_text(text)
    with pytest.raises(UserError, match=f"version 3 has no pipeline/{name} that can be read; expected what 'make run'"):
        read(record)


def test_a_record_with_a_link(record):
    """A link in a record is not followed."""
    (record.folder / "params.yaml").unlink()
    (record.folder / "params.yaml").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"has no pipeline/params\.yaml that can be read"):
        _ = record.params


def test_params_that_hold_themselves(record):
    """YAML that never ends, or that grows without end, ends."""
    (record.folder / "params.yaml").write_text("a: &a {b: *a, c: 1}\n")
    assert len(record.params) < 100
