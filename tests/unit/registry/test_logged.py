"""A model's run gets what the stages that led to it used and left: each thing once, and nothing else."""

import json
import math
import os
import re
from pathlib import Path

import pytest

from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import UserError
from scripts.registry import logged
from scripts.registry.gate import Gate

MODEL = Model(
    "m", "models/m.bin", "metrics/m.json", "train", "evaluate", "e", Gate("accuracy"), rows="metrics/rows.csv"
)
PNG = b"\x89PNG\r\n"


def stages(**changes):
    """Return four stages in a row, and one beside them, `report`; `changes` replace fields of a stage by name."""
    fields = {
        "ingest": {"outputs": {"out": "data/raw/x.csv"}},
        "train": {
            "inputs": {"data": "data/raw/x.csv"},
            "outputs": {"model": "models/m.bin"},
            "plots": {"curve": "models/curve.csv"},
            "section": {"seed": 1, "layers": {"width": 8, "depth": None}, "names": ["a", "b"]},
        },
        "evaluate": {
            "inputs": {"model": "models/m.bin", "data": "data/raw/x.csv"},
            "outputs": {"rows": "metrics/rows.csv"},
            "metrics": {"metrics": "metrics/m.json"},
            "plots": {"roc": "metrics/roc.csv"},
            "section": {"seed": 2, "repeats": 3},
        },
        "report": {
            "inputs": {"metrics": "metrics/m.json"},
            "metrics": {"report": "report/r.json"},
            "section": {"repeats": 9, "color": "red"},
        },
    }
    return {name: Stage(name, f"stages/{name}:1", **known | changes.get(name, {})) for name, known in fields.items()}


def pipeline(plots=(), **changes):
    return Pipeline("", stages(**changes), (MODEL,), {}, plots)


@pytest.fixture
def root(tmp_path):
    """A project whose stages have run."""
    write(tmp_path, "models/m.bin", "weights")
    write(tmp_path, "models/curve.csv", "step,loss\n0,0.5\n1,0.25\n")
    write(tmp_path, "metrics/m.json", json.dumps({"rows": 30, "accuracy": 0.9, "per_class": {"a": {"f1": 0.5}}}))
    write(tmp_path, "metrics/rows.csv", "id,score\nx,1\ny,0\n")
    write(tmp_path, "metrics/roc.csv", "fpr,tpr\n0,0\n0.5,1\n")
    write(tmp_path, "report/r.json", '{"pages": 3}')
    return tmp_path


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# --- parameters


def test_parameters_of_all_stages_that_led_to_the_model():
    """The run has the parameters of the scorer and its ancestors, a nested one by its path, None as text."""
    assert logged.params_of(pipeline(), MODEL) == {
        "train.seed": "1",
        "layers.width": "8",
        "layers.depth": "None",
        "names": "['a', 'b']",
        "evaluate.seed": "2",
        "repeats": "3",
    }


def test_a_name_of_one_stage_stays_as_it_is():
    """Only a name that two of the model's stages use gets the stage's name in front; another model's do not count."""
    found = logged.params_of(pipeline(evaluate={"section": None}), MODEL)
    assert found["seed"] == "1"
    assert "color" not in found


# --- metrics


def test_numbers_of_all_metrics_files_once(root):
    """Each number of the metrics files is there once, a nested one by its path; texts, lists and booleans are not."""
    write(root, "metrics/m.json", '{"a": 1, "b": {"c": 0.5, "d": {"e": -2}}, "t": "x", "l": [1, 2], "y": true}')
    found = logged.collect(pipeline(), MODEL, root)
    assert found.metrics == {"a": 1.0, "b.c": 0.5, "b.d.e": -2.0}


def test_two_stages_metrics_of_one_name(root):
    """A metric that two stages have gets the stage's name in front: none hides the other."""
    write(root, "models/t.json", '{"accuracy": 1.0, "loss": 0.1}')
    found = logged.collect(pipeline(train={"metrics": {"own": "models/t.json"}, "plots": {}}), MODEL, root)
    assert found.metrics == {
        "train.accuracy": 1.0,
        "loss": 0.1,
        "rows": 30.0,
        "evaluate.accuracy": 0.9,
        "per_class.a.f1": 0.5,
    }


