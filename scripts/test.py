"""Runs the tests on a copy of the working tree below .local, where sibling containers see it as well.

The copy holds what git tracks and what it does not ignore, so nothing that a test does touches the tree itself. What
the tests' clones made is deleted when they end, and what a killed test run left when the next one begins.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.project import LOCAL, ROOT, UserError

PREFIX = "test-run-"
OUTPUT = LOCAL / "test-output"
"""What tests leave for people to look at: screenshots of MLflow's pages."""
KEPT = ("PATH", "HOME", "USER", "LANG", "TERM", "CI", "PYTHON_IMAGE", "RUNNER_IMAGE", "RUNNER_SOCKET", "CLONE")
KEPT += ("DVC_NO_ANALYTICS", "DVC_STUDIO_OFFLINE", "DO_NOT_TRACK", "DAGSHUB_QUIET", "MLFLOW_DISABLE_TELEMETRY")
PASSED = ("PIP_", "HTTP", "NO_PROXY", "http", "no_proxy", "SSL_", "REQUESTS_", "PYTHON", "MLFLOW_HTTP", "GIT_P")


def copy_tree(target: Path) -> None:
    """Copies the working tree to `target` as a git repository of one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], stdout=subprocess.PIPE, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "the working tree"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *identity, *command], cwd=target, check=True)


def clean_environment() -> dict[str, str]:
    """The environment without this clone's settings: its token and its server are no business of a test."""
    return {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(PASSED)}


def sweep(folder: Path) -> None:
    """Deletes what the clones below `folder` made, and `folder`."""
    for makefile in sorted(folder.glob("*/Makefile")):
        subprocess.run(
            ["sh", str(makefile.parent / "scripts" / "clean_all.sh")],
            env=os.environ | {"YES": "1"},
            stderr=subprocess.DEVNULL,
        )
    shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "test.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("another 'make test' of this clone is going on; wait for its end") from None
        for left in LOCAL.glob(f"{PREFIX}*/"):
            sweep(left)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=LOCAL))
        try:
            source = folder / "source"
            copy_tree(source)
            OUTPUT.mkdir(exist_ok=True)
            environ = clean_environment() | {"PYTHONPATH": str(source / "stages" / "base"), "TEST_OUTPUT": str(OUTPUT)}
            # Two files at a time: the tests wait for containers more than they compute.
            command = [sys.executable, "-m", "pytest", "--numprocesses", "2", "--dist", "loadfile", *arguments]
            return subprocess.run(command, cwd=source, env=environ).returncode
        finally:
            sweep(folder)
