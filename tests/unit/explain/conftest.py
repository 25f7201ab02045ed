"""A clone whose three stages have run, without Docker: each writes what its parameters and inputs say."""

import hashlib
import multiprocessing
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import transfer
from scripts.explain import explanation, report
from scripts.pipeline import dvc_adapter, images, template
from scripts.project import Project
from tests.unit.conftest import GIT

TEMPLATE = """\
stages:
{{ stage("clean", inputs={"given": "data/given/x.csv"}, outputs={"out": "data/clean/x.csv"}) }}
{{ stage("fit", inputs={"table": "data/clean/x.csv"}, outputs={"model": "models/m.txt"}) }}
{{ stage("score", inputs={"model": "models/m.txt"}, metrics={"scores": "scores/s.json"}) }}
artifacts:
{{ model("m", file="models/m.txt", metrics="scores/s.json") }}
"""
PARAMS = """\
clean: {level: 1}
fit: {depth: 3, net: {layers: 2, wide: false}}
score: {digits: 6}
mlflow: {experiment: e}
promotion: {metric: x, higher_is_better: true, range: [0, 1], min_score: null, min_improvement: 0.0, confidence: null}
"""
FILES = {
    "dvc.yaml.template": TEMPLATE,
    "params.yaml": PARAMS,
    "data/given/x.csv": "1\n",
    ".gitignore": "/data/clean/\n/data/given/*.csv\n/models/\n/scores/\n.local/\n",
    "stages/base/Dockerfile": "FROM python\n",
    "stages/base/stage.Dockerfile": "FROM base\n",
    "stages/base/kit.py": "KIT = 1\n",
    **{f"stages/{name}/{name}.py": f"# {name}\n" for name in ("clean", "fit", "score")},
    "stages/fit/requirements.txt": "numpy==2\n",
    "stages/fit/test_fit.py": "",
}


def run(project: Project) -> dict[str, str]:
    """Do what a run does with each stage, in a process of its own; return whether it ran, was restored, unchanged."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_run, args=(project, results))
    process.start()
    found = results.get(timeout=60)
    process.join()
    assert "error" not in found, found
    return found


def _run(project, results):
    found = {}
    try:
        template.write(template.load(project.root), project.root)
        with dvc_adapter.repository(project.root) as repo:
            names = list(dvc_adapter.plan(repo, []).stages)
        by_dvc = dvc_adapter.dvc.stage.run.cmd_run
        for name in names:
            dvc_adapter.dvc.stage.run.cmd_run = by_dvc
            found[name] = _run_one(project, name)
    except Exception as error:  # noqa: BLE001 (the test shows it)
        found["error"] = repr(error)
    results.put(found)


def _run_one(project, name):
    ran = []

    def write(by_dvc):
        ran.append(name)
        # As in a stage: what it makes of its inputs is the same for the same level and depth, whatever else differs.
        section = stage.params[0].read_params()[name]
        told = [str(value) for key, value in section.items() if key != "net"]
        told += [_text_of(Path(str(dep))) for dep in stage.deps if dep not in stage.params]
        for out in stage.outs:
            path = Path(str(out)) if Path(str(out)).suffix else Path(str(out), "x.csv")  # a folder, of one file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(hashlib.md5(repr(told).encode(), usedforsecurity=False).hexdigest() + "\n")

    with dvc_adapter.repository(project.root) as repo:
        stage = dvc_adapter.plan(repo, [name]).stages[name]
        nothing = {"mend": lambda key: None, "kept": lambda: None}
        changed = dvc_adapter.reproduce(stage, write, fetch=transfer.fetch_outputs, **nothing)
        made = "ran" if ran else "restored" if stage.cmd else "noted"
    return made if changed else "unchanged"


def _text_of(path: Path) -> str:
    return path.read_text() if path.is_file() else "".join(each.read_text() for each in sorted(path.iterdir()))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_repository: Path) -> Path:
    """Return a clone, committed, whose stages have run; to be copied."""
    root = tmp_path_factory.mktemp("finished") / "clone"
    shutil.copytree(empty_repository, root)
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / ".dvc" / "config.local").write_text(
        "[core]\n    remote = local\n['remote \"local\"']\n    url = ../.local/dvc-remote\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(Project(root)) == dict.fromkeys(("clean", "fit", "score"), "ran")
        for command in (["add", "--all"], ["commit", "--quiet", "--message", "all"]):
            subprocess.run([*GIT, *command], check=True)
    return root


class Explained:
    """What was explained: `will` by stage; `causes` by stage, each as `kind: text`."""

    def __init__(self, found: report.Found) -> None:
        self.found = found
        self.will = {about.name: about.will.name for about, _ in found}
        self.causes = {about.name: [f"{each.kind}: {each.text}" for each in causes] for about, causes in found}
        self.about = {about.name: about for about, _ in found}
        self.lines = report.lines(found)


@pytest.fixture
def clone(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a copy of the clone that has run; it is the working directory."""
    root = tmp_path / "clone"
    shutil.copytree(finished, root)
    monkeypatch.chdir(root)
    return Project(root)


@pytest.fixture
def explain(clone: Project) -> Callable[..., Explained]:
    """Return a function that explains, and checks that nothing in the clone was changed by that."""

    def look(*targets: str, ended_well: bool = True) -> Explained:
        before = state(clone)
        explained = Explained(explanation.explain(clone, targets, ended_well=ended_well))
        assert state(clone) == before, "to explain is to change nothing"
        return explained

    return look


def state(project: Project) -> dict[str, bytes]:
    """Return all files of a clone with what is in them, but what git and DVC keep for themselves for a moment, and
    the lists of a folder's files that DVC notes when it is asked for its status."""
    return {
        str(path): path.read_bytes()
        for path in project.root.rglob("*")
        if path.is_file()
        and path.suffix != ".dir"
        and not {".git", "tmp", "home"} & set(path.relative_to(project.root).parts)
    }


def tag(project: Project, name: str) -> str:
    """Return the tag of a stage's image as its folder is now."""
    return images.load(project.stages)[name].tag.partition(":")[2]


@pytest.fixture
def git_in(clone: Project) -> Callable[..., str]:
    """Return a function that calls git in the clone, and returns what it prints."""

    def call(*arguments: str) -> str:
        return subprocess.run([*GIT, *arguments], cwd=clone.root, check=True, capture_output=True, text=True).stdout

    return call
