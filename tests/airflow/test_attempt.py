"""scripts/airflow/task.sh with no engine: what it refuses, the clone that it makes, and how it ends."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.unit.conftest import GIT, FakeDocker

ROOM = ROOT / "scripts" / "airflow"
pytestmark = pytest.mark.skipif(not ROOM.exists(), reason="the room is taken out")
RUNNER = """\
#!/bin/sh
cd "$(dirname "$0")/../.."
echo "$* of $PWD on ${AIRFLOW_NETWORK:-}" >> "$LOG"
[ "$1" = airflow_stage ] || exit "${UI:-0}"
mkdir -p .local && touch .local/place
cp -R . "$SEEN"
eval "${RUNS:-exit 0}"
"""
"""What stands for scripts/host/runner.sh: it notes how it was called, keeps a copy of the clone, and ends as told."""


class Main:
    """A clone in which task.sh is called, and what came of it."""

    def __init__(self, path: Path, docker: FakeDocker) -> None:
        self.path, self.docker = path, docker
        self.seen, self.log = path.parent / "seen", path.parent / "runner.log"

    def git(self, *arguments: str) -> str:
        return subprocess.run([*GIT, *arguments], cwd=self.path, check=True, capture_output=True, text=True).stdout

    @property
    def commit(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def commit_all(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a commit")
        return self.commit

    def command(self, *words: str) -> list[str]:
        return ["sh", str(self.path / "scripts" / "airflow" / "task.sh"), *words]

    def environ(self, **variables: str) -> dict[str, str]:
        return os.environ | {"LOG": str(self.log), "SEEN": str(self.seen)} | variables

    def task(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call it, from another folder."""
        return subprocess.run(
            self.command(*words), cwd="/", env=self.environ(**variables), capture_output=True, text=True, timeout=60
        )

    def attempt(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call it for a commit that is there."""
        return self.task("run", "fit", "1", self.commit, *words, **variables)

    def folder(self, name: str = "run/fit/1") -> Path:
        return self.path / ".local" / "airflow" / name


@pytest.fixture
def main(tmp_path: Path, docker: FakeDocker) -> Main:
    path = tmp_path / "main"
    for name in (
        "scripts/airflow/task.sh",
        "scripts/host/lib.sh",
        "scripts/host/places.sh",
        ".env.example",
        ".gitignore",
        ".dvc/config",
    ):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path / name)
    (path / "scripts" / "host" / "runner.sh").write_text(RUNNER)
    (path / ".dvc" / ".gitignore").write_text("/config.local\n")
    (path / "dvc.yaml.template").write_text("stages:\n")
    (path / "code.txt").write_text("one\n")
    subprocess.run([*GIT, "init", "--quiet", str(path)], check=True)
    found = Main(path, docker)
    found.commit_all()
    return found


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return fake


# --- the clone


def test_an_attempt_works_in_a_clone_of_its_own(main: Main) -> None:
    """The stage is called in a fresh clone of the commit, whatever this one has checked out or edited, with this one's
    network; a run may be called as Airflow calls its runs. Nothing of it is left."""
    commit = main.commit
    (main.path / "code.txt").write_text("two\n")
    main.commit_all()
    (main.path / "code.txt").write_text("three\n")
    done = main.task("manual__2026-11-27T12:00:00.5+00:00", "fit@fr", "2", commit)
    assert done.returncode == 0, done.stderr
    folder = main.folder("manual__2026-11-27T12_00_00.5_00_00/fit@fr/2")
    network = subprocess.run(
        ["git", "hash-object", "--stdin"], input=str(main.path), capture_output=True, text=True
    ).stdout[:12]
    assert main.log.read_text() == (
        f"airflow_stage stage=fit@fr run=manual__2026-11-27T12_00_00.5_00_00 main={main.path} "
        f"network=pipeline-{network} of {folder} on pipeline-{network}\n"
    )
    assert (main.seen / "code.txt").read_text() == "one\n"
    head = subprocess.run([*GIT, "-C", main.seen, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert head.strip() == commit
    assert [*main.folder(".").rglob("*")] == []


def test_an_attempt_has_the_settings_of_its_clone(main: Main) -> None:
    """.env, the password of the local MLflow server, logins at registries of images, DVC's own settings and the default
    remote are this clone's, and no more readable than here."""
    (main.path / ".local").mkdir()
    (main.path / ".env").write_text("A=1\n")
    (main.path / ".local" / "mlflow-password").write_text("secret")
    login = main.path / ".local" / "home" / ".docker" / "config.json"
    login.parent.mkdir(parents=True)
    login.write_text("{}")
    (main.path / ".dvc" / "config.local").write_text(
        "['remote \"nas\"']\n    url = ../../nas\n['remote \"s3\"']\n    url = s3://b/c\n[cache]\n    dir = /big\n"
    )
    assert main.attempt(RUNS='ls -l .local/dvc-remote > "$SEEN/link"').returncode == 0
    assert (main.seen / ".env").read_text() == "A=1\n"
    assert (main.seen / ".local" / "mlflow-password").read_text() == "secret"
    assert (main.seen / login.relative_to(main.path)).read_text() == "{}"
    assert (main.seen / ".dvc" / "config.local").read_text() == (
        f"['remote \"nas\"']\n    url = {main.path.parent}/nas\n"
        "['remote \"s3\"']\n    url = s3://b/c\n[cache]\n    dir = /big\n"
    )
    assert f"-> {main.path}/.local/dvc-remote\n" in (main.seen / "link").read_text()
    modes = [(main.seen / name).stat().st_mode & 0o077 for name in (".env", ".dvc/config.local", ".local")]
    assert modes == [0, 0, 0]


def test_a_clone_without_settings_is_as_good(main: Main) -> None:
    """Without a .env the attempt has that of .env.example."""
    assert main.attempt().returncode == 0
    assert (main.seen / ".env").read_text() == (ROOT / ".env.example").read_text()


@pytest.mark.parametrize(
    ("stage", "template", "starts"),
    [
        ("publish", "", True),
        ("fit", "", False),
        ("fit", '{{ stage("fit", network="mlflow") }}', True),
        ("fit", "{{ stage('fit', network = 'mlflow') }}", True),
        ("fit", '{{ stage("fit", network="internet") }}', False),
    ],
)
def test_the_local_server_is_this_clones(main: Main, stage: str, template: str, starts: bool) -> None:
    """MLflow is started in this clone if it may be needed, and its password is not shown."""
    (main.path / "dvc.yaml.template").write_text(f"stages:\n{template}\n")
    main.commit_all()
    done = main.task("run", stage, "1", main.commit, RUNS="touch dvc.lock")
    assert done.returncode == 0, done.stderr
    assert main.log.read_text().startswith(f"ui of {main.path} on \n") is starts


def test_a_commit_is_fetched_if_it_is_not_here(main: Main, tmp_path: Path) -> None:
    """A commit that only origin has is fetched from there, also if no branch of this clone knows it."""
    origin = tmp_path / "origin"
    subprocess.run([*GIT, "clone", "--quiet", str(main.path), str(origin)], check=True)
    main.git("remote", "add", "origin", str(origin))
    (origin / "code.txt").write_text("new\n")
    there = Main(origin, main.docker)
    commit = there.commit_all()
    done = main.task("run", "fit", "1", commit)
    assert done.returncode == 0, done.stderr
    assert (main.seen / "code.txt").read_text() == "new\n"


def test_objects_elsewhere_are_found(main: Main, tmp_path: Path) -> None:
    """A clone that has its objects elsewhere itself, or is a worktree, makes an attempt all the same."""
    for name, command in (("shared", ["clone", "--shared"]), ("tree", ["worktree", "add"])):
        path = tmp_path / name
        source = [str(main.path), str(path)] if name == "shared" else [str(path)]
        subprocess.run([*GIT, "-C", str(main.path), *command, "--quiet", *source], check=True, capture_output=True)
        shutil.rmtree(main.seen, ignore_errors=True)
        done = Main(path, main.docker).task("run", "fit", "1", main.commit)
        assert done.returncode == 0, done.stderr


# --- a patch


@pytest.fixture
def patch(main: Main) -> tuple[str, Path]:
    """Return the SHA-256 of a patch of what is not committed, and its file where patches are."""
    (main.path / "code.txt").write_text("patched\n")
    data = main.git("diff", "--binary").encode()
    main.git("checkout", "--quiet", ".")
    digest = hashlib.sha256(data).hexdigest()
    path = main.path / ".local" / "airflow" / "patches" / f"{digest}.patch"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return digest, path


@pytest.mark.parametrize("form", ["digest", "name", "path", "elsewhere"])
def test_a_patch_is_applied(main: Main, patch: tuple[str, Path], tmp_path: Path, form: str) -> None:
    """What is not committed is there, named by its hash, by its file's name or by a path; it stays where it is."""
    digest, path = patch
    shutil.copy(path, tmp_path)
    word = {"digest": digest, "name": path.name, "path": str(path), "elsewhere": str(tmp_path / path.name)}[form]
    done = main.attempt(word)
    assert done.returncode == 0, done.stderr
    assert (main.seen / "code.txt").read_text() == "patched\n" and path.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.write_text(path.read_text() + "\n"), "expected the one that it is called by"),
        (lambda path: path.write_text(""), "expected the one that it is called by"),
        (lambda path: path.unlink(), "expected the patch of what is not committed"),
    ],
    ids=["longer", "empty", "gone"],
)
def test_another_patch_is_refused(
    main: Main, patch: tuple[str, Path], change: Callable[[Path], object], says: str
) -> None:
    """A patch that does not have its hash, or is not there, is refused in a sentence, and nothing runs."""
    change(patch[1])
    done = main.attempt(patch[0])
    assert done.returncode == 1 and says in done.stderr
    assert not main.log.exists()


