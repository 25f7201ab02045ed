"""The plan of the house: what may import what. Each failure names the file and what to do."""

import ast
import graphlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from scripts.project import ROOT

ROOMS = ("scripts", "tests", "benchmarks")
OF_DVC = {"dvc", "dvc_data", "dvc_objects"}
ADAPTER = "scripts/pipeline/dvc_adapter.py"
OF_THE_ADAPTER = (ADAPTER, "scripts/pipeline/dvc_faster.py")
OF_MODELS = {"sklearn", "skops", "pandas"}
"""Libraries with which one looks into a model or its data: a stage's, never the machinery's."""
STAGES_OF_THE_EXAMPLE = {"ingest", "preprocess", "train", "evaluate"}
NAMED = re.compile(rf"\bstages[./]({'|'.join(sorted(STAGES_OF_THE_EXAMPLE))})\b")


class Import(NamedTuple):
    """A name that a file imports, as `package.module.name`; `level` is "module" or "function"."""

    file: str
    line: int
    name: str
    level: str

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, imports {self.name}"


def files(*rooms: str) -> list[Path]:
    """Return the Python files of these rooms, but those that run in an image of their own."""
    found = sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))
    return [path for path in found if not _is_an_images(path)]


def _is_an_images(path: Path) -> bool:
    """Return whether a file is a stage's of a test's own project, or a Dockerfile beside it or above copies it."""
    if "stages" in path.relative_to(ROOT).parts:
        return True
    for folder in path.parents[: -len(ROOT.parts)]:
        lines = [line for file in folder.glob("Dockerfile*") for line in file.read_text().splitlines()]
        copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
        if any(fnmatchcase(str(path.relative_to(folder)), word) for word in copied):
            return True
    return False


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[Import]:
    """Yield what a file imports, but what it imports for a type checker alone."""
    file = str(path.relative_to(ROOT))
    todo = [(node, "module") for node in parsed(path).body]
    while todo:
        node, level = todo.pop()
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name, level) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(file, node.lineno, f"{node.module}.{alias.name}", level) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo += [(child, level) for child in node.orelse]
        else:
            inner = "function" if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else level
            todo += [(child, inner) for child in ast.iter_child_nodes(node)]


def all_imports(*rooms: str) -> list[Import]:
    return [each for path in files(*rooms) for each in imports(path)]


def listed(lines: Iterable[object], what_to_do: str) -> str:
    """Return a sentence a line, for a test that fails."""
    return "\n" + "\n".join(f"{line}: {what_to_do}" for line in lines)


# --- who imports whom


def test_dvc_is_imported_in_one_place():
    """All that is used of DVC stands in the adapter, so that a new DVC is nobody else's concern."""
    wrong = [each for each in all_imports(*ROOMS) if each.package in OF_DVC and each.file not in OF_THE_ADAPTER]
    assert not wrong, listed(wrong, f"use a function of {ADAPTER}, or add one")


def test_nothing_imports_a_verb():
    """A verb is called by its name alone; what two verbs share is a module of another room."""
    wrong = [each for each in all_imports("scripts", "benchmarks") if f"{each.name}.".startswith("scripts.verbs.")]
    assert not wrong, listed(wrong, "move what both need out of scripts/verbs/")


def test_the_core_knows_no_optional_room():
    """A room with targets of its own can be deleted: nothing of scripts/ outside of it imports it."""
    optional = {f"scripts.{path.parent.name}" for path in (ROOT / "scripts").glob("*/targets.mk")}
    wrong = [
        each
        for each in all_imports("scripts", "benchmarks")
        for room in optional
        if f"{each.name}.".startswith(f"{room}.") and not each.file.startswith(f"{room.replace('.', '/')}/")
    ]
    assert not wrong, listed(wrong, "move what the core needs out of the room")


def test_a_setting_has_one_owner():
    """A room's setting is hidden from all other verbs, so none has the name of the core's or of another room's."""
    owners: dict[str, list[str]] = {}
    for path in (ROOT / ".env.example", *sorted(ROOT.glob("scripts/*/env.example"))):
        for name in re.findall(r"^([A-Z][A-Z0-9_]*)=", path.read_text(), re.M):
            owners.setdefault(name, []).append(str(path.relative_to(ROOT)))
    wrong = [f"{name} is in {' and '.join(found)}" for name, found in owners.items() if len(found) > 1]
    assert not wrong, listed(wrong, "leave it in one of them")


def modules_of_stages() -> set[str]:
    """Return the names by which code of stages/ could be imported: `stages`, and what the base puts on the path."""
    base = {path.stem for path in (ROOT / "stages" / "base").glob("*.py")}
    return {"stages", "stagekit", "skops_model", "waiting", *base} - sys.stdlib_module_names


def test_nothing_outside_stages_imports_a_stage():
    """A fork that replaces every stage, and the base's kit, breaks nothing of the machinery."""
    wrong = [each for each in all_imports(*ROOMS) if each.package in modules_of_stages()]
    assert not wrong, listed(wrong, "do without it, or move what is no stage's own into scripts/")


def test_the_runner_never_looks_into_a_model():
    """A model is read by its scorer's container alone: no library of models is imported by the machinery."""
    wrong = [each for each in all_imports("scripts") if each.package in OF_MODELS]
    assert not wrong, listed(wrong, "let the scorer's container do it")


# --- circles


def module_of(name: str, known: set[str]) -> str | None:
    """Return the module of scripts/ that an imported name is, or is in."""
    parts = name.split(".")
    return next((found for end in range(len(parts), 0, -1) if (found := ".".join(parts[:end])) in known), None)


