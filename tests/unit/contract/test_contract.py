"""`make check`: each promise of the stage contract that is broken is found, with file, line and what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.contract import contract
from scripts.project import Project
from tests.unit.conftest import GIT

HASH = f"--hash=sha256:{'0' * 64}"
FILES = {
    ".gitignore": "/data/\n",
    "params.yaml": "one:\n  level: 1 # of noise, 0 or more\n  # where it is\n  place: here\n"
    "promotion:\n  metric: x # a number\nmlflow:\n  experiment: e # its name\n",
    "dvc.yaml.template": '{#- stage("none") is no block -#}\nstages:\n'
    '{{ stage("one", inputs={"raw": "data/in/x.csv"},\n         outputs={"out": "data/one/x.csv"}) }}\n'
    '{{ stage("two", inputs={"table": "data/one/x.csv"},\n         outputs={"out": "data/two/x.csv"},\n'
    '         network="internet" if params.one.level > 5 else "none") }}\n'
    '{{ "" if params.promotion and params.mlflow }}\n',
    "scripts/requirements.in": "",
    "stages/base/Dockerfile": "FROM python\n",
    "stages/base/stage.Dockerfile": "FROM base\n",
    "stages/base/requirements.in": "pydantic\n",
    "stages/base/requirements.txt": f"pydantic==2.0 \\\n    {HASH}\n    # via -r stages/base/requirements.in\n",
    "stages/base/tests/requirements.in": "pytest\n",
    "stages/base/tests/requirements.txt": f"pytest==9.0 \\\n    {HASH}\n",
    "stages/one/one.py": '''\
"""One."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from stagekit import Args, run


class OneArgs(Args):
    KIND: ClassVar[str] = "one"
    raw: Path
    out: Path
    level: Annotated[int, Field(ge=0)]
    place: str | None = None


def main(args: OneArgs) -> None:
    args.out.write_text(f"{args.raw.read_text()} {args.level} {args.place}")


if __name__ == "__main__":
    run(main, OneArgs)
