import contextlib
import getpass
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

import stagekit
import waiting
from stagekit import Args, BadInput


class CakeArgs(Args):
    out: Path
    eggs: Annotated[int, Field(ge=1, le=12)]
    sugar: Annotated[float, Field(gt=0, le=1)] = 0.5
    layers: Annotated[int, Field(ge=1)] | None = None
    topping: str = "none"
    iced: bool = False


def parse(*options: str) -> CakeArgs:
    return stagekit.parse(CakeArgs, ["--out", "cake.txt", *options])


# --- parse


def test_arguments_become_typed_values():
    """Each argument arrives as the type that its field says, and what is not given has its default."""
    assert parse("--eggs", "3", "--sugar", "0.25", "--layers", "2", "--topping", "cherry") == CakeArgs(
        out=Path("cake.txt"), eggs=3, sugar=0.25, layers=2, topping="cherry", iced=False
    )
    assert parse("--eggs", "3").sugar == 0.5


def test_none_is_null():
    """The text None, which DVC makes of a null in params.yaml, is null."""
    assert parse("--eggs", "3", "--layers", "None").layers is None


@pytest.mark.parametrize(("flags", "iced"), [(["--iced"], True), (["--no-iced"], False), ([], False)])
def test_bool_comes_as_a_flag(flags, iced):
    """A bool is true as --name and false as --no-name."""
    assert parse("--eggs", "3", *flags).iced is iced


@pytest.mark.parametrize("topping", ["", "None of it", "two words", "-x", "-1e-05"])
def test_text_arrives_as_it_stands(topping):
    """A text arrives as it was given."""
    assert parse("--eggs", "3", "--topping", topping).topping == topping


class ListArgs(Args):
    columns: list[str]


@pytest.mark.parametrize("columns", [["a"], ["a", "b c"], []])
def test_list_comes_as_its_items(columns):
    """A list is --name and its items, as DVC writes it."""
    assert stagekit.parse(ListArgs, ["--columns", *columns]).columns == columns


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], ["eggs", "missing"]),
        (["--eggs"], ["eggs"]),
        (["--eggs", "three"], ["eggs", "'three'", "integer"]),
        (["--eggs", "2.5"], ["eggs", "'2.5'", "integer"]),
        (["--eggs", "None"], ["eggs", "None", "integer"]),
        (["--eggs", "0"], ["eggs", "'0'", "greater than or equal to 1"]),
        (["--eggs", "13"], ["eggs", "'13'", "less than or equal to 12"]),
        (["--eggs", "3", "--sugar", "0"], ["sugar", "'0'", "greater than 0"]),
        (["--eggs", "3", "--sugar", "nan"], ["sugar", "'nan'"]),
        (["--eggs", "3", "--sugar", "-0.5"], ["sugar", "'-0.5'", "greater than 0"]),
        (["--eggs", "3", "--sugar", "-1e-05"], ["sugar", "-1e-05"]),
        (["--eggs", "3", "--layers", "0"], ["layers", "'0'", "greater than or equal to 1"]),
        (["--eggs", "3", "--iced", "maybe"], ["iced", "maybe"]),
        (["--eggs", "3", "--flour", "1"], ["flour", "eggs, sugar, layers, topping, iced"]),
        (["--egg", "3"], ["egg", "eggs, sugar, layers, topping, iced"]),
        (["--eggs", "3", "flour"], ["eggs", "integer"]),
    ],
)
def test_wrong_arguments_are_bad_input(options, told):
    """An unknown argument, a missing one, a wrong type and a value out of range are refused in one line with a name."""
    with pytest.raises(BadInput) as error:
        parse(*options)
    assert "\n" not in str(error.value)
    assert [part for part in told if part not in str(error.value)] == []


@pytest.mark.parametrize(("variable", "name"), [("cake", "cake"), ("", "oven")])
def test_the_stage_is_named_by_its_image(variable, name):
    """Messages name the stage by the variable STAGE, which images set, or by its program's file."""
    program = "import sys; sys.argv[0] = '/app/oven.py'; import stagekit; print(stagekit.STAGE)"
    environ = os.environ | {"STAGE": variable, "PYTHONPATH": str(Path(stagekit.__file__).parent)}
    assert subprocess.check_output([sys.executable, "-c", program], env=environ, text=True) == f"{name}\n"


# --- run


def run(monkeypatch, main, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["cake.py", "--out", "cake.txt", *options])
    stagekit.run(main, CakeArgs)


def exit_of(monkeypatch, capsys, main, *options: str) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, main, *options)
    return end.value.code, capsys.readouterr().err


def test_a_stage_that_ends_well_exits_0(monkeypatch):
    """A stage that ends well gets its arguments and exits 0, by returning."""
    called = []
    run(monkeypatch, called.append, "--eggs", "3")
    assert [args.eggs for args in called] == [3]


