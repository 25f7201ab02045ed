"""A copy of the working tree below .local, where sibling containers see it as well: for what tests and benchmarks do.

The copy holds what git tracks and what it does not ignore, so nothing that is done there touches the tree itself. What
the clones beside it made is deleted at the end, and what a killed one left when the next one begins.
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
    """The environment without this clone's settings: its token and its server are no business of a copy."""
    return {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(PASSED)}


def sweep(folder: Path) -> None:
    """Deletes what the clones below `folder` made, and `folder`."""
    for makefile in sorted(folder.glob("*/Makefile")):
        subprocess.run(
            ["sh", str(makefile.parent / "scripts" / "host" / "clean_all.sh")],
            env=os.environ | {"YES": "1"},
            stderr=subprocess.DEVNULL,
        )
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def working_tree(verb: str) -> Iterator[Path]:
    """A copy of the working tree for `make VERB`, in a new folder `.local/VERB-run-*` that its clones can lie in, too.

    All of it is swept when the block ends. Raises UserError where another one of the same verb is going on.
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
