"""Copies of the working tree below .local, where sibling containers see them too, for tests and benchmarks.

A copy has all files that git does not ignore; whatever is done there leaves the tree itself alone. What the clones
beside a copy created is deleted at the end or, if that was killed, when the next copy is made.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.project import LOCAL, ROOT, UserError

KEPT = ("PATH", "HOME", "USER", "LANG", "TERM", "CI", "PYTHON_IMAGE", "RUNNER_IMAGE", "RUNNER_SOCKET", "CLONE")
KEPT += ("DVC_NO_ANALYTICS", "DVC_STUDIO_OFFLINE", "DO_NOT_TRACK", "DAGSHUB_QUIET", "MLFLOW_DISABLE_TELEMETRY")
PASSED = ("PIP_", "HTTP", "NO_PROXY", "http", "no_proxy", "SSL_", "REQUESTS_", "PYTHON", "MLFLOW_HTTP", "GIT_P")


def copy_tree(target: Path) -> None:
    """Copy the working tree to `target` as a git repository of one commit."""
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
    """Return the environment without this clone's settings: a copy has no use for its token and its server."""
    return {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(PASSED)}


def sweep(folder: Path) -> None:
    """Delete what the clones below `folder` created, and `folder`."""
    for makefile in sorted(folder.glob("*/Makefile")):
        subprocess.run(
            ["sh", str(makefile.parent / "scripts" / "host" / "clean_all.sh")],
            env=os.environ | {"YES": "1"},
            stderr=subprocess.DEVNULL,
        )
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def working_tree(verb: str) -> Iterator[Path]:
    """Copy the working tree for `make VERB` into a new folder `.local/VERB-run-*`, which has room for clones as well.

    Delete all of it when the block ends. Raise UserError if another `make VERB` is going on.
    """
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / f"{verb}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another 'make {verb}' of this clone is going on; wait for its end") from None
        for left in LOCAL.glob(f"{verb}-run-*/"):
            sweep(left)
        folder = Path(tempfile.mkdtemp(prefix=f"{verb}-run-", dir=LOCAL))
        try:
            copy_tree(folder / "source")
            yield folder / "source"
        finally:
            sweep(folder)
