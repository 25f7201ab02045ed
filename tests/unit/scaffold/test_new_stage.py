"""`make new-stage` adds all that a stage needs, and nothing else; what it cannot do changes nothing."""

import ast
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.pipeline import images, template
from scripts.pipeline.params import read_params
from scripts.project import ROOT, UserError
from scripts.scaffold import copied, new_stage, stage

EDITED = ("dvc.yaml.template", "params.yaml", ".gitignore")


def changed(clone: Path) -> list[str]:
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    listed = subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True).stdout
    return sorted(line[3:] for line in listed.splitlines())


def removed(clone: Path) -> list[str]:
    """Return the lines that tracked files lost, but dvc.yaml."""
    command = ["git", "diff", "--unified=0", "--", ".", ":!dvc.yaml"]
    lines = subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if line.startswith("-") and not line.startswith("---")]


def test_a_stage_is_added(clone):
    """The folder, the block, the section and the line of .gitignore are there, and no other file has changed."""
    told = new_stage.add(clone, "features", "preprocess")
    files = ["stages/features/features.py", "stages/features/test_features.py"]
    assert changed(clone) == sorted([*EDITED, "dvc.yaml", *files]) and removed(clone) == []
    new = template.load(clone).stages["features"]
    assert dict(new.inputs) == {"in_train": "data/processed/train.csv", "in_test": "data/processed/test.csv"}
    assert new.written == {"out_train": "data/features/train.csv", "out_test": "data/features/test.csv"}
    assert new.section == {"keep": None}
    assert list(template.load(clone).stages) == ["ingest", "preprocess", "features", "train", "evaluate"]
    assert (clone / "dvc.yaml").read_text() == template.load(clone).text
    assert "\n/metrics/\n/data/features/\n# Caches.\n" in (clone / ".gitignore").read_text()
    assert told[-1] == "then   make run, make test-features; git add --all, git commit"


def test_stages_are_added_one_after_the_other(clone):
    """Each of several stages reads what the one before writes; a copy takes from there what its program can read."""
    for name, after, like in (
        ("features", "preprocess", ""), ("grid-search", "features", ""), ("boost", "grid-search", "train"),
        ("measure", "boost", "evaluate"),
    ):  # fmt: skip
        new_stage.add(clone, name, after, like)
    stages = template.load(clone).stages
    assert list(stages) == [
        "ingest", "preprocess", "features", "grid-search", "boost", "measure", "train", "evaluate",
    ]  # fmt: skip
    assert list(stages["grid-search"].inputs.values()) == ["data/features/train.csv", "data/features/test.csv"]
    assert dict(stages["boost"].inputs) == {"train_csv": "data/grid-search/train.csv"}
    assert stages["measure"].inputs["model"] == "models-boost/model.json"
    assert removed(clone) == []


def with_a_block_of_two(clone: Path) -> None:
    """Let ingest be followed by two stages of one block."""
    files = 'inputs={"raw": "data/raw/iris.csv"}, outputs={"part": "data/${item}/p.csv"}'
    block = f'{{{{ stage("split", foreach=[1, 2], {files}) }}}}'
    path = clone / template.TEMPLATE
    path.write_text(path.read_text().replace('{{ stage("preprocess"', f'{block}\n{{{{ stage("preprocess"', 1))
    (clone / "stages/split").mkdir()
    (clone / "stages/split/split.py").write_text("")


def test_one_of_several_stages_of_a_block_is_followed(clone):
    """A stage may follow one that a block makes for a value; a copy of it is refused, and so is the block's name."""
    with_a_block_of_two(clone)
    new_stage.add(clone, "features", "split@2")
    stages = template.load(clone).stages
    assert list(stages) == ["ingest", "split@1", "split@2", "features", "preprocess", "train", "evaluate"]
    assert dict(stages["features"].inputs) == {"in_p": "data/2/p.csv"}
    for after, like, says in (
        ("split", "", "AFTER is 'split', which is no stage .* expected one of ingest, split@1, split@2,"),
        ("ingest", "split@1", "LIKE is split@1, one of several stages of a block; expected one whose block makes one"),
        ("ingest", "split", "LIKE is 'split', which is no stage"),
    ):
        with pytest.raises(UserError, match=says):
            new_stage.add(clone, "more", after, like)
        assert not (clone / "stages/more").exists()