def test_the_same_name_in_two_files_of_a_stage(root):
    """Of two files of one stage with the same name, the later one's gets the file's name in front."""
    write(root, "metrics/more.json", '{"accuracy": 0.1}')
    metrics = {"metrics": "metrics/m.json", "more": "metrics/more.json"}
    found = logged.collect(pipeline(evaluate={"metrics": metrics}), MODEL, root)
    assert (found.metrics["accuracy"], found.metrics["more.accuracy"]) == (0.9, 0.1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", '{"a": {"b": 0.5}, "n": 3}'),
        ("m.yaml", "a: {b: 0.5}\nn: 3\n"),
        ("m.toml", "n = 3\n[a]\nb = 0.5\n"),
        ("m", "a:\n  b: 0.5\nn: 3\n"),
    ],
)
def test_metrics_files_of_dvcs_kinds(tmp_path, name, text):
    """JSON, YAML and TOML are read by the suffix; without one, as YAML, as DVC does."""
    write(tmp_path, name, text)
    assert logged.read_metrics(tmp_path / name) == {"a.b": 0.5, "n": 3.0}


def test_numbers_that_are_not_finite_are_numbers(tmp_path):
    """NaN, infinity and what is beyond all floats come through: the gate says what it thinks of them."""
    write(tmp_path, "m.json", f'{{"a": NaN, "b": -Infinity, "c": 1{"0" * 400}, "d": 1e999}}')
    found = logged.read_metrics(tmp_path / "m.json")
    assert math.isnan(found["a"])
    assert (found["b"], found["c"], found["d"]) == (-math.inf, math.inf, math.inf)


def test_control_characters_in_names(tmp_path):
    """A name cannot move a terminal's cursor."""
    write(tmp_path, "m.json", json.dumps({"\x1b[2Ja\n": 1}))
    assert logged.read_metrics(tmp_path / "m.json") == {"?[2Ja?": 1.0}


def test_a_key_twice(tmp_path):
    """Of a key that is there twice the later value counts, as DVC has it."""
    write(tmp_path, "m.json", '{"a": 1, "a": 2}')
    assert logged.read_metrics(tmp_path / "m.json") == {"a": 2.0}


DEEP = '{"a":' * 30 + "1" + "}" * 30
ALIASES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{p: *{old}, q: *{old}}}\n" for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.json", "{", "is no JSON (Expecting property name"),
        ("m.json", "[1, 2]", "holds a list; expected an object"),
        ("m.json", "0.5", "holds a float; expected an object"),
        ("m.json", "", "is no JSON"),
        ("m.yaml", "a: [", "is no YAML (while parsing"),
        ("m.yaml", "a: !!python/object:os.system x", "is no YAML (could not determine a constructor"),
        ("m.toml", "a = ", "is no TOML"),
        ("m.json", "[" * 100_000, "is no JSON (too deep)"),
        ("m.json", DEEP, "20 levels; expected no more"),
        ("m.yaml", "[" * 100_000, "is no YAML (too deep)"),
        ("m.yaml", "a: &a {b: *a}", "20 levels; expected no more"),
        ("m.yaml", ALIASES, "more than 1000 numbers"),
        ("m.json", json.dumps({str(n): n for n in range(1001)}), "more than 1000 numbers"),
        ("m.json", f'{{"a": {"9" * 5000}}}', "is no JSON (Exceeds the limit"),
        ("m.json", " " * 10_000_001, "has 10000001 bytes; expected at most 10000000"),
        ("m.json", "\ud800", "is not UTF-8 at byte 0"),
    ],
)
def test_a_metrics_file_that_is_refused(tmp_path, name, text, told):
    """What is no object of numbers, or too large a one, is one sentence: the file, what was found and expected."""
    (tmp_path / name).write_text(text, errors="surrogatepass")
    with pytest.raises(UserError) as error:
        logged.read_metrics(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name} ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def link(path):
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize(("make", "kind"), [(link, "a symbolic link"), (Path.mkdir, "a folder"), (os.mkfifo, "a pipe")])
def test_what_is_no_regular_file(tmp_path, make, kind):
    """Links are not followed, pipes not waited for."""
    make(tmp_path / "m.json")
    with pytest.raises(UserError, match=f"m.json is {kind}; expected a regular file"):
        logged.read_metrics(tmp_path / "m.json")
    with pytest.raises(UserError, match=f"m.json is {kind}; expected a regular file"):
        logged.read_rows(tmp_path / "m.json")


def test_a_file_that_is_refused_is_left_out(root, capsys):
    """A refused file does not keep the rest from being logged; a line says which one it was."""
    (root / "metrics/roc.csv").unlink()
    (root / "metrics/roc.csv").symlink_to("/etc/passwd")
    write(root, "models/curve.csv", "step,loss\n0\n")
    found = logged.collect(pipeline(), MODEL, root)
    assert found.metrics["accuracy"] == 0.9
    assert found.steps == []
    assert sorted(found.artifacts) == ["evaluation/curve.csv", "evaluation/m.json", "evaluation/rows.csv"]
    printed = capsys.readouterr().out.splitlines()
    assert [re.sub(r"/\S*/", "", line) for line in printed] == [
        "not logged: curve.csv, row 1, has 1 cells; expected 2, as its header",
        "not logged: roc.csv is a symbolic link; expected a regular file: let its stage write one",
    ]