def test_a_patch_of_another_commit_is_refused(main: Main, patch: tuple[str, Path]) -> None:
    """A patch that does not fit the commit is refused in a sentence."""
    (main.path / "code.txt").write_text("another\n")
    main.commit_all()
    done = main.attempt(patch[0])
    assert done.returncode == 1 and "does not fit commit" in done.stderr and not main.log.exists()


# --- how it ends


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "fit", "1"), "expected RUN STAGE TRY COMMIT"),
        (("run", "fit", "1", "COMMIT", "a", "b"), "expected RUN STAGE TRY COMMIT"),
        (("", "fit", "1", "COMMIT"), "the run is called ''"),
        (("..", "fit", "1", "COMMIT"), "the run is called '..'"),
        (("patches", "fit", "1", "COMMIT"), "the run is called 'patches'"),
        (("run", "", "1", "COMMIT"), "the stage is ''"),
        (("run", "../fit", "1", "COMMIT"), "the stage is '../fit'"),
        (("run", "-fit", "1", "COMMIT"), "the stage is '-fit'"),
        (("run", "fit", "", "COMMIT"), "the try is ''"),
        (("run", "fit", "1/..", "COMMIT"), "the try is '1/..'"),
        (("run", "fit", "1", "main"), "the commit is 'main'"),
        (("run", "fit", "1", "COMMIT", "../a.patch"), "the patch is '../a.patch'"),
        (("run", "fit", "1", "COMMIT", "abc"), "expected a file that is called by its SHA-256"),
        (("run", "fit", "1", "0" * 40), "is not here, and there is no remote origin"),
    ],
)
def test_what_cannot_be_meant_is_refused(main: Main, words: tuple[str, ...], says: str) -> None:
    """Words that name no run, stage, try, commit or patch are refused with code 1 and a sentence; nothing runs."""
    done = main.task(*(word.replace("COMMIT", main.commit) for word in words))
    assert done.returncode == 1 and says in done.stderr, done
    assert done.stderr.count("error: ") == 1 and not main.log.exists()


