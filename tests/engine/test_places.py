"""Where it runs: odd paths, odd callers, and several clones or runs at once."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.conftest import ALL, NOTHING, OUTPUTS, Clone, Make, images_built, last_line, stages_line, wait_until

pytestmark = pytest.mark.docker
ELSEWHERE = {"MLFLOW_TRACKING_URI": "http://mlflow:9"}
"""Spares a clone that runs ingest alone a server of its own."""


@pytest.fixture
def short_lived(clone_at: Callable[[str], Clone]) -> Iterator[Callable[[str], Clone]]:
    """Makes clones that are deleted, with all that they made, when the test ends: each takes a port."""
    made = []

    def make_clone(name: str) -> Clone:
        made.append(clone_at(name))
        return made[-1]

    yield make_clone
    for clone in made:
        clone.make("clean-all", "YES=1")
        shutil.rmtree(clone.path)


def call(command: list[str], folder: Path, **variables: str) -> Make:
    """Call a program in `folder`, without a terminal and without input."""
    environ = {name: value for name, value in os.environ.items() if name != "PWD"} | variables
    return subprocess.run(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def padded(name: str, length: int) -> str:
    """Return `name`, made so long that its clone's path has at least `length` characters."""
    return name.ljust(length - len(str(ROOT.parent)) - 1, "x")


# --- Paths -----------------------------------------------------------------------------------------------------------


def test_a_path_with_everything_odd(short_lived: Callable[[str], Clone]) -> None:
    """In a long path with a space, an umlaut, $ and an apostrophe a run works, and a second one does nothing."""
    clone = short_lived(padded("it's a $HOME für alle ", 150))
    assert len(str(clone.path)) >= 150
    assert stages_line(clone.make("run")) == ALL
    assert all((clone.path / name).stat().st_size for name in OUTPUTS)
    assert clone.changes() == ["dvc.lock"]
    assert [version["version"] for version in clone.registry()] == ["1"]
    assert stages_line(clone.make("run")) == NOTHING


ODD = {"space": "a space", "letter": "größe", "dollar": "$HOME", "apostrophe": "it's", "long": padded("", 150)}


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, id=kind, marks=pytest.mark.deep) for kind, name in ODD.items()),
        pytest.param(r"(a) [b] & ; * ? % # \ ~", id="shell"),
    ],
)
def test_an_odd_path(short_lived: Callable[[str], Clone], name: str) -> None:
    """In a path with one odd thing in it a stage runs."""
    clone = short_lived(name)
    clone.make("run-ingest", **ELSEWHERE)
    assert (clone.path / "data/raw/iris.csv").stat().st_size


def test_a_symlinked_folder(short_lived: Callable[[str], Clone]) -> None:
    """Called through a symbolic link, `make` works on the clone itself: what ran there is up to date here."""
    clone = short_lived("real")
    link = clone.path.with_name("link")
    link.symlink_to(clone.path)
    done = call(["make", "run-ingest"], link, PWD=str(link), **ELSEWHERE)
    assert done.returncode == 0, done.stdout
    assert "ingest | starts in" in done.stdout
    assert stages_line(clone.make("run-ingest", **ELSEWHERE)) == NOTHING
    link.unlink()


@pytest.mark.parametrize(
    "name",
    ["a,b", "a:b", "a\nb", "a\n", 'a"b', "a{b", "a}b"],
    ids=["comma", "colon", "LF", "LF at end", "quote", "{", "}"],
)
def test_a_path_that_cannot_work(clone_at: Callable[[str], Clone], name: str) -> None:
    """A path that Docker's mounts or DVC cannot express is refused in one sentence before anything is made."""
    clone = clone_at(name)
    done = clone.make("run", check=False)
    assert done.returncode == 2
    sentence, of_make = done.stdout.rstrip("\n").rsplit("\n", 1)
    assert sentence == (
        f"error: the project lies in '{clone.path}'; expected a path without comma, colon, quotation mark, brace "
        "or line break, which Docker's mounts or DVC cannot express: move the clone"
    )
    assert of_make.startswith("make: ***")
    assert clone.git("status", "--porcelain", "--ignored") == ""
    assert not clone.docker("network", "ls", "--quiet")
    shutil.rmtree(clone.path)  # nothing else was made


def test_a_worktree(short_lived: Callable[[str], Clone]) -> None:
    """In a worktree of a clone, whose git folder lies elsewhere, a stage runs, and the clone itself stays as it was."""
    clone = short_lived("trunk")
    worktree = Clone(clone.path.with_name("a worktree"))
    clone.git("worktree", "add", "--quiet", "--detach", str(worktree.path))
    worktree.make("run-ingest", **ELSEWHERE)
    assert (worktree.path / "data/raw/iris.csv").stat().st_size
    assert not (clone.path / "data/raw").exists()
    assert "fatal" not in worktree.make("status").stdout
    worktree.make("clean-all", "YES=1")


# --- Callers ---------------------------------------------------------------------------------------------------------