def test_a_file_that_is_missing_is_an_error(root):
    """A file that is not there is no refusal: the run would lack it for good."""
    (root / "metrics/roc.csv").unlink()
    with pytest.raises(UserError, match=r"metrics/roc\.csv cannot be read \(No such file"):
        logged.collect(pipeline(), MODEL, root)


# --- rows


def test_scores_of_rows(tmp_path):
    """The column `score` is read as numbers, in the order of the rows, whatever else is there."""
    write(tmp_path, "rows.csv", 'id,score\n"a, b",1\nb,0.25\nc,-1e-3\nd,nan\n')
    *scores, last = logged.read_rows(tmp_path / "rows.csv")
    assert scores == [1.0, 0.25, -0.001]
    assert math.isnan(last)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty; expected a table with a header"),
        ("a,b\n1,2\n", "has the columns a, b; expected one named score"),
        ("score\n1\nmuch\n", "row 2, has the score 'much'; expected a number"),
        ("score\n5_1\n", "row 1, has the score '5_1'; expected a number"),
        ("score\n0x1f\n", "row 1, has the score '0x1f'; expected a number"),
        ("id,score\nx,\n", "row 1, has the score ''; expected a number"),
        ("id,score\nx,1,2\n", "row 1, has 3 cells; expected 2, as its header"),
        ("score\n" + "1\n" * 100_001, "more than 100000 rows"),
        (",".join(["score"] * 1001), "or 1000 columns; expected no more"),
        (f'score\n"{"1" * 200_000}"\n', "field larger than field limit"),
    ],
)
def test_rows_that_are_refused(tmp_path, text, told):
    """What is no table with a column of numbers is one sentence."""
    write(tmp_path, "rows.csv", text)
    with pytest.raises(UserError) as error:
        logged.read_rows(tmp_path / "rows.csv")
    assert told in str(error.value)


# --- curves


def test_columns_beside_a_step_are_curves(root):
    """Each numeric column of a plots file with a column `step` is a curve; an empty cell is no point."""
    write(root, "models/curve.csv", "step,loss,note,lr\n0,0.5,a,1e-3\n2,,b,2e-3\n4.0,0.25,c,nan\n")
    steps = logged.collect(pipeline(), MODEL, root).steps
    assert steps[:4] == [("loss", 0, 0.5), ("loss", 4, 0.25), ("lr", 0, 0.001), ("lr", 2, 0.002)]
    assert [name for name, _, _ in steps[4:]] == ["lr"]
    assert math.isnan(steps[4][2])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("curve.tsv", "step\tloss\n0\t0.5\n1\t0.25\n"),
        ("curve.json", '[{"step": 0, "loss": 0.5}, {"step": 1, "loss": 0.25, "more": "x"}]'),
        ("curve.json", '{"train": {"curve": [{"step": 0, "loss": 0.5}, {"step": 1, "loss": 0.25}]}}'),
        ("curve.yaml", "- {step: 0, loss: 0.5}\n- {step: 1, loss: 0.25}\n"),
    ],
)
def test_tables_of_dvcs_kinds(root, name, text):
    """TSV, and lists of objects in JSON and YAML, are tables as CSV is."""
    write(root, f"models/{name}", text)
    found = logged.collect(pipeline(train={"plots": {"curve": f"models/{name}"}}), MODEL, root)
    assert found.steps == [("loss", 0, 0.5), ("loss", 1, 0.25)]


@pytest.mark.parametrize("steps", ["-1", "0.5", "a", "", "nan", "1e30"])
def test_steps_that_are_no_whole_numbers(root, capsys, steps):
    """A column `step` of anything but whole numbers from 0 makes no curve, and that is said."""
    write(root, "models/curve.csv", f"step,loss\n0,1\n{steps},2\n")
    assert logged.collect(pipeline(), MODEL, root).steps == []
    assert "models/curve.csv has a step that is no whole number from 0" in capsys.readouterr().out


def test_a_curve_and_a_metric_of_one_name(root):
    """A curve and a metric of one name get their stages' names in front; within a stage, the curve gets its file's."""
    write(root, "models/curve.csv", "step,accuracy\n0,0.5\n")
    found = logged.collect(pipeline(), MODEL, root)
    assert (found.metrics["evaluate.accuracy"], found.steps) == (0.9, [("train.accuracy", 0, 0.5)])
    write(root, "metrics/roc.csv", "step,rows\n3,4\n")
    assert logged.collect(pipeline(), MODEL, root).steps[1:] == [("roc.rows", 3, 4.0)]