def test_a_copy_asks_for_what_its_like_does(clone):
    """GPUs, memory and options of a block are those of its copy as well, each on a line of its own."""
    path = clone / template.TEMPLATE
    asked = {"gpus": '"all"', "shm": '"1g"', "tmp": '"8g"', "options": '["--ulimit=core=0", "--ulimit=memlock=-1"]'}
    words = ", ".join(f"{name}={value}" for name, value in asked.items())
    path.write_text(path.read_text().replace('stage("train",', f'stage("train", {words},', 1))
    new_stage.add(clone, "boost", "preprocess", "train")
    like, new = (template.load(clone).stages[name] for name in ("train", "boost"))
    assert (new.gpus, new.shm, new.tmp, list(new.options)) == (like.gpus, like.shm, like.tmp, list(like.options))
    assert (new.gpus, new.shm) == ("all", "1g")
    for name, value in asked.items():
        assert re.search(rf"^         {name}={re.escape(value)}[,)]", path.read_text(), re.M)


def test_a_stage_without_outputs_is_followed(clone):
    """What a stage declares as metrics and plots alone is read as well; beside outputs it is not."""
    after = template.load(clone).stages["evaluate"]
    assert stage.following("rows", after, "data/rows").stage.inputs == {"in_rows": "metrics/rows.csv"}
    new = stage.following("rows", replace(after, outputs={}), "data/rows").stage
    assert list(new.inputs) == ["in_metrics", "in_confusion", "in_roc", "in_importance"]


def test_names_of_files_become_arguments_of_their_own():
    """Files of one name, and of names that are none in Python, have arguments that differ."""
    after = stage.Stage(
        "one", "", outputs={"a": "data/a/x.csv", "b": "data/a/b/x.csv", "c": "data/a/2 é.csv", "d": "data/a/é"}
    )
    new = stage.following("two", after, "data/two")
    assert list(new.stage.inputs) == ["in_x_csv", "in_b_x_csv", "in_2", "in_file"]
    assert list(new.stage.outputs.values()) == ["data/two/x.csv", "data/two/b/x.csv", "data/two/2 é.csv", "data/two/é"]
    for path, source in new.files.items():
        ast.parse(source.data, path)


