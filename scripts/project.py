"""Where a clone keeps things, how a file is written whole, and the error that a user can act on."""

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class UserError(Exception):
    """A mistake that its reader can mend: the text is one sentence of what, found, expected, what to do next.

    `code` is what the runner exits with.
    """

    code = 1


class Unavailable(UserError):
    """The engine, a server, a remote or the network failed: the same call may work later."""

    code = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class Project:
    """The paths of a clone. `root` is the folder with the Makefile."""

    root: Path

    @property
    def env(self) -> Path:
        return self.root / ".env"

    @property
    def env_example(self) -> Path:
        return self.root / ".env.example"

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def dvc_yaml(self) -> Path:
        return self.root / "dvc.yaml"

    @property
    def dvc_lock(self) -> Path:
        return self.root / "dvc.lock"

    @property
    def dvc_config_local(self) -> Path:
        """DVC's settings of this machine, which git ignores."""
        return self.root / ".dvc" / "config.local"

    @property
    def rwlock(self) -> Path:
        """DVC's list of who reads and writes what."""
        return self.root / ".dvc" / "tmp" / "rwlock"

    @property
    def cache(self) -> Path:
        return self.root / ".dvc" / "cache"

    @property
    def local(self) -> Path:
        """This machine's own: MLflow's database and artifacts, the default DVC remote, logs. Git-ignored."""
        return self.root / ".local"

    @property
    def kept_lock(self) -> Path:
        """The last dvc.lock that was whole: DVC writes dvc.lock in place, so a kill can leave half of it."""
        return self.local / "dvc.lock"

    @property
    def dvc_remote(self) -> Path:
        return self.local / "dvc-remote"

    @property
    def logs(self) -> Path:
        return self.local / "logs"

    @property
    def mlflow(self) -> Path:
        return self.local / "mlflow"

    @property
    def mlflow_password(self) -> Path:
        """The password of the local MLflow server."""
        return self.local / "mlflow-password"

    @property
    def prestart(self) -> Path:
        """The inputs of stages whose container started before they were there."""
        return self.local / "early"

    @property
    def work(self) -> Path:
        """A folder a stage, into which its container writes."""
        return self.local / "work"

    @property
    def score(self) -> Path:
        """What a scorer's container is given and writes when it measures a model of the registry."""
        return self.local / "score"

    @property
    def made(self) -> Path:
        """An empty file for each record of a pipeline that this clone has published, named by its seal."""
        return self.local / "made"

    @property
    def publish(self) -> Path:
        """What the publishing process works on."""
        return self.local / "publish"


NOTEBOOKS = "notebooks"
"""The folder of the clone to which notebooks write, and which nothing of a run reads."""
ROOT = Path(__file__).resolve().parent.parent
PROJECT = Project(ROOT)
LOCAL = PROJECT.local


def may_be_cut_off(text: str) -> bool:
    """Return True if the last line of a file may lack its end: a value of 100 could be left as 10."""
    last = text.rpartition("\n")[2].strip()
    return bool(last) and not last.startswith("#")


def atomic_write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write `path` in one step: whoever reads it, also after a kill, finds the old content or the new one."""
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            os.fchmod(file.fileno(), mode)
        Path(part).replace(path)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` to `path` in one step, unless it holds that already; return whether it was written."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    atomic_write(path, text)
    return True


def words(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, and in place of T=... what it holds, split as a shell does, which expands nothing.

    Raise UserError if a quotation mark has no second one.
    """
    found = []
    for argument in arguments:
        try:
            found += shlex.split(argument[2:]) if argument.startswith("T=") else [argument]
        except ValueError as error:
            raise UserError(f"{argument}: {error}; expected arguments as in a shell, like T=\"-k 'a or b'\"") from None
    return found