def test_long_curves_are_thinned(root):
    """A run gets at most about 100,000 points, and of each curve the last one."""
    lines = "".join(f"{step},{step},{-step}\n" for step in range(100_000))
    write(root, "models/curve.csv", f"step,a,b\n{lines}")
    steps = logged.collect(pipeline(), MODEL, root).steps
    assert len(steps) == 100_000
    assert [point for point in steps if point[1] == 99_999] == [("a", 99_999, 99_999.0), ("b", 99_999, -99_999.0)]


# --- files and pictures


def test_files_and_pictures_of_the_models_stages(root):
    """The run has the metrics files, the plots' tables, the rows, and a picture of each plot of dvc.yaml, drawn."""
    write(root, "report/r.csv", "a,b\n1,2\n")
    plots = [{"metrics/roc.csv": {"x": "fpr", "y": "tpr"}}, "models/curve.csv", "report/r.csv"]
    found = logged.collect(pipeline(plots, report={"plots": {"table": "report/r.csv"}}), MODEL, root).artifacts
    files = {"curve.csv": "models", "m.json": "metrics", "roc.csv": "metrics", "rows.csv": "metrics"}
    assert {name: path for name, path in found.items() if isinstance(path, Path)} == {
        f"evaluation/{name}": root / folder / name for name, folder in files.items()
    }
    pictures = {name: data[:6] for name, data in found.items() if isinstance(data, bytes)}
    assert pictures == {"evaluation/roc.png": PNG, "evaluation/curve.png": PNG}


def test_two_stages_files_of_one_name(root):
    """Files of one name of two stages, and their pictures, lie in folders with the stages' names."""
    write(root, "models/roc.csv", "x,y\n0,1\n")
    plots = ["metrics/roc.csv", "models/roc.csv"]
    found = logged.collect(pipeline(plots, train={"plots": {"roc": "models/roc.csv"}}), MODEL, root).artifacts
    names = [f"evaluation/{stage}/roc.{kind}" for stage in ("evaluate", "train") for kind in ("csv", "png")]
    assert sorted(name for name in found if "roc" in name) == names


def test_pictures_hide_nothing(root):
    """A picture never takes the name of a file or of another picture."""
    write(root, "metrics/roc.png", "the stage's own")
    plots = [
        {"metrics/roc.csv": {"y": "tpr"}},
        {"metrics/roc.csv": {"y": "fpr"}},
        {"a/b: c": {"y": {"metrics/roc.csv": "tpr"}}},
    ]
    own = {"roc": "metrics/roc.csv", "drawn": "metrics/roc.png"}
    found = logged.collect(pipeline(plots, evaluate={"plots": own}), MODEL, root).artifacts
    assert found["evaluation/roc.png"] == root / "metrics/roc.png"
    pictures = [name for name, data in found.items() if isinstance(data, bytes)]
    assert pictures == ["evaluation/roc.csv.png", "evaluation/roc.csv-2.png", "evaluation/a_b_ c.png"]


def test_a_folder_of_plots(root):
    """Of a folder all files are logged, and its tables read; a link in it is not followed."""
    write(root, "models/curves/train/loss.tsv", "step\tloss\n0\t1\n")
    write(root, "models/curves/valid/loss.tsv", "step\tloss\n0\t2\n")
    write(root, "models/curves/odd\nname.csv", "a\n1\n")
    (root / "models/curves/passwd.csv").symlink_to("/etc/passwd")
    plots = ["models/curves"]
    found = logged.collect(pipeline(plots, train={"plots": {"curves": "models/curves"}}), MODEL, root)
    assert found.steps == [("loss", 0, 1.0), ("valid.loss", 0, 2.0)]
    names = [f"evaluation/curves/{part}/loss.{kind}" for part in ("train", "valid") for kind in ("png", "tsv")]
    assert sorted(name for name in found.artifacts if "curves" in name) == names
    (root / "models/curves/etc").symlink_to("/etc")
    assert logged.collect(pipeline(train={"plots": {"curves": "models/curves"}}), MODEL, root).steps == []


def test_too_many_files(root, capsys):
    """A folder of more than 1,000 plots is left out, and that is said."""
    for number in range(1001):
        write(root, f"models/curves/{number}.csv", "a\n1\n")
    found = logged.collect(pipeline(train={"plots": {"curves": "models/curves"}}), MODEL, root)
    assert not any("curves" in name for name in found.artifacts)
    assert "models/curves has 1001 files; expected at most 1000" in capsys.readouterr().out