''',
    "stages/one/requirements.in": "requests\n",
    "stages/one/requirements.txt": f"requests==1.0 \\\n    {HASH}\n    # via -r stages/one/requirements.in\n",
    "stages/one/test_one.py": "import time\nx = time.time()\n",
    "stages/two/two.py": "import requests\n",
    "stages/two/tests/new_test.py": "",
}


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that keeps the contract; to be copied."""
    root = tmp_path_factory.mktemp("kept") / "clone"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run([*GIT, "init", "--quiet", str(root)], check=True)
    return root


@pytest.fixture
def clone(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(kept, tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def check() -> list[str]:
    return [str(each) for each in contract.check(Project(Path.cwd()))]


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def add(path, text=""):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a") as file:
        file.write(text)


def track(path):
    add(path, "x")
    subprocess.run([*GIT, "add", "--force", path], check=True)


def foreach(values, field):
    """Add a folder, and a block that makes a stage of each value of it."""
    program = FILES["stages/one/one.py"].replace("One", "Three").replace('"one"', '"three"')
    program = program.replace("    level: Annotated[int, Field(ge=0)]\n    place: str | None = None\n", field)
    program = program.replace(" {args.level} {args.place}", " {args.item}" if field else "")
    add("stages/three/three.py", program)
    add("stages/three/test_three.py")
    each = "item" if field else "key"
    files = f'inputs={{"raw": "data/in/x.csv"}}, outputs={{"out": "data/${{{each}}}/x.csv"}}'
    block = f'{{{{ stage("three", foreach={values}, {files}) }}}}'
    edit("dvc.yaml.template", '{{ stage("two"', block + '\n{{ stage("two"')


SLIPS = {
    # what is done, and how each finding begins
    "nothing": (lambda: None, []),
    "no program": (
        lambda: Path("stages/two/two.py").rename("stages/two/main.py"),
        ["stages/two/main.py:1: program: the folder has no two.py; "],
    ),
    "a Dockerfile in place of a program": (
        lambda: (Path("stages/two/two.py").rename("stages/two/main.sh"), add("stages/two/Dockerfile", "FROM alpine\n")),
        [],
    ),
    "a folder without a block": (
        lambda: (add("stages/three/three.py"), add("stages/three/test_three.py")),
        ['stages/three/three.py:1: block: dvc.yaml.template has no block stage("three", ...); '],
    ),
    "a block without a folder": (
        lambda: shutil.rmtree("stages/two"),
        ["dvc.yaml.template:5: template: stage 'two' has no folder stages/two"],
    ),
    "a block without a test": (
        lambda: Path("stages/two/tests/new_test.py").unlink(),
        ["dvc.yaml.template:5: test: stages/two has no test; "],
    ),
    "a foreach": (lambda: foreach('["x", "y"]', "    item: str\n"), []),
    "a foreach with an argument more": (
        lambda: foreach('{"x": {"more": 1}, "y": {"more": 2}}', ""),
        ["dvc.yaml.template:5: parameter: three.more is no field of ThreeArgs; "],
    ),
    "a document is no test": (
        lambda: Path("stages/two/tests/new_test.py").rename("stages/two/README.md"),
        ["dvc.yaml.template:5: test: stages/two has no test; "],
    ),
    "requirements without a lock": (
        lambda: Path("stages/one/requirements.txt").unlink(),
        ["stages/one/requirements.in:1: requirements: there is no stages/one/requirements.txt; "],
    ),
    "a package that was never locked": (
        lambda: add("stages/one/requirements.in", "# more\nScikit_Learn[all]>=1\n"),
        ["stages/one/requirements.in:3: requirements: scikit-learn is not in stages/one/requirements.txt; "],
    ),
    "a package that is no longer asked for": (
        lambda: edit("stages/one/requirements.in", "requests\n", ""),
        ["stages/one/requirements.txt:1: requirements: requests is no longer asked for by stages/one/"],
    ),
    "another version than is locked": (
        lambda: edit("stages/one/requirements.in", "requests", "requests==2.0"),
        ["stages/one/requirements.in:1: requirements: requests 2.0 is asked for, and stages/one/"],
    ),
    "a package without version or hash": (
        lambda: edit("stages/one/requirements.txt", f"requests==1.0 \\\n    {HASH}", "requests>=1.0"),
        ["stages/one/requirements.txt:1: requirements: requests has no exact version and no hash; "],
    ),
    "a package without a hash": (
        lambda: edit("stages/base/requirements.txt", f" \\\n    {HASH}", ""),
        ["stages/base/requirements.txt:1: requirements: pydantic has no exact hash; "],
    ),
    "another version than the base's": (
        lambda: add("stages/one/requirements.txt", f"pydantic==1.0 \\\n    {HASH}\n    # via requests\n"),
        ["stages/one/requirements.txt:4: requirements: pydantic is 1.0, in stages/base/requirements.txt it is 2.0; "],
    ),
    "a parameter that the program does not know": (
        lambda: edit("params.yaml", "  level: 1", "  levels: 2 # x\n  level: 1"),
        ["params.yaml:2: parameter: one.levels is no field of OneArgs; "],
    ),
    "a file that the program does not know": (
        lambda: edit("dvc.yaml.template", '"out": "data/one/x.csv"', '"outs": "data/one/x.csv"'),
        [
            "dvc.yaml.template:3: parameter: one.outs is no field of OneArgs; ",
            "stages/one/one.py:13: parameter: OneArgs.out is required, and neither the block nor params.yaml ",
        ],
    ),
    "a parameter that params.yaml lacks": (
        lambda: (
            edit("params.yaml", "  level: 1 # of noise, 0 or more\n", "").__class__
            and edit("dvc.yaml.template", "params.one.level > 5", "params.one")
        ),
        ["stages/one/one.py:14: parameter: OneArgs.level is required, and neither the block nor params.yaml "],
    ),
    "a parameter that may be left out": (lambda: edit("params.yaml", "  # where it is\n  place: here\n", ""), []),
    "a parameter that is never read": (
        lambda: edit("stages/one/one.py", " {args.level}", ""),
        ["stages/one/one.py:14: parameter: OneArgs.level is never read; "],
    ),
    "a parameter that another file of the folder reads": (
        lambda: (
            edit("stages/one/one.py", " {args.level}", ""),
            add("stages/one/b.py", "def f(a):\n    return a.level\n"),
        ),
        [],
    ),
    "parameters that are handed on as a whole": (
        lambda: edit("stages/one/one.py", " {args.level}", " {args.model_dump()}"),
        [],
    ),
    "parameters of which nothing can be told": (
        lambda: (edit("stages/one/one.py", " {args.level}", ""), edit("stages/one/one.py", "(Args)", "(Args, Other)")),
        [],
    ),
    "a parameter without a comment": (
        lambda: edit("params.yaml", " # of noise, 0 or more", ""),
        ["params.yaml:2: comment: one.level has no comment; "],
    ),
    "a comment above another one": (
        lambda: edit("params.yaml", "  place: here\n", "  place: here\n  more: x#y\n"),
        [
            "params.yaml:5: comment: one.more has no comment; ",
            "params.yaml:5: parameter: one.more is no field of OneArgs; ",
        ],
    ),
    "an output that git does not ignore": (
        lambda: edit(".gitignore", "/data/", "/data/two/"),
        ["dvc.yaml.template:4: output: git does not ignore data/one/x.csv, an output of one; "],
    ),
    "an output that git tracks": (
        lambda: track("data/two/x.csv"),
        ["dvc.yaml.template:6: output: git tracks data/two/x.csv, an output of two; "],
    ),
    "a file in an output that git tracks": (
        lambda: (track("data/two/x.csv/part 1"),),
        ["dvc.yaml.template:6: output: git tracks data/two/x.csv/part 1, an output of two; "],
    ),
    "a clock": (
        lambda: add("stages/two/more.py", "import time\n\nSTARTED = (\n    time.time()\n)\n"),
        ["stages/two/more.py:4: clock: it reads the clock by time.time(); "],
    ),
    "a clock in a test": (lambda: add("stages/two/test_two.py", "import time\ntime.time()\n"), []),
    "a clock in the base": (
        lambda: add("stages/base/kit.py", "import time\ntime.time()\n"),
        ["stages/base/kit.py:2: clock: it reads the clock by time.time(); "],
    ),
    "a network that the block never has": (
        lambda: edit("stages/one/one.py", '"""One."""', '"""One."""\nimport requests'),
        ["stages/one/one.py:2: network: it imports requests; "],
    ),
    "a clock that is allowed": (
        lambda: add("stages/two/two.py", "import time\ntime.time()  # check: allow clock, only for the log\n"),
        [],
    ),
    "an allowance on the last line of a call": (
        lambda: add(
            "stages/two/two.py", "import time\nx = time.strftime(\n    '%Y'\n)  # check: allow clock, for the log\n"
        ),
        [],
    ),
    "an allowance without a reason": (
        lambda: add("stages/two/two.py", "import time\ntime.time()  # check: allow clock\n"),
        [
            "stages/two/two.py:3: allow: it allows clock without a reason; ",
            "stages/two/two.py:3: clock: it reads the clock by time.time(); ",
        ],
    ),
    "an allowance of something else": (
        lambda: add("stages/two/two.py", "import time\ntime.time()  # check: allow hash, it is none\n"),
        [
            "stages/two/two.py:3: allow: it allows hash, and nothing of that is found on this line; ",
            "stages/two/two.py:3: clock: it reads the clock by time.time(); ",
        ],
    ),
    "an allowance of no rule": (
        lambda: add("stages/two/two.py", "x = 1  # check: allow clocks, why not\n"),
        ["stages/two/two.py:2: allow: it allows 'clocks', which is no rule; "],
    ),
    "an allowance in params.yaml": (
        lambda: edit("params.yaml", "  place: here\n", "  place: here\n  more: 1 # check: allow parameter, for two\n"),
        [],
    ),
    "a program that cannot be read": (
        lambda: add("stages/two/two.py", "x = (\n"),
        ["stages/two/two.py:2: python: it is no Python that can be read ('(' was never closed); "],
    ),
    "a template that cannot be rendered, and a clock": (
        lambda: (
            edit("dvc.yaml.template", "stages:\n", "stages:\n{{ nothing }}\n"),
            add("stages/two/two.py", "import time\ntime.time()\n"),
        ),
        [
            "dvc.yaml.template:3: template: 'nothing' is undefined",
            "stages/two/two.py:3: clock: ",
        ],
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_found_where_it_is(clone, name):
    """Each slip is found alone, in its file and on its line; what keeps the contract is not."""
    change, expected = SLIPS[name]
    change()
    found = check()
    assert len(found) == len(expected), found
    for text, beginning in zip(found, expected, strict=True):
        assert text.startswith(beginning), text


def test_a_finding_says_why_it_matters_and_what_to_do(clone):
    """A finding is one line: where, the rule, what, why, and what to type."""
    add("stages/two/two.py", "import random\nrandom.random()\n")
    assert check() == [
        "stages/two/two.py:3: random: random.random() draws from a generator without a seed; two runs give different "
        "results, and a cached one is only one of them: give it a seed, a parameter of the stage"
    ]


def test_what_a_stage_is_called_has_no_power_over_a_terminal(clone):
    """A finding stays on its line, whatever the names in it are made of."""
    add("stages/two/a\x1b[2Jb.py", "import time\ntime.time()\n")
    (found,) = check()
    assert found.startswith("stages/two/a?[2Jb.py:2: clock: ") and found.isprintable()


def test_programs_are_never_imported(clone):
    """A stage's code is read as text: nothing of it runs in the runner."""
    for name in ("one", "two", "base"):
        add(f"stages/{name}/boom.py", "from pathlib import Path\nPath('boom').touch()\nraise SystemExit\n")
    assert check() == []
    assert not list(clone.rglob("boom"))


def test_a_copied_folder_keeps_its_lock(clone):
    """The note beside a package may name the folder that the requirements were copied from."""
    edit("stages/one/requirements.txt", "stages/one/", "stages/zero/")
    assert check() == []
