"""A model's run gets what the stages that led to it used and left: each thing once, and nothing else."""

import json
import math
import os
import re
import subprocess
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
    """The run has the parameters of the scorer and its ancestors, a nested one by its path, values as YAML has them."""
    assert logged.params_of(pipeline(), MODEL) == {
        "train.seed": "1",
        "layers.width": "8",
        "layers.depth": "null",
        "names": '["a", "b"]',
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


SHOWN_BY_DVC = {
    "number.json": "0.93",
    "number.yaml": "1e-3\n",
    "number": ".5",
    "whole.json": "3",
    "list.json": "[0.1, 0.2]",
    "lists.json": '{"a": [[1, 2], [3]], "b": {"c": [0.5], "d": 1}}',
    "texts.json": '{"a": "0.93", "b": true, "c": null, "d": 1}',
    "float.yaml": "a: 1e-3\nb: 1.5E3\nc: -2e+10\nd: 1.0e-3\ne: .5\nf: 1_000.5\ng: +1\n",
    "whole.yaml": "a: 017\nb: 0o17\nc: 0x1f\nd: 0b11\ne: 1_000\nf: -3\n",
    "no-numbers.yaml": "a: 12:30\nb: yes\nc: 190:20:30.15\nd: '1'\ne: 2026-01-01\nf: off\ng: 1\n",
    "alias.yaml": "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n",
    "t.toml": "a = 1e-3\nb = true\nc = 2026-01-01\n[d]\ne = 0x1f\n",
    "table.csv": "a,b\n1,2\n",
    "table.tsv": "a\tb\n1\t2\n",
    "empty.yaml": "",
}


def test_all_numbers_that_dvc_shows_are_logged(tmp_path):
    """Of files of all kinds the numbers are those of `dvc metrics show`, by name; a number alone has the file's."""
    for name, text in SHOWN_BY_DVC.items():
        write(tmp_path, name, text)
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    command = ["dvc", "metrics", "show", "--json", *SHOWN_BY_DVC]
    shown = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)

    def numbers(value, name):
        if isinstance(value, dict):
            return {key: n for inner in value for key, n in numbers(value[inner], f"{name}.{inner}".strip(".")).items()}
        return {name: value} if isinstance(value, int | float) and not isinstance(value, bool) else {}

    for name, found in shown[""]["data"].items():
        data = found.get("data")
        expected = numbers(data, "" if isinstance(data, dict) else Path(name).stem)
        try:
            assert logged.read_metrics(tmp_path / name) == expected, name
        except UserError:
            assert expected == {}, name


def test_what_else_dvc_shows_is_left_out_in_a_line(root, capsys):
    """Texts and Booleans are in no run; a line says which they are, of very many the first. Lists DVC does not show."""
    others = {"model": "a forest", "sure": True, "folds": [0.1, 0.2], "none": None, "deep": {"\x1b[2J": "x"}}
    write(root, "metrics/m.json", json.dumps({"accuracy": 0.9} | others))
    assert logged.collect(pipeline(), MODEL, root).metrics == {"accuracy": 0.9}
    (line,) = capsys.readouterr().out.splitlines()
    told = "model (a text), sure (true or false), deep.?[2J (a text) of "
    assert line.startswith(f"not logged: {told}") and line.endswith("metrics/m.json; expected numbers")
    write(root, "metrics/m.json", json.dumps({f"t{n}": "x" for n in range(50)}))
    assert logged.collect(pipeline(), MODEL, root).metrics == {}
    assert "t4 (a text) and 45 more of " in capsys.readouterr().out


def test_a_file_of_one_number_is_a_metric_of_its_name(root):
    """A metrics file that holds nothing but a number is the metric that its name says; beside one of that name, with
    its folder's in front.
    """
    write(root, "metrics/f1.json", "0.93")
    write(root, "metrics/accuracy.yaml", "7e-1\n")
    metrics = {"metrics": "metrics/m.json", "f1": "metrics/f1.json", "more": "metrics/accuracy.yaml"}
    found = logged.collect(pipeline(evaluate={"metrics": metrics}), MODEL, root).metrics
    assert (found["f1"], found["accuracy"], found["metrics.accuracy"]) == (0.93, 0.9, 0.7)


def test_a_folder_of_metrics(root):
    """Of a folder that a stage lists under metrics each file counts, as DVC has it."""
    write(root, "metrics/all/a.json", '{"f1": 0.5}')
    write(root, "metrics/all/deep/b.yaml", "recall: 5e-1\n")
    metrics = {"metrics": "metrics/m.json", "all": "metrics/all"}
    found = logged.collect(pipeline(evaluate={"metrics": metrics}), MODEL, root)
    assert (found.metrics["f1"], found.metrics["recall"]) == (0.5, 0.5)
    assert {"evaluation/all/a.json", "evaluation/all/deep/b.yaml"} <= {*found.artifacts}


# --- names that MLflow does not take