def needs(levels: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the modules that each module of scripts/ imports at these levels."""
    names = {}
    for path in files("scripts"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for name, path in names.items():
        wanted = {module_of(each.name, {*names}) for each in imports(path) if each.level in levels}
        found[name] = wanted - {None, name}
    return found


def circle(needed: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(needed).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("levels", [("module",), ("module", "function")], ids=["at the top", "in functions, too"])
def test_no_modules_import_each_other(levels):
    """Each module can be read, and imported, after those that it imports; no import hides in a function for that."""
    found = circle(needs(levels))
    assert not found, f"{' -> '.join(found)} import each other: move what both need into a module of its own"


# --- packages


@cache
def distributions() -> Mapping[str, list[str]]:
    """Return the packages that each module comes from: `yaml` from PyYAML."""
    return packages_distributions()


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """Return the packages that scripts/requirements.in asks for."""
    lines = (ROOT / "scripts" / "requirements.in").read_text().splitlines()
    return {normalized(match[0]) for line in lines if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))}


def test_every_imported_package_is_declared():
    """What scripts/, tests/ and benchmarks/ import is asked for by name: a dependency of a dependency may go."""
    providers = distributions()
    own = {*ROOMS, *modules_of_stages(), *sys.stdlib_module_names}
    wrong = [
        each
        for each in all_imports(*ROOMS)
        if each.package not in own and not {normalized(name) for name in providers.get(each.package, [])} & declared()
    ]
    assert not wrong, listed(wrong, "add its package to scripts/requirements.in and run 'make lock'")


# --- names


def strings(path: Path) -> Iterator[ast.Constant]:
    """Yield the texts of a file, but docstrings and other texts that are statements of their own."""
    notes = {id(node.value) for node in ast.walk(parsed(path)) if isinstance(node, ast.Expr)}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node


def test_the_machinery_names_no_stage():
    """Stages can be renamed and deleted: none of their names is written in scripts/."""
    wrong = [
        f"{path.relative_to(ROOT)}, line {node.lineno}, names the stage {node.value!r}"
        for path in files("scripts")
        for node in strings(path)
        if node.value in STAGES_OF_THE_EXAMPLE or NAMED.search(node.value)
    ]
    assert not wrong, listed(wrong, "take it from the pipeline")


def test_a_stages_name_is_that_of_the_fixture():
    """The names that are looked for above are those of the project that the machinery's tests work on."""
    text = (ROOT / "tests" / "project" / "dvc.yaml.template").read_text()
    assert set(re.findall(r'stage\("([\w-]+)"', text)) == STAGES_OF_THE_EXAMPLE
    assert yaml.safe_load((ROOT / "tests" / "project" / "params.yaml").read_text())


# --- these tests can fail


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a function that makes a file of a project of its own, in place of this one."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    for room in (*ROOMS, "stages/base"):
        (tmp_path / room).mkdir(parents=True)
    write("scripts/requirements.in", "requests==1\nPyYAML==6  # a comment\nruff==1\n")
    write("scripts/extra/targets.mk", "")
    write("scripts/extra/c.py", "from scripts.extra import d\n")
    write("scripts/extra/d.py", "")
    write("scripts/good.py", "import requests\nimport yaml\nimport os.path\n")
    return write


@pytest.mark.parametrize(
    ("test", "path", "text", "says"),
    [
        (test_the_core_knows_no_optional_room, "scripts/a.py", "import scripts.extra.b\n", "scripts.extra.b"),
        (
            test_dvc_is_imported_in_one_place,
            "tests/a.py",
            "def f():\n  from dvc.repo import Repo\n",
            "tests/a.py, line 2",
        ),
        (test_nothing_imports_a_verb, "scripts/verbs/a.py", "from scripts.verbs import run\n", "scripts.verbs.run"),
        (test_nothing_imports_a_verb, "benchmarks/a.py", "import scripts.verbs.run\n", "scripts.verbs.run"),
        (test_nothing_outside_stages_imports_a_stage, "tests/a.py", "from stages.x import y\n", "stages.x.y"),
        (test_nothing_outside_stages_imports_a_stage, "benchmarks/a.py", "import stagekit\n", "stagekit"),
        (test_the_runner_never_looks_into_a_model, "scripts/a.py", "if 1:\n  import pandas as pd\n", "pandas"),
        (test_every_imported_package_is_declared, "scripts/a.py", "import jinja2\n", "imports jinja2"),
        (test_the_machinery_names_no_stage, "scripts/a.py", 'x = {"train": 1}\n', "names the stage 'train'"),
        (test_the_machinery_names_no_stage, "scripts/a.py", 'x = f"stages/train/{1}"\n', "stages/train/"),
    ],
)
def test_a_slip_is_found(source, test, path, text, says):
    """Each promise above holds for a good file, and is seen to be broken by a bad one, in words that name it."""
    test()
    source(path, text)
    parsed.cache_clear()
    with pytest.raises(AssertionError) as caught:
        test()
    assert says in str(caught.value)


@pytest.mark.parametrize("level", ["", "def f():\n  "])
def test_a_circle_is_found(source, level):
    """A circle is named with all its modules, whether its imports are at the top or in functions."""
    source("scripts/a.py", "from scripts.b import x\n")
    source("scripts/b.py", f"{level}from scripts import c\n")
    source("scripts/c.py", "import scripts.a\n")
    levels = ("module", "function") if level else ("module",)
    assert set(circle(needs(levels))) == {"scripts.a", "scripts.b", "scripts.c"}
    assert circle(needs(("module",))) == [] or not level


def test_what_only_a_type_checker_reads_is_no_import(source):
    """An import under TYPE_CHECKING makes no circle and needs no package."""
    source("scripts/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import pandas\n")
    assert [each.name for each in imports(ROOT / "scripts" / "a.py")] == ["typing.TYPE_CHECKING"]
