"""Clones on the real engine: what the slow tests work on.

They hold the small project of tests/project/ in place of the stages that are in the repository, so that these tests
pass in a fork whose stages are others.
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from docker import DockerClient
from docker.errors import NotFound
from hypothesis import settings

from scripts.pipeline import template
from scripts.pipeline.containers import stop
from scripts.project import ROOT

pytest.register_assert_rewrite("tests.killing")
settings.register_profile("the same each time", derandomize=True)

Make = subprocess.CompletedProcess[str]


def pytest_configure(config: pytest.Config) -> None:
    """Let `make test` try the same examples each time; `make test-deep`, which runs all tests, looks for others."""
    if config.option.markexpr:
        settings.load_profile("the same each time")


# What is in tests/project/.
STAGES = ("ingest", "preprocess", "train", "evaluate")
OUTPUTS = (
    "data/raw/iris.csv",
    "data/processed/train.csv",
    "data/processed/test.csv",
    "models/model.json",
    "models/signature.json",
    "models/training.csv",
    "metrics/metrics.json",
    "metrics/rows.csv",
    "metrics/confusion.csv",
    "metrics/roc.csv",
    "metrics/importance.csv",
)
ALL = f"ran {', '.join(STAGES)}"
NOTHING = "nothing to run, all stages are up to date"
"""What `stages_line` gives of a run from nothing, and of one in which nothing has changed."""


@dataclass(frozen=True)
class Clone:
    """A git clone of the project, beside the copy that the tests run in, with a label of its own on all it starts."""

    path: Path

    @property
    def label(self) -> str:
        """What all containers and networks of this clone bear."""
        name = subprocess.run(
            ["git", "hash-object", "--stdin"], input=str(self.path), capture_output=True, text=True, check=True
        )
        return f"pipeline.clone={name.stdout[:12]}"

    def make(
        self,
        *arguments: str,
        check: bool = True,
        stdin: str | None = None,
        timeout: float | None = None,
        **variables: str,
    ) -> Make:
        """`make ARGUMENTS` in this clone, as a user calls it, within `timeout` seconds; `variables` are the shell's."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.path,
            env={key: value for key, value in os.environ.items() if key != "PWD"} | variables,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"make {' '.join(arguments)} ended {done.returncode}:\n{done.stdout}"
        return done

    def git(self, *arguments: str) -> str:
        """What `git ARGUMENTS` prints."""
        return subprocess.run(
            ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments],
            cwd=self.path, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    def edit(self, name: str, old: str, new: str) -> None:
        """Replaces `old`, which must be there, by `new` in a file."""
        path = self.path / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new))

    def restore(self) -> None:
        """Puts every tracked file back as it was committed."""
        self.git("checkout", "--quiet", ".")

    def changes(self) -> list[str]:
        """Return the files that differ from what is committed or staged, and those that git does not know."""
        return self.git("ls-files", "--modified", "--deleted", "--others", "--exclude-standard").splitlines()

    def stages(self) -> dict[str, Any]:
        """Return the stages of dvc.yaml, by name."""
        return yaml.safe_load((self.path / "dvc.yaml").read_text())["stages"]

    def python(self, code: str) -> str:
        """What a Python program prints that runs in this clone's runner, on its network."""
        return self.make("shell", stdin=f"python - <<'END'\n{code}\nEND\n").stdout.partition("'exit'\n")[2]

    def registry(self, model: str = "iris-classifier") -> list[dict]:
        """Return the versions of a model, the oldest first: version, stage, aliases, tags, run_id."""
        printed = self.python(
            "import json\n"
            "from mlflow import MlflowClient\n"
            "client = MlflowClient()\n"
            f"aliases = client.get_registered_model('{model}').aliases\n"
            f"found = client.search_model_versions(\"name='{model}'\")\n"
            "print('JSON', json.dumps([dict(version=v.version, stage=v.current_stage, tags=v.tags, run_id=v.run_id,\n"
            "      aliases=[a for a in aliases if aliases[a] == v.version])\n"
            "      for v in sorted(found, key=lambda v: int(v.version))]))\n"
        )
        return json.loads(re.search(r"JSON (.*)", printed)[1])

    def docker(self, *arguments: str) -> list[str]:
        """The lines that a docker listing prints of what bears this clone's label."""
        done = subprocess.run(
            ["docker", *arguments, "--filter", f"label={self.label}"], check=True, capture_output=True, text=True
        )
        return done.stdout.splitlines()