def test_names_that_mlflow_refuses_are_said(root, capsys):
    """Metrics, curves and parameters are logged by names that MLflow takes, none merged; a line says which they are."""
    write(root, "metrics/m.json", json.dumps({"f1@0.5": 0.1, "f1:0.5": 0.2, "a%b": 0.3, "../up": 0.4, "fine": 0.5}))
    write(root, "models/curve.csv", "step,f1?0.5,loss\n0,0.7,0.9\n")
    section = {"lr@warmup": 0.1, "lr:warmup": 0.2, "seed": 1}
    found = logged.collect(pipeline(train={"section": section}), MODEL, root)
    assert found.steps == [("f1_0.5", 0, 0.7), ("loss", 0, 0.9)]
    assert found.metrics == {"f1_0.5_2": 0.1, "f1_0.5_3": 0.2, "a_b": 0.3, "_/up": 0.4, "fine": 0.5}
    assert (found.params["lr_warmup"], found.params["lr_warmup_2"]) == ("0.1", "0.2")
    assert capsys.readouterr().out == (
        "note: in MLflow lr@warmup is lr_warmup, lr:warmup is lr_warmup_2, f1?0.5 is f1_0.5, f1@0.5 is f1_0.5_2, "
        "f1:0.5 is f1_0.5_3 and 2 more: names there have letters, digits, spaces and ._-/ alone\n"
    )


def test_names_that_are_too_long_stay_apart(root):
    """Names that differ only beyond what MLflow takes are two metrics, and two parameters."""
    long = "n" * 250
    write(root, "metrics/m.json", json.dumps({f"{long}a": 0.1, f"{long}b": 0.2}))
    found = logged.collect(pipeline(train={"section": {f"{long}a": 1, f"{long}b": 2}}), MODEL, root)
    assert [*found.metrics.values()] == [0.1, 0.2] and max(map(len, found.metrics)) <= 250
    assert {"1", "2"} <= {*found.params.values()} and max(map(len, found.params)) <= 250


def test_values_that_are_too_long_are_said(root, capsys):
    """A parameter whose value MLflow would cut is said, with where all of it is."""
    logged.collect(pipeline(train={"section": {"names": "x" * 501, "seed": 1}}), MODEL, root)
    logged.collect(pipeline(train={"section": {"names": "x" * 500, "seed": 1}}), MODEL, root)
    assert capsys.readouterr().out == (
        "note: in MLflow the parameter names ends at 500 characters: pipeline/params.yaml of its run has all of it\n"
    )


@pytest.mark.parametrize("place", ["models/curves/a:b/loss.csv", "models/curves/a#b/loss.csv", "models/curves/%41.csv"])
def test_a_file_in_a_folder_with_a_name_that_servers_change(root, capsys, place):
    """A file below a folder of plots is left out if its path would not arrive as it is, and that is said."""
    write(root, place, "step,loss\n0,1\n")
    write(root, "models/curves/good.csv", "step,loss\n0,1\n")
    found = logged.collect(pipeline(train={"plots": {"curves": "models/curves"}}), MODEL, root)
    assert [name for name in found.artifacts if "curves" in name] == ["evaluation/curves/good.csv"]
    assert f"{place} has a name that a server may not take; expected letters" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["\u00e9" * 300, "x" * 300, "\U0001d4b3" * 100, "", ".", ".."], ids=range(6))
def test_a_picture_of_a_plot_with_an_odd_name(root, name):
    """A plot may be called anything: its picture has a name that a file can have, with what else is put behind it."""
    plots = [{name: {"x": "fpr", "y": {"metrics/roc.csv": "tpr"}}}] * 2
    found = logged.collect(pipeline(plots), MODEL, root).artifacts
    pictures = [Path(name).name for name, data in found.items() if isinstance(data, bytes)]
    assert len(pictures) >= 2 and max(len(picture.encode()) for picture in pictures) <= 255


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
        ("m.json", "[0.1, 0.2]", "holds a list; expected a number, or an object"),
        ("m.json", "[[1], [2]]", "holds a list; expected a number, or an object"),
        ("m.json", '"0.93"', "holds a text; expected a number"),
        ("m.json", "null", "holds nothing; expected a number"),
        ("m.json", "true", "holds true or false; expected a number"),
        ("m.yaml", "", "holds nothing; expected a number"),
        ("m.yaml", "2026-01-01", "holds a date; expected a number"),
        ("m.csv", "a,b\n1,2\n", "holds a text; expected a number"),
        ("m.tsv", "a\tb\n1\t2\n", "holds a text; expected a number"),
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
        ("curve.yml", "- {step: 0, loss: 5e-1}\n- {step: 1, loss: 25e-2}\n"),
        ("curve.toml", "[[curve]]\nstep = 0\nloss = 0.5\n[[curve]]\nstep = 1\nloss = 25e-2\n"),
    ],
)
def test_tables_of_dvcs_kinds(root, name, text):
    """TSV, and lists of objects in JSON and YAML, are tables as CSV is."""
    write(root, f"models/{name}", text)
    found = logged.collect(pipeline(train={"plots": {"curve": f"models/{name}"}}), MODEL, root)
    assert found.steps == [("loss", 0, 0.5), ("loss", 1, 0.25)]


def test_a_table_in_aliases_of_aliases(root, capsys):
    """A few bytes of YAML that stand for more values than can be counted are looked through in no time."""
    wide = [f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(50))}}}\n" for n in range(1, 15)]
    write(root, "models/curve.yaml", "a0: &a0 [x]\n" + "".join(wide))
    found = logged.collect(pipeline(train={"plots": {"curve": "models/curve.yaml"}}), MODEL, root)
    assert found.steps == [] and "curve.yaml has no list of objects" in capsys.readouterr().out


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
