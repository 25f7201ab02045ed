"""Clones on the real engine: what the slow tests work on."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.project import ROOT

pytest.register_assert_rewrite("tests.killing")

Make = subprocess.CompletedProcess[str]


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

    def python(self, code: str) -> str:
        """What a Python program prints that runs in this clone's runner, on its network."""
        return self.make("shell", stdin=f"python - <<'END'\n{code}\nEND\n").stdout.partition("'exit'\n")[2]

    def registry(self) -> list[dict]:
        """The versions of iris-classifier, the oldest first: version, stage, aliases, tags, run_id."""
        printed = self.python(
            "import json\n"
            "from mlflow import MlflowClient\n"
            "client = MlflowClient()\n"
            "aliases = client.get_registered_model('iris-classifier').aliases\n"
            "found = client.search_model_versions(\"name='iris-classifier'\")\n"
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


def owner_of(path: Path) -> tuple[int, int]:
    """The uid and the gid that a file or a folder belongs to."""
    return path.stat().st_uid, path.stat().st_gid


def with_probe(docker_run: str, code: str) -> str:
    """A `docker run` of dvc.yaml, options and image word for word, that runs Python code in place of the stage."""
    options, image = re.fullmatch(r"(timeout .*?docker run .*?)(stages/[\w-]+:\w+) .*", docker_run, re.DOTALL).groups()
    return f"{options}--entrypoint python {image} -c {shlex.quote(code)}"


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


def new_clone(name: str) -> Clone:
    """A clone in a new folder of a given name; `make test` deletes it, and all it made, at the end."""
    if not ROOT.parent.name.startswith("test-run-"):
        pytest.fail("tests that start containers work on a copy; expected to be called by 'make test'")
    path = ROOT.parent / name
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)
    return Clone(path)


@pytest.fixture(scope="module")
def clone_at() -> Iterator[Callable[[str], Clone]]:
    """Makes clones for one module. Their networks go when it ends: an engine has addresses for 31 of them."""
    made: list[Clone] = []

    def make_clone(name: str) -> Clone:
        made.append(new_clone(name))
        return made[-1]

    yield make_clone
    for listed, remove in (("container ls --all", "container rm --force --volumes"), ("network ls", "network rm")):
        for clone in made:
            if found := clone.docker(*listed.split(), "--quiet"):
                subprocess.run(["docker", *remove.split(), *found], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def started() -> Iterator[tuple[Clone, Make]]:
    """A clone in which `make run` has been called once, and what that printed. Tests leave it as they found it."""
    clone = new_clone(f"started-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}")
    yield clone, clone.make("run")