@pytest.mark.parametrize(
    "name",
    ["grid-search", *(pytest.param(name, marks=pytest.mark.deep) for name in ("features", "a", "class", "x" * 60))],
)
@pytest.mark.parametrize("made", ["first", "following", "copy"])
def test_what_is_made_passes_make_lint(clone, pipeline, name, made):
    """Programs and tests are as `make lint` wants them, whatever the name."""
    shared = {f"file{number}": f"data/processed/file{number}.csv" for number in range(9)}
    if made == "first":
        new = stage.first(name, f"data/{name}")
    elif made == "following":
        new = stage.following(name, stage.Stage("one", "", outputs=shared), f"data/{name}")
    else:
        train = pipeline.stages["train"]
        new = copied.copy_of(train, name, train, "other", clone, (clone / "params.yaml").read_text())
    for path, source in new.files.items():
        (clone / "stages" / name).mkdir(exist_ok=True)
        (clone / "stages" / name / path).write_bytes(source.data)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(["ruff", *command, f"stages/{name}"], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_copy_is_the_stage_under_another_name(clone):
    """A copy has all files, its section with comments, and the same block, in another output folder."""
    new_stage.add(clone, "boost", "preprocess", "train")
    old, new = (clone / "stages" / name for name in ("train", "boost"))
    assert sorted(path.name for path in new.iterdir()) == sorted(
        path.name.replace("train", "boost") for path in old.iterdir()
    )
    assert (new / "boost.py").read_text() == (old / "train.py").read_text()
    assert (new / "requirements.txt").read_bytes() == (old / "requirements.txt").read_bytes()
    assert "import boost as train\n" in (new / "test_boost.py").read_text()
    params = (clone / "params.yaml").read_text()
    section = params.partition("\ntrain:\n")[2].partition("\n\n")[0]
    assert f"\nboost:\n{section}\n" in params
    stages = template.load(clone).stages
    assert stages["boost"].inputs == stages["train"].inputs
    assert stages["boost"].plots == {"training": "models-boost/training.csv"}


def test_a_copy_with_a_dockerfile_keeps_the_names_of_its_files(clone):
    """What a Dockerfile of its own names is called as before."""
    new_stage.add(clone, "split", "ingest", "preprocess")
    assert sorted(path.name for path in (clone / "stages/split").iterdir()) == ["Dockerfile", "preprocess.py"]


@pytest.mark.parametrize("name", ["plain", "fine-tune"])
def test_a_copy_of_a_stage_that_was_added(clone, name):
    """A stage that was added, also one whose name is none of Python's, can be copied under a name of either kind."""
    new_stage.add(clone, "grid-search", "preprocess")
    new_stage.add(clone, name, "grid-search", "grid-search")
    test = (clone / "stages" / name / f"test_{name}.py").read_text()
    assert f'program = importlib.import_module("{name}")\n' in test and "grid-search" not in test
    assert list(template.load(clone).stages[name].inputs.values()) == [
        "data/grid-search/train.csv", "data/grid-search/test.csv",
    ]  # fmt: skip


def test_files_of_one_name_are_not_taken_for_each_other(clone):
    """Where two inputs have one file name, or the stage before writes two of it, the copy reads what it did."""
    stages = template.load(clone).stages
    params = (clone / "params.yaml").read_text()
    like = replace(stages["train"], inputs={"a": "data/a/x.csv", "b": "data/b/x.csv", "c": "data/b/y.csv"})
    after = stage.Stage("one", "", outputs={"a": "data/one/x.csv", "b": "data/one/y.csv", "c": "data/one/c/y.csv"})
    assert copied.copy_of(like, "new", after, "other", clone, params).stage.inputs == like.inputs
    after = replace(after, outputs={"b": "data/one/y.csv"})
    inputs = {**like.inputs, "c": "data/one/y.csv"}
    assert copied.copy_of(like, "new", after, "other", clone, params).stage.inputs == inputs


def test_bytes_that_are_no_text_stay(clone):
    """A .gitignore that is not UTF-8 keeps its bytes."""
    (clone / ".gitignore").write_bytes(b"\xff\n/data/processed/\n")
    new_stage.add(clone, "features", "preprocess")
    assert (clone / ".gitignore").read_bytes() == b"\xff\n/data/processed/\n/data/features/\n"


def test_links_and_modes_are_copied(clone):
    """An executable stays one in a copy, and a link a link."""
    (clone / "stages/train/tool.sh").write_text("#!/bin/sh\n")
    (clone / "stages/train/tool.sh").chmod(0o755)
    (clone / "stages/train/link").symlink_to("tool.sh")
    new_stage.add(clone, "boost", "preprocess", "train")
    assert (clone / "stages/boost/tool.sh").stat().st_mode & 0o100
    assert (clone / "stages/boost/link").readlink() == Path("tool.sh")


@pytest.fixture(scope="module")
def pipeline(committed):
    return template.load(committed)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", r"NAME is empty; expected lower-case letters, .*: choose one$"),
        ("New", r"NAME is 'New'; expected lower-case letters"),
        ("1st", r"NAME is '1st'; expected lower-case letters"),
        ("-x", r"NAME is '-x'; expected"),
        ("../x", r"NAME is '\.\./x'; expected"),
        ("a b", r"NAME is 'a b'; expected"),
        ("x\n", r"NAME is 'x\\n'; expected"),
        ("x" * 61, r"NAME is 'x{61}'; expected .* 60 characters at most"),
        ("train", r"NAME is train, which is a stage's already; expected a new name"),
        ("base", r"NAME is base, which is what all stages start from; expected"),
        ("mlflow", r"NAME is mlflow, and params\.yaml has a section of that name; expected"),
        ("test_data", r"NAME is test_data, so that test_data\.py would be a test; expected"),
        ("data_test", r"NAME is data_test, so that data_test\.py would be a test; expected"),
        ("conftest", r"NAME is conftest, so that conftest\.py would be a test; expected"),
        ("json", r"NAME is json, so that json\.py would hide a Python module of that name; expected"),
        ("stagekit", r"so that stagekit\.py would hide a Python module"),
        ("pandas", r"so that pandas\.py would hide a Python module"),
        ("sklearn", r"so that sklearn\.py would hide a Python module"),
        ("dateutil", r"so that dateutil\.py would hide a Python module"),
        ("pytest", r"so that pytest\.py would hide a Python module"),
        ("unit", r"NAME is unit, and 'make test-unit' does something else; expected"),
        ("push", r"NAME is push, and 'make run-push' does something else; expected"),
        ("stage", r"NAME is stage, so that its limits would be called like those of all stages; expected"),
        ("runner", r"NAME is runner, so that its limits would be called like those of the runner; expected"),
    ],
)
def test_a_name_that_cannot_be_is_refused(committed, pipeline, name, says):
    """A name that a stage, a file, a module, a target or a setting cannot have, or has, is refused in one sentence."""
    with pytest.raises(UserError, match=says) as caught:
        new_stage.check_name(committed, name, pipeline)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["features", "grid-search", "test-data", "a", "class", "x2", "x" * 60])
