"""One attempt of a task, on a worker: calls task.sh, hands on what it prints, and says what its end means."""

import base64
import hashlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

AGAIN = 75
"""The exit code after which a task is tried again (EX_TEMPFAIL): a fault of an engine, a server or a network."""
GRACE = 45  # seconds that an attempt has to end: its stage has ten of them, and its clone is put in order
LARGEST = 1 << 20  # bytes of a patch, which travels in the run's parameters
LONGEST = 2000  # characters of a line; a stage's output is a stranger's
OF_MAKE = re.compile(r"make(\[\d+\])?: ")
"""How make begins its own last line, which says no more than that something failed."""
ERROR = "error: "
"""How the sentence of a fault begins; a note about what is left may follow it."""


class End(NamedTuple):
    """How an attempt ended: its exit code (of a signal 128 and its number), and its last error, else its last line."""

    code: int
    sentence: str


class Attempt:
    """An attempt that runs, with all its processes in a group of their own."""

    def __init__(self, command: Sequence[str], clone: Path) -> None:
        self._command = command
        self._clone = clone
        self._process: subprocess.Popen[bytes] | None = None
        self._is_to_stop = False

    def run(self, say: Callable[[str], object]) -> End:
        """Run it to its end; `say` gets each line that it prints."""
        last = error = ""
        with subprocess.Popen(
            self._command,
            cwd=self._clone,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            self._process = process
            if self._is_to_stop:  # it was stopped as it began
                self.stop()
            assert process.stdout
            while line := process.stdout.readline(LONGEST):
                text = shown(line)
                say(text)
                if text.startswith(ERROR):
                    error = text.strip()
                elif text.strip() and not OF_MAKE.match(text):
                    last = text.strip()
        code = process.returncode
        said = error or last or f"{self._command[0]} ended with {code} and said nothing"
        return End(code if code >= 0 else 128 - code, said)

    def stop(self) -> None:
        """End it, as Ctrl-C would: make, the runner and the stage's container end in order."""
        self._is_to_stop = True
        if not self._process or self._process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def shown(line: bytes) -> str:
    """Return a line without what moves a cursor or breaks a page."""
    text = line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
    return "".join(each if each.isprintable() or each == "\t" else "?" for each in text)


def packed(patch: bytes) -> str:
    """Return a patch as it travels in the parameters of a run."""
    return base64.b64encode(zlib.compress(patch, 9)).decode()


def unpacked(text: str, sha256: str) -> bytes:
    """Return the patch that `packed` was given. Raise ValueError if it is another one, or too large."""
    unpacking = zlib.decompressobj()
    try:
        patch = unpacking.decompress(base64.b64decode(text, validate=True), LARGEST + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(patch) > LARGEST or hashlib.sha256(patch).hexdigest() != sha256:
        raise ValueError(f"the patch of this run is not the one with the hash {sha256}")
    return patch


def keep(patch: bytes, clone: Path) -> str:
    """Write a patch to where task.sh looks for it, under its hash; return that."""
    name = hashlib.sha256(patch).hexdigest()
    path = clone / ".local" / "airflow" / "patches" / f"{name}.patch"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(patch)
        Path(part).replace(path)
    return name


def hostname() -> str:
    """Return where Airflow's API server asks this worker for a log: an address, on another machine."""
    return os.environ.get("WORKER_ADDRESS") or socket.gethostname()