def test_a_commit_that_nobody_has_is_the_users_fault(main: Main, tmp_path: Path) -> None:
    """A commit that was never pushed is never tried again; if origin does not answer, it is."""
    subprocess.run([*GIT, "clone", "--quiet", "--bare", str(main.path), str(tmp_path / "origin")], check=True)
    main.git("remote", "add", "origin", str(tmp_path / "origin"))
    done = main.task("run", "fit", "1", "0" * 40)
    assert done.returncode == 1 and "is neither here nor at origin" in done.stderr
    main.git("remote", "set-url", "origin", str(tmp_path / "away"))
    done = main.task("run", "fit", "1", "0" * 40)
    assert done.returncode == 75 and "origin did not give it" in done.stderr


def test_a_commit_without_this_room_is_refused(main: Main) -> None:
    """A commit from before there was a task is named."""
    task = main.path / "scripts" / "airflow" / "task.sh"
    text = task.read_text()
    task.unlink()
    commit = main.commit_all()
    task.write_text(text)
    done = main.task("run", "fit", "1", commit)
    assert done.returncode == 1 and "has no scripts/airflow/task.sh" in done.stderr


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        *((f"exit {code}", code) for code in (0, 1, 65, 66, 75)),
        *((f"exit {code}", 75) for code in (2, 125, 130, 137, 143)),
        ("kill -9 $$", 75),
        ("rm .local/place; exit 1", 75),
    ],
)
def test_how_the_runner_ends_is_how_the_task_ends(main: Main, runs: str, code: int) -> None:
    """The runner's own codes are the task's, and so is its last line; a runner that was killed, or never started, is
    worth another try. What did not end well is kept to be looked at, without its secrets."""
    (main.path / ".env").write_text("DAGSHUB_TOKEN=secret\n")
    done = main.attempt(RUNS=f"echo 'error: why' >&2; {runs}")
    if runs in ("exit 1", "exit 65", "exit 66", "exit 75"):
        assert done.stderr.splitlines()[-1] == "error: why"
    assert done.returncode == code, done.stderr
    assert main.folder().exists() is (code != 0)
    assert list(main.folder(".").rglob(".env")) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_engine_that_is_away_is_worth_another_try(main: Main, when: str) -> None:
    """Without an engine the task ends with 75, also if it went away while the stage ran."""
    engine = main.path.parent / "engine"
    engine.touch()
    main.docker.does("version", f"test -e '{engine}'")
    if when == "before":
        engine.unlink()
    assert main.attempt(RUNS=f"rm '{engine}'; exit 1").returncode == 75