@contextmanager
def inspecting(clone: Clone) -> Iterator[list[dict[str, Any]]]:
    """Collect what `docker inspect` shows of each container of a clone that is made within the block."""
    client, found = DockerClient.from_env(), []
    events = client.events(decode=True, filters={"event": "create", "label": clone.label})

    def follow() -> None:
        for event in events:
            with suppress(NotFound):  # it was quicker
                found.append(client.api.inspect_container(event["id"]))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield found
    finally:
        events.close()
        thread.join()
        client.close()


def stage_in(container: dict[str, Any]) -> str | None:
    """Return the stage that a container is of, from what `docker inspect` shows of it; None if it is of none."""
    return container["Config"]["Labels"].get("pipeline.stage")


def owner_of(path: Path) -> tuple[int, int]:
    """The uid and the gid that a file or a folder belongs to."""
    return path.stat().st_uid, path.stat().st_gid


def with_probe(commands: Sequence[str], code: str) -> str:
    """A stage's commands of dvc.yaml with Python code in place of its program, options and image word for word;
    nothing is taken over.
    """
    folder, docker_run, _ = commands
    options, image = re.fullmatch(r"(timeout .*?docker run .*?)(stages/[\w-]+:\w+) .*", docker_run, re.DOTALL).groups()
    return f"{folder}\n{options}--entrypoint python {image} -c {shlex.quote(code)}"


def stages_line(done: Make) -> str:
    """What the report of `make run` says that it did."""
    return re.search(r"^stages +(.*) \(\d+ s\)$", done.stdout, re.M)[1]


def images_built(done: Make) -> list[str]:
    """The names of the images that a run built."""
    return sorted(re.findall(r"^(?:.* \| )?built stages/([\w-]+):", done.stdout, re.M))


def last_line(done: Make) -> str:
    """The last line of what a target of make printed; make's own, which says that it failed, does not count."""
    return [line for line in done.stdout.splitlines() if not line.startswith("make: ***")][-1]


def wait_until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Returns when `true()` is; fails with `what` was waited for where it takes too long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)


def below(process: psutil.Process, name: str) -> list[psutil.Process]:
    """Return the processes of a name that a process began, and those began; one may end meanwhile."""
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child] if child.name() == name else []
    return found


IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")
PROJECT = ("stages", "dvc.yaml.template", "params.yaml")


@functools.cache
def fixture_project() -> Path:
    """Return a repository of one commit: this one, with the project of tests/project/ and no results of its own."""
    path = ROOT.parent / f"fixture-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    shutil.copytree(ROOT, path, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__", ".pytest_cache"))
    for stage in (path / "stages").iterdir():
        if stage.is_dir() and stage.name != "base":
            shutil.rmtree(stage)
    for name in PROJECT:
        source = ROOT / "tests" / "project" / name
        if source.is_dir():
            shutil.copytree(source, path / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, path / name)
    (path / "dvc.lock").unlink(missing_ok=True)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *IDENTITY, *command], cwd=path, check=True)
    template.write(template.load(path), path)
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "the fixture project"]):
        subprocess.run(["git", *IDENTITY, *command], cwd=path, check=True)
    return path


def new_clone(name: str, *, of: Path | None = None) -> Clone:
    """Return a clone of `of` (the fixture project) in a new folder; `make test` deletes it, and all it made."""
    if not ROOT.parent.name.startswith("test-run-"):
        pytest.fail("tests that start containers work on a copy; expected to be called by 'make test'")
    path = ROOT.parent / name
    subprocess.run(["git", "clone", "--quiet", str(of or fixture_project()), str(path)], check=True)
    return Clone(path)


@pytest.fixture(scope="module")
def clone_at() -> Iterator[Callable[[str], Clone]]:
    """Makes clones for one module. Their networks go when it ends: an engine has addresses for 31 of them."""
    made: list[Clone] = []

    def make_clone(name: str) -> Clone:
        made.append(new_clone(name))
        return made[-1]

    yield make_clone
    for clone in made:
        stop(clone.docker("container", "ls", "--all", "--quiet"), grace=0)  # one may just be removing itself
        if networks := clone.docker("network", "ls", "--quiet"):
            subprocess.run(["docker", "network", "rm", *networks], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def started() -> Iterator[tuple[Clone, Make]]:
    """A clone in which `make run` has been called once, and what that printed. Tests leave it as they found it.

    Its dvc.lock is staged, so that `restore` puts it back.
    """
    clone = new_clone(f"started-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}")
    done = clone.make("run")
    clone.git("add", "dvc.lock")
    yield clone, done