def test_a_name_that_can_be(committed, pipeline, name):
    """A name of letters, digits and dashes that nothing else has is taken."""
    new_stage.check_name(committed, name, pipeline)


@pytest.mark.parametrize(
    ("name", "after", "like", "says"),
    [
        ("train", "train", "", r"NAME is train, which is"),
        ("left", "train", "", r"NAME is left, and stages/left is there already; expected"),
        ("new", "", "", r"AFTER is empty; expected one of ingest, preprocess, train, evaluate: correct it"),
        ("new", "x", "", r"AFTER is 'x', which is no stage of dvc\.yaml\.template; expected one of ingest, preprocess"),
        ("new", "base", "", r"AFTER is 'base', which is no stage"),
        ("new", "train", "x", r"LIKE is 'x', which is no stage of dvc\.yaml\.template; expected one of ingest"),
    ],
)
def test_what_cannot_be_added_is_refused(clone, tree, name, after, like, says):
    """A name, AFTER or LIKE that cannot be is refused in one sentence, and no file differs from before."""
    (clone / "stages" / "left").write_text("")
    before = tree()
    with pytest.raises(UserError, match=says) as caught:
        new_stage.add(clone, name, after, like)
    assert "\n" not in str(caught.value)
    assert tree() == before


def spoiled(clone: Path, what: str) -> None:
    """Spoil the clone so that a stage cannot be added."""
    template_file, params = clone / "dvc.yaml.template", clone / "params.yaml"
    if what == "a condition around all":
        text = template_file.read_text().replace("stages:\n", "{% if true %}stages:\n") + "{% endif %}\n"
        template_file.write_text(text)
    elif what == "params in braces":
        params.write_text(json.dumps(read_params(params)) + "\n")
    elif what == "git ignores it":
        (clone / ".gitignore").write_text("stages/new/\n")
    elif what == "its output is there":
        for folder in ("new", "new-output"):
            (clone / "data" / folder).mkdir(parents=True)
            (clone / "data" / folder / "train.csv").write_text("mine")
    elif what == "a limit of the same name":
        (clone / "stages/train").rename(clone / "stages/n-ew")
        (clone / "stages/n-ew/train.py").rename(clone / "stages/n-ew/n-ew.py")
        for path in (template_file, params):
            text = path.read_text().replace('"train"', '"n-ew"').replace("\ntrain:", "\nn-ew:")
            path.write_text(text.replace("stages/train/loader", "stages/n-ew/loader"))
    else:
        template_file.write_text("stages:\n{{ nonsense }}\n")


@pytest.mark.parametrize(
    ("what", "name", "says"),
    [
        ("a condition around all", "new", "has no place below the block of preprocess"),
        ("params in braces", "new", "params.yaml cannot be given the section new"),
        ("git ignores it", "new", "stage 'new' has no folder stages/new"),
        ("its output is there", "new", "the stage would write to data/new/ or data/new-output/, where others"),
        ("a limit of the same name", "n_ew", "its limits would be called like those of n-ew"),
        ("a template of nonsense", "new", "dvc.yaml.template, line 2"),
    ],
)
def test_a_clone_that_cannot_take_a_stage_is_left_alone(clone, tree, what, name, says):
    """Whatever of the clone is in the way, one sentence says so, and no file differs from before."""
    spoiled(clone, what)
    before = tree()
    with pytest.raises(UserError, match=says):
        new_stage.add(clone, name, "preprocess")
    assert tree() == before