@pytest.mark.parametrize(("ui", "code"), [("1", 1), ("75", 75), ("125", 75)])
def test_a_server_that_does_not_start_ends_the_task(main: Main, ui: str, code: int) -> None:
    """Settings that cannot work are the user's fault; all else is tried again."""
    assert main.task("run", "publish", "1", main.commit, UI=ui).returncode == code
    assert "airflow_stage" not in main.log.read_text()


def test_the_last_task_hands_over_the_lock(main: Main) -> None:
    """dvc.lock of the last task's clone stays under the run's name, and this clone's own is not touched."""
    (main.path / "dvc.lock").write_text("mine\n")
    runs = "echo theirs > dvc.lock; mkdir .local/made; touch .local/made/seal"
    assert main.task("run", "publish", "1", main.commit, RUNS=runs).returncode == 0
    assert [path.name for path in main.folder("run").iterdir()] == ["dvc.lock"]
    assert main.folder("run/dvc.lock").read_text() == "theirs\n"
    assert (main.path / "dvc.lock").read_text() == "mine\n"
    assert (main.path / ".local" / "made" / "seal").exists()


def test_tries_before_are_ended_and_cleared(main: Main) -> None:
    """A new try removes the containers of those before it, hands their claims on images on, and deletes their folders
    when it has ended well."""
    assert main.attempt(RUNS="exit 75").returncode == 75
    main.docker.does("container ls", "echo c1")
    main.docker.does("image ls", "echo fit")
    main.docker.log.unlink()
    assert main.task("run", "fit", "2", main.commit).returncode == 0
    asked = "\n".join(main.docker.asked)
    assert asked.count("container rm --force c1") == 2 and ":fit stages/clone-" in asked and ":airflow-fit" in asked
    assert not main.folder("run").exists()


def test_it_ends_with_its_caller(main: Main) -> None:
    """If the process is killed that called it, or one above that, the runner is told to end at once: its retry would
    work beside it."""
    ended, pid = main.path.parent / "ended", main.path.parent / "pid"
    runs = f"trap 'touch {ended}; exit 143' TERM; touch {pid}; while :; do sleep 0.1; done"
    and_more = ("sh", "-c", '"$@"; :', "sh")  # a shell that has its command for a child
    caller = subprocess.Popen(
        [*and_more, *and_more, *main.command("run", "fit", "1", main.commit)],
        env=main.environ(RUNS=runs),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(pid)
        caller.kill()
        wait_for(ended)
    finally:
        caller.wait()


def wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {path.name}"
        time.sleep(0.05)


def test_tasks_that_begin_at_once_make_one_network(main: Main) -> None:
    """The engine would make two of one name, and then serve neither."""
    made = main.path.parent / "networks"
    main.docker.does("network inspect", f"test -s '{made}'")
    main.docker.does("network create", f"sleep 0.5; echo made >> '{made}'")
    tasks = [
        subprocess.Popen(main.command(run, "fit", "1", main.commit), env=main.environ(), stderr=subprocess.PIPE)
        for run in ("one", "two", "three")
    ]
    for task in tasks:
        _, said = task.communicate(timeout=60)
        assert task.returncode == 0, said
    assert made.read_text() == "made\n"