@pytest.mark.parametrize(("told", "began"), [("\n", True), ("", False)], ids=["inputs there", "nobody there"])
def test_a_stage_that_is_started_early_waits(monkeypatch, capsys, told, began):
    """Where its container came before its inputs, a stage says that it waits; only a line of input lets it begin."""
    monkeypatch.setattr(sys, "argv", ["cake.py", "--out", "cake.txt", "--eggs", "3"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(told))
    monkeypatch.setenv(waiting.EARLY, "1")
    calls = []
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    try:
        stagekit.run(calls.append, CakeArgs, imports=["colorsys"])
    except SystemExit as end:
        assert not end.code
    assert bool(calls) == began
    assert capsys.readouterr().out == f"{waiting.WAITING}\n"
    assert "colorsys" in sys.modules


def test_bad_input_exits_2_with_one_line(monkeypatch, capsys):
    """A stage that raises BadInput exits 2 and says why in one line on stderr."""

    def main(args: CakeArgs) -> None:
        raise BadInput("the eggs are bad; expected good ones: buy new ones")

    code, said = exit_of(monkeypatch, capsys, main, "--eggs", "3")
    assert code == 2
    assert said.startswith("error: ") and said.endswith("the eggs are bad; expected good ones: buy new ones\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("options", [["--eggs", "none"], ["--eggs"], ["--eggs", "-1e3"], ["--eggs", "3", "--flour"]])
def test_wrong_arguments_exit_2_with_one_line(monkeypatch, capsys, options):
    """A stage that gets wrong arguments exits 2 with one line and does nothing."""
    called = []
    code, said = exit_of(monkeypatch, capsys, called.append, *options)
    assert (code, called) == (2, [])
    assert said.startswith("error: ") and said.count("\n") == 1


def test_full_disk_exits_2_with_one_line(monkeypatch, capsys):
    """A disk without space is said in one line that names the system's reason."""
    code, said = exit_of(monkeypatch, capsys, lambda args: Path("/dev/full").write_text("cake"), "--eggs", "3")
    assert code == 2
    assert "No space left on device" in said and said.count("\n") == 1


def test_a_file_that_was_not_declared_is_named(monkeypatch, capsys):
    """A stage that misses a file says in one line which, and that stages see only what they declare."""
    code, said = exit_of(monkeypatch, capsys, lambda args: Path("data/other.csv").read_text(), "--eggs", "3")
    assert code == 2
    assert "data/other.csv is not there; stages see only what they declare: add it to the inputs" in said
    assert said.count("\n") == 1


def write_nothing(args):
    with stagekit.writing(Path("/tmp/never")):
        pass


def write_into_no_folder(args):
    with stagekit.writing(Path("/tmp/never")) as part:
        (part / "cake.txt").write_text("cake")


@pytest.mark.parametrize(
    ("main", "crash"),
    [
        (lambda args: 1 / 0, ZeroDivisionError),
        (write_nothing, FileNotFoundError),
        (write_into_no_folder, FileNotFoundError),
    ],
)
def test_a_crash_stays_a_crash(monkeypatch, main, crash):
    """What is no bad input goes through with its traceback."""
    with pytest.raises(crash):
        run(monkeypatch, main, "--eggs", "3")


# --- metrics


def test_a_metric_is_one_line(capsys):
    """The values of a step are a line of name=value pairs that begins with ::metric, the step last."""
    stagekit.log_metric(step=12, loss=1 / 3, accuracy=1)
    stagekit.log_metric(step=13, loss=1e-9, accuracy=math.nan)
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"::metric loss={1 / 3} accuracy=1.0 step=12"
    assert second == "::metric loss=1e-09 accuracy=nan step=13"


# --- files


def files(folder: Path) -> dict[str, str]:
    """The files below `folder` and what they hold; a folder without files is one of its own."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_text()
        elif not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = ""
    return found


def test_writing_puts_the_file_in_place(tmp_path):
    """What is written lands under its own name, in a folder that is made if need be, and nothing else stays."""
    path = tmp_path / "new" / "cake.txt"
    with stagekit.writing(path) as part:
        part.write_text("cake")
        assert not path.exists()
    assert files(path.parent) == {"cake.txt": "cake"}


def bake(folder: Path, **layers: str) -> None:
    """Makes a folder with a file for each layer, one of them deeper."""
    (folder / "deep").mkdir(parents=True)
    for name, text in layers.items():
        (folder / name).write_text(text)
    (folder / "deep" / "layer").write_text("dough")


def test_writing_puts_a_folder_in_place(tmp_path):
    """What is written as a folder lands under its own name with all that is in it, and nothing else stays."""
    with stagekit.writing(tmp_path / "cake") as part:
        bake(part, top="cherry")
        assert not (tmp_path / "cake").exists()
    assert files(tmp_path) == {"cake/top": "cherry", "cake/deep/layer": "dough"}


@pytest.fixture
def folder(tmp_path):
    """An output folder, with a folder beside it that links lead to, which is never touched."""
    bake(tmp_path / "elsewhere", kept="kept")
    (tmp_path / "elsewhere").chmod(0o500)
    (tmp_path / "out").mkdir()
    yield tmp_path / "out"
    assert files(tmp_path / "elsewhere") == {"kept": "kept", "deep/layer": "dough"}
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o500


def make(path: Path, kind: str) -> None:
    """Makes something at `path` that is in the way."""
    if kind == "file":
        path.write_text("old")
    elif kind == "read-only file":
        path.write_text("old")
        path.chmod(0o400)
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "link to a folder":
        path.symlink_to("../elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty folder":
        path.mkdir()
    else:
        bake(path, old="crumbs")
        (path / "link").symlink_to("../../elsewhere")
        (path / "old").chmod(0o400)
        if kind == "sealed folder":
            for each in (path / "deep", path):
                each.chmod(0)


KINDS = ["file", "read-only file", "link", "link to a folder", "pipe", "empty folder", "folder", "sealed folder"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["part", "old.part"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_killed_run_left_is_in_nobodys_way(folder, kind, end, fails):
    """Whatever a killed run left beside, half written and of any mode, is deleted, and what it links to is not."""
    make(folder / f".cake.{end}", kind)
    with contextlib.suppress(ValueError), stagekit.writing(folder / "cake") as part:
        assert not os.path.lexists(part)
        part.write_text("cake")
        if fails:
            raise ValueError
    assert files(folder) == ({} if fails else {"cake": "cake"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("new", ["file", "folder"])
def test_writing_replaces_what_was_there(folder, kind, new):
    """A new file or folder takes the place of an old one whole: nothing of the old stays in it."""
    make(folder / "cake", kind)
    with stagekit.writing(folder / "cake") as part:
        part.write_text("new") if new == "file" else bake(part, top="new")
    assert files(folder) == ({"cake": "new"} if new == "file" else {"cake/top": "new", "cake/deep/layer": "dough"})


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder", "sealed folder"])
def test_writing_that_fails_leaves_all_as_it_was(folder, interruption, old, new):
    """A write that is broken off leaves nothing new, and what was there before untouched."""
    if old:
        make(folder / "cake", old)
    before = files(folder)
    with pytest.raises(interruption), stagekit.writing(folder / "cake") as part:
        make(part, new)
        raise interruption
    assert files(folder) == before
    assert [path.name for path in folder.iterdir()] == (["cake"] if old else [])


@pytest.mark.parametrize("old", ["file", "folder"])
def test_writing_nothing_keeps_what_was_there(folder, old):
    """A block that writes nothing is an error, not nothing in place of the old file or folder."""
    make(folder / "cake", old)
    before = files(folder)
    with pytest.raises(FileNotFoundError), stagekit.writing(folder / "cake"):
        pass
    assert files(folder) == before


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 / 3, "0.333333"),
        (2 / 3, "0.666667"),
        (1e-9, "0.0"),
        (-1e-9, "0.0"),  # as 1e-9: the two differ by less than what is kept
        (150, "150"),
        (True, "true"),
        (None, "null"),
        ("0.123456789", '"0.123456789"'),
        ({"b": [0.1234567], "a": (0.1234561, 2)}, '{"b": [0.123457], "a": [0.123456, 2]}'),
    ],
)
def test_rounded_keeps_six_decimals(value, expected):
    """Numbers that agree to 6 decimals are written alike, however deep they lie, and all else stays as it is."""
    assert json.dumps(stagekit.rounded(value)) == expected


def test_write_json_writes_what_json_reads(tmp_path):
    """The file holds the value rounded, in the order of its keys, and ends in a newline."""
    stagekit.write_json(tmp_path / "cake.json", {"b": 0.12345678, "a": None})
    text = (tmp_path / "cake.json").read_text()
    assert list(json.loads(text).items()) == [("b", 0.123457), ("a", None)]
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_write_json_refuses_what_json_has_no_word_for(tmp_path, value):
    """A number that JSON cannot express is an error and leaves no file."""
    with pytest.raises(ValueError):
        stagekit.write_json(tmp_path / "cake.json", {"a": value})
    assert files(tmp_path) == {}


def test_sha256_is_that_of_the_content(tmp_path):
    """The digest is the published SHA-256 of the file's bytes."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert (
        stagekit.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # the example of FIPS 180-4


def test_a_user_has_a_name_whatever_its_number():
    """Libraries that ask for the user's name at import get one, though no system knows the number that a stage has."""
    assert getpass.getuser() == "stage"