KEPT = [name for name in ("PATH", "HOME", "RUNNER_SOCKET", "PYTHON_IMAGE") if name in os.environ]
CALLERS = {
    "elsewhere": ["make", "-C", "{clone}", "run-ingest"],
    "no terminal": ["make", "run-ingest"],
    "no input": ["sh", "-c", "make run-ingest <&-"],
    "terminal": ["script", "-qec", "make run-ingest", "/dev/null"],
    "terminal, no input": ["script", "-qec", "make run-ingest < /dev/null", "/dev/null"],
    "terminal, output to a file": ["script", "-qec", "make run-ingest | cat", "/dev/null"],
    "dumb": ["script", "-qec", "TERM=dumb make run-ingest", "/dev/null"],
    "C": ["env", "LANG=C", "LC_ALL=C", "TERM=dumb", "make", "run-ingest"],
    "bare": ["env", "-i", *(f"{name}={os.environ[name]}" for name in KEPT), "make", "run-ingest"],
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_caller(started: tuple[Clone, Make], caller: str) -> None:
    """`make` works from another folder, with and without a terminal, input, a language and an environment."""
    clone = started[0].path
    (clone / "data/raw/iris.csv").unlink()
    command = [word.format(clone=clone) if "{clone}" in word else word for word in CALLERS[caller]]
    done = call(command, ROOT if caller == "elsewhere" else clone)
    assert done.returncode == 0, done.stdout
    assert (clone / "data/raw/iris.csv").stat().st_size


@pytest.mark.parametrize("piped", [True, False], ids=["piped", "typed"])
def test_a_shell_on_a_terminal(started: tuple[Clone, Make], piped: bool) -> None:
    """On a terminal `make shell` takes what is typed, and what another program pipes into it."""
    clone = started[0].path
    typed = "echo stages: $(ls stages/*/Dockerfile | wc -l)"
    command = f"echo '{typed}' | make shell" if piped else "make shell"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=clone, input="" if piped else f"{typed}\nexit\n", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^stages: [1-9]", done.stdout, re.M), done.stdout


# --- Several at once -------------------------------------------------------------------------------------------------


def start(clone: Clone, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start `make ARGUMENTS` in `clone`, without waiting for its end."""
    environ = {name: value for name, value in os.environ.items() if name != "PWD"} | variables
    return subprocess.Popen(
        ["make", *arguments], cwd=clone.path, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_no_room_for_a_network_is_told(short_lived: Callable[[str], Clone], tmp_path: Path) -> None:
    """If the engine has no addresses left for a network, one sentence says so, and how to make room."""
    clone = short_lived("no room")
    # A stand-in says it in the engine's words: filling the engine would stop the tests beside this one.
    client = tmp_path / "docker"
    client.write_text(
        "#!/bin/sh\n"
        f'if [ "$1 $2" != "network create" ]; then exec {shutil.which("docker")} "$@"; fi\n'
        "echo Error response from daemon: could not find an available, non-overlapping IPv4 address pool >&2\n"
        "exit 1\n"
    )
    client.chmod(0o755)
    done = clone.make("models", check=False, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert last_line(done).startswith("error: the network pipeline-")
    assert last_line(done).endswith("call 'make clean-all' in a clone that you no longer need")
    assert "could not find an available" in done.stdout


@pytest.fixture(scope="module")
def two(clone_at: Callable[[str], Clone]) -> tuple[list[Clone], list[str]]:
    """Two fresh clones whose first runs began at the same moment, and what those printed.

    No other clone has their image of preprocess, and each has a model of its own.
    """
    clones = [clone_at("one"), clone_at("two")]
    for number, clone in enumerate(clones):
        clone.edit("stages/preprocess/preprocess.py", "TARGET =", "# two clones at once\nTARGET =")
        clone.edit("params.yaml", "n_estimators: 100", f"n_estimators: {20 + number}")
    runs = [start(clone, "run") for clone in clones]
    printed = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(printed)
    return clones, printed


def test_two_clones_run_at_once(two: tuple[list[Clone], list[str]]) -> None:
    """Two first runs at the same moment both end well, each with a server, a port, a network and a model of its own."""
    clones, printed = two
    ports = [re.search(r"http://127\.0\.0\.1:(\d+)/", text)[1] for text in printed]
    assert len(set(ports)) == 2
    networks = [clone.docker("network", "ls", "--format", "{{.Name}}") for clone in clones]
    assert [len(names) for names in networks] == [1, 1] and networks[0] != networks[1]
    for clone in clones:
        (version,) = clone.registry()
        digest = sha256((clone.path / "models/model.json").read_bytes()).hexdigest()
        assert (version["version"], version["tags"]["model_sha256"]) == ("1", digest)


def test_a_second_run_in_the_same_clone_is_refused(two: tuple[list[Clone], list[str]]) -> None:
    """While a run goes on, another of the same clone is refused in one sentence, and the first goes on undisturbed."""
    clone = two[0][1]
    clone.edit("params.yaml", "n_estimators: 21", "n_estimators: 22")
    first = start(clone, "run", STOP_AT="train@train.py:fit")
    stopped = clone.path / ".local" / "stopped"
    wait_until(lambda: first.poll() is not None or list(stopped.glob("*")), "train fits")
    second = clone.make("run", check=False)
    for marker in stopped.iterdir():
        marker.unlink()
    printed = first.communicate()[0]
    assert second.returncode == 2
    assert re.fullmatch(
        r"error: make run is going on in this clone since [\d-]+ [\d:]+; expected its end first: wait for it, or call "
        r"with WAIT=1\nmake: .*\n",
        second.stdout,
    )
    assert first.returncode == 0, printed
    assert "ran train, evaluate" in printed
    assert stages_line(clone.make("run")) == NOTHING


def test_one_clone_goes_and_the_other_stays(two: tuple[list[Clone], list[str]]) -> None:
    """After `make clean-all` in one clone the other's server answers, and its run runs no stage and builds no image."""
    gone, stays = two[0]
    before = stays.registry()
    gone.make("clean-all", "YES=1")
    assert stays.registry() == before
    done = stays.make("run")
    assert stages_line(done) == NOTHING
    assert images_built(done) == []
    image = re.search(r"stages/preprocess:\w+", (stays.path / "dvc.yaml").read_text())[0]
    assert subprocess.run(["docker", "image", "inspect", image], stdout=subprocess.DEVNULL).returncode == 0
