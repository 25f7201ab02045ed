"""Each make target does what README.md and CONTRIBUTING.md say of it, in a clone that has been run."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import OUTPUTS, Clone, Make

pytestmark = pytest.mark.docker


@pytest.fixture
def clone(started: tuple[Clone, Make]) -> Iterator[Clone]:
    """The started clone, its files put back after the test."""
    yield started[0]
    started[0].restore()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("help", r"make run-<stage> +Only this stage"),
        ("status", r"^iris-classifier  version 1, Production  no version was in production"),
        ("dag", r"\| evaluate \|"),
        ("metrics", r"^accuracy +0\.9( |$)"),
        ("models", r"^in production: \d"),
        ("lineage", r"^file +model/model\.json, SHA-256\n +\w{64}$"),
        ("publish", r"^model +iris-classifier version 1, published before: accuracy 0\.9000$"),
        ("plots", r"dvc_plots/index\.html"),
        ("ui", r"^MLflow: http://127\.0\.0\.1:\d+/\?password=\S+$"),
        ("setup-env", r"\.env: at hand"),
        ("setup-dvc", r"dvc\.yaml: up to date"),
        ("build", r"5 images are here, 0 of them built now"),
        ("lint", r"All checks passed!"),
        ("fmt", r"left unchanged"),
        ("lock", r"stages/train/requirements\.txt \.\.\."),
    ],
)
def test_target_shows_what_it_is_for(clone: Clone, target: str, shown: str) -> None:
    """The target ends well, shows what it is for, and changes no file that git knows."""
    assert re.search(shown, clone.make(target).stdout, re.M)
    assert clone.changes() == []


def test_check_finds_what_the_contract_lacks(clone: Clone) -> None:
    """`make check` says what is missing where, a line each, and ends badly; it starts nothing and changes nothing."""
    clone.edit("stages/train/train.py", "\nif __name__", "\nSEED = hash('a')\n\nif __name__")
    changes = clone.changes()
    done = clone.make("check", check=False)
    lines = [line for line in done.stdout.splitlines() if ": " in line and not line.startswith("make")]
    assert [line.split(": ")[1] for line in lines] == ["test", "test", "test", "hash"], done.stdout
    assert re.match(r"stages/train/train\.py:\d+: hash: it calls hash\(\); .*: use hashlib", lines[-1])
    assert "4 findings" in done.stdout and "Error 1" in done.stdout
    assert clone.changes() == changes


def test_plots_are_drawn(clone: Clone) -> None:
    """`make plots` draws all plots into one page."""
    clone.make("plots")
    page = (clone.path / "dvc_plots" / "index.html").read_text()
    plots = {"models/training.csv", "metrics/confusion.csv", "metrics/roc.csv", "metrics/importance.csv"}
    assert plots == {name for name in OUTPUTS if name in page}


def test_env_is_made_once_and_kept(clone: Clone) -> None:
    """.env is made from .env.example, readable by its owner alone, and what stands in it is never overwritten."""
    env = clone.path / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    before = env.read_text()
    assert before == (clone.path / ".env.example").read_text()
    try:
        env.write_text(before + "TRAIN_PIDS=300\n")
        clone.make("setup")
        assert env.read_text() == before + "TRAIN_PIDS=300\n"
    finally:
        env.write_text(before)


def test_run_push_fills_the_local_remote(clone: Clone) -> None:
    """`make run-push` runs, then pushes the outputs and the run-cache to .local/dvc-remote, once."""
    clone.make("run-push")
    remote = clone.path / ".local" / "dvc-remote"
    assert (remote / "runs").is_dir()
    before = {path: path.stat().st_mtime_ns for path in (remote / "files").rglob("*") if path.is_file()}
    assert len(before) >= len(OUTPUTS)
    clone.make("push")
    assert {path: path.stat().st_mtime_ns for path in (remote / "files").rglob("*") if path.is_file()} == before


def test_services_stop_and_keep_what_they_know(clone: Clone) -> None:
    """`make down` stops MLflow; `make ui` starts it again, at an address that answers, with the models that it had."""
    before = clone.registry()
    clone.make("down")
    assert not clone.docker("container", "ls", "--all", "--quiet")
    address = re.search(r"^MLflow: (http://.*)$", clone.make("ui").stdout, re.M)[1]
    # The address is the host's; from here it is reached through the host's own network. It logs in with a cookie.
    code = (
        "import http.cookiejar, sys, urllib.request as r; "
        "print(r.build_opener(r.HTTPCookieProcessor(http.cookiejar.CookieJar())).open(sys.argv[1]).status)"
    )
    seen = subprocess.run(
        ["docker", "run", "--rm", "--network", "host", os.environ["RUNNER_IMAGE"], "python", "-c", code, address],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert seen.stdout == "200\n"
    assert clone.registry() == before


def test_shell_has_the_environment_of_a_run(clone: Clone) -> None:
    """`make shell` has the variables that dvc.yaml names and the sections of params.yaml, and returns the exit code."""
    done = clone.make("shell", stdin='echo "[$TRAIN_MEMORY $train]"; exit 7\n', check=False)
    assert "[2g --n_estimators 100 --max_depth None" in done.stdout
    assert "Error 7" in done.stdout


def test_nothing_is_written_outside_the_clone(clone_at: Callable[[str], Clone]) -> None:
    """A run leaves nothing beside the clone."""
    clone = clone_at("alone/clone")
    clone.make("run-ingest")
    assert list(clone.path.parent.iterdir()) == [clone.path]


def test_clean_leaves_the_users_own_data(clone: Clone) -> None:
    """`make clean` deletes what stages made, and never a file that the user gave to DVC."""
    own = clone.path / "data" / "external" / "mine.csv"
    own.parent.mkdir(parents=True)
    own.write_text("a,b\n1,2\n")
    clone.make("shell", stdin="dvc add --quiet data/external/mine.csv\n")
    try:
        own.write_text("a,b\n1,2\n3,4\n")
        clone.make("clean")
        assert own.read_text() == "a,b\n1,2\n3,4\n"
        assert not any((clone.path / name).exists() for name in OUTPUTS)
    finally:
        subprocess.run(["rm", "-r", str(own.parent)], check=True)
        clone.make("run")


def test_what_is_published_of_uncommitted_work(clone: Clone) -> None:
    """The patch that is published has edits and new code, and nothing else of the clone; git is left alone."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 120")
    clone.edit(".env.example", "AWS_SESSION_TOKEN=", "AWS_SESSION_TOKEN=sekrit")
    new = {"stages/train/helper.py": "NEW = 1\n", ".env.bak": "DAGSHUB_TOKEN=sekrit\n", "notes.txt": "sekrit\n"}
    for name, text in new.items():
        (clone.path / name).write_text(text)
    before = clone.git("count-objects", "-v")
    try:
        patch = clone.python(
            "from scripts.registry import provenance; print(provenance.uncommitted(provenance.head()).decode())"
        )
    finally:
        for name in new:
            (clone.path / name).unlink()
    assert "+  n_estimators: 120" in patch and "+NEW = 1" in patch
    assert "sekrit" not in patch
    assert clone.git("count-objects", "-v") == before