@pytest.mark.parametrize("name", ["external", "raw", "processed"])
def test_a_folder_that_others_use_is_not_the_stages(clone, name):
    """The user's own data and other stages' outputs are not written to: the folder has another name."""
    new_stage.add(clone, name, "ingest")
    assert template.load(clone).stages[name].folder == f"data/{name}-output"


def test_an_output_that_git_ignores_already_needs_no_line(clone):
    """Where all of data/ is ignored, .gitignore stays as it is."""
    (clone / ".gitignore").write_text("/data/\n")
    told = new_stage.add(clone, "features", "preprocess")
    assert (clone / ".gitignore").read_text() == "/data/\n"
    assert not [line for line in told if ".gitignore" in line]


def test_the_stage_is_in_the_images(clone):
    """What is in the folder gets an image, but the test."""
    new_stage.add(clone, "features", "preprocess")
    assert {"features.py", "Dockerfile"} == set(images.load(clone / "stages")["features"].sources)


# --- copies of Python


@pytest.mark.parametrize(
    ("code", "new", "expected"),
    [
        ("import train\n", "fit", "import fit as train\n"),
        ("import train as t\n", "fit", "import fit as t\n"),
        ("import os, train # é\n", "fit", "import os, fit as train # é\n"),
        ("from train import a, b as c\n", "fit", "from fit import a, b as c\n"),
        ("from  train import (\n  a,\n)\n", "fit", "from fit import (\n  a,\n)\n"),
        ("é = 1; import train; from train import a\n", "fit", "é = 1; import fit as train; from fit import a\n"),
        ("def f():\n    import train\n", "fit", "def f():\n    import fit as train\n"),
        ("import trainer\nfrom .train import a\n", "fit", "import trainer\nfrom .train import a\n"),
        ('m = import_module("train"); n = import_module("trains")\n', "f-t",
         'm = import_module("f-t"); n = import_module("trains")\n'),
        ("import train\nx = 1\n", "f-t",
         'import importlib\n\n\ntrain = importlib.import_module("f-t")\nx = 1\n'),
        ('"""Doc."""\nimport os\nfrom train import a, b as c\nx = 1\n', "class",
         '"""Doc."""\nimport importlib\nimport os\n\n\na = importlib.import_module("class").a\n'
         'c = importlib.import_module("class").b\nx = 1\n'),
        ("def f():\n    import train as t\n", "f-t",
         'import importlib\ndef f():\n    t = importlib.import_module("f-t")\n'),
    ],
)  # fmt: skip
def test_a_program_is_imported_by_its_new_name(code, new, expected):
    """Each way to import the program leads to the new one, under the names that the code knows."""
    assert copied.imports_renamed(code, "train", new) == expected


@pytest.mark.parametrize(
    "code", ["from train import *\n", "import os, train\n", "def f():\n    from train import a, b\n"]
)
def test_an_import_without_a_like_is_refused(clone, tree, code):
    """Where a name that is none of Python's cannot be imported in the same way, one sentence says so."""
    (clone / "stages/train/helper.py").write_text(code)
    before = tree()
    with pytest.raises(UserError, match=r"stages/train/helper.py has '.*train.*', which cannot import .* called f-t;"):
        new_stage.add(clone, "f-t", "preprocess", "train")
    assert tree() == before


def test_messages_name_the_new_section():
    """Texts that name a parameter by its section name the new section; code does not."""
    code = 'x = train.seed\ny = f"{{é}} train.seed {train.seed} is; my-train.seed"\nz = """\ntrain.seed\ntrain.fit"""\n'
    new = 'x = train.seed\ny = f"{{é}} fit.seed {train.seed} is; my-train.seed"\nz = """\nfit.seed\ntrain.fit"""\n'
    assert copied.sections_renamed(code, "train", "fit", ["seed", "depth"]) == new


def test_the_stages_here_can_be_copied():
    """Each stage of this repository has a copy that is Python, and imports its program by the new name."""
    params = (ROOT / "params.yaml").read_text()
    for like in template.load(ROOT).stages.values():
        new = copied.copy_of(like, "fresh", like, "other", ROOT, params)
        for path, source in new.files.items():
            if path.endswith(".py"):
                ast.parse(source.data, path)
                assert f"\nimport {like.name}\n" not in source.data.decode()
