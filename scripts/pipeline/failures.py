"""Why a stage failed, in one sentence that its reader can act on."""

import os
import re
from datetime import UTC, datetime

from scripts import settings
from scripts.pipeline.console import harmless
from scripts.pipeline.containers import docker, of_this_clone
from scripts.pipeline.stage import block, prefix
from scripts.project import Project

TRANSIENT = re.compile(
    "Cannot connect to the Docker daemon|error during connect|unexpected EOF|connection reset|context deadline exceeded"
    "|TLS handshake timeout|device or resource busy|resource temporarily unavailable|transport is closing|ttrpc: closed"
)
"""What the engine says when it fails for reasons of its own, and not because of what it was asked for."""
SIGNALS = {
    "132": "an instruction that this processor does not have: expected packages that are built for it",
    "134": "its own abort: its last words say why",
    "135": "a bus error, most often of a full /dev/shm, which has 64 MB in a container: expected more of it, as by "
    'shm="1g" in its block, or less use, as with fewer worker processes',
    "136": "an arithmetic error",
    "139": "a segmentation fault: expected none, so look for the package that is written in C and was called last",
}
"""What a signal means that ends a process which did something wrong, by exit code: 128 and the signal's number."""
NO_GPU = re.compile(r"could not select device driver|nvidia-container-cli|no known GPU vendor|no such device.*nvidia")
"""What the engine says if it has no GPU, or none that it can give."""
TRACEBACK, APP = "Traceback (most recent call last):", "/app/"
FRAME = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+)')
EXCEPTION = re.compile(r"(?!ERROR\b)[\w.]+(:|$)")
"""How Python prints an exception; a stage's own files are in /app of its image."""
NOT_STARTED = "125"
"""What `docker run` exits with if the engine, and not the container, failed."""


def is_transient(printed: list[str]) -> bool:
    """Return whether a stage failed because the engine could not start or keep a container just then.

    Its own words are not believed: only Docker's exit code makes them Docker's.
    """
    return _code(printed) == NOT_STARTED and any(
        line.startswith(("docker: ", "error ", "time=")) and TRANSIENT.search(line) for line in printed
    )


def _code(printed: list[str]) -> str:
    """Return the exit code that DVC's last words name; empty if they name none."""
    return next((match[1] for line in reversed(printed) if (match := re.search(r"exited with (\d+)$", line))), "")


def was_ended_from_outside(printed: list[str], stage: str, *, starved: bool, ran: float) -> bool:
    """Return whether something else than the stage and its limits ended it: the same stage may end well."""
    said = any(line.startswith("error: ") for line in printed)
    return _code(printed) in ("137", "143") and not (said or starved or _ran_out_of_time(printed, stage, ran))


def _ran_out_of_time(printed: list[str], stage: str, ran: float) -> bool:
    limit = settings.seconds(os.environ.get(f"{prefix(stage)}_TIMEOUT", "0"))
    code = _code(printed)
    return code == "124" or bool(code == "137" and limit and ran > limit)  # 137: it did not end when it was told to


def _exception(printed: list[str], stage: str) -> str:
    """Return the last exception that Python printed, and the last line of the stage's own files that led to it."""
    begin = next((at for at in reversed(range(len(printed))) if printed[at].startswith(TRACEBACK)), None)
    if begin is None:
        return ""
    end = next((at for at in range(begin + 1, len(printed)) if not printed[at].startswith(" ")), None)
    frames = [match for line in printed[begin:end] if (match := FRAME.match(line))]
    own = [match for match in frames if match["file"].startswith(APP)] or frames
    if end is None or not own or not EXCEPTION.match(printed[end]):
        return ""
    file = own[-1]["file"]
    place = f"stages/{block(stage)}/{file.removeprefix(APP)}" if file.startswith(APP) else file
    return f"{printed[end][:300]}, in {place}, line {own[-1]['line']}"


def ran_out_of_memory(stage: str, since: datetime) -> bool:
    """Return whether the engine saw a container of `stage` go over its memory limit since then."""
    oom = ["--filter", of_this_clone(), "--filter", f"label=pipeline.stage={stage}", "--filter", "event=oom"]
    return bool(docker("events", "--since", since.isoformat(), "--until", datetime.now(UTC).isoformat(), *oom))


def why(
    printed: list[str], stage: str, project: Project, *, starved: bool, ran: float = 0, log: str = "run.log"
) -> str:
    """Return why `stage` failed, in one sentence, from what it printed; the last lines are DVC's.

    `ran` are the seconds that it ran, `starved` is whether the engine saw it go over its memory limit, `log` the file
    of project.logs with all lines.
    """
    printed = [harmless(line) for line in printed]
    said = [line.removeprefix("error: ") for line in printed if line.startswith("error: ")]
    if said:
        return said[-1]
    by_docker = [line for line in printed if line.startswith(("docker: ", "invalid argument "))]
    code = _code(printed)
    log = f"see above or {(project.logs / log).relative_to(project.root)}"
    if code == NOT_STARTED and by_docker and NO_GPU.search(by_docker[-1]):
        return (
            f"stage {stage} asks for a GPU (gpus in its block), and the Docker engine has none to give; expected "
            "NVIDIA's driver and container toolkit on its machine: install them, or set "
            f"{prefix(stage)}_GPUS=none in .env"
        )
    if code == NOT_STARTED and by_docker:
        hint = ": 'make build' builds it" if "No such image" in by_docker[-1] else f"; is a limit in .env wrong? {log}"
        return f"stage {stage} could not be started, {by_docker[-1].removeprefix('docker: ').rstrip('.')}{hint}"
    variable = prefix(stage)
    if code and starved:
        memory = f"{variable}_MEMORY"
        return f"stage {stage} was killed for more memory than {os.environ.get(memory)}: set {memory} in .env; {log}"
    timeout = f"{variable}_TIMEOUT"
    if _ran_out_of_time(printed, stage, ran):
        return f"stage {stage} took longer than {os.environ.get(timeout)}: set {timeout} in .env; {log}"
    if code in SIGNALS:
        return f"stage {stage} ended by {SIGNALS[code]} (exit code {code}); {log}"
    if code in ("137", "143"):
        return f"stage {stage} was killed from outside (exit code {code}); expected it to end by itself: run again"
    if code:
        exception = f" ({crash})" if (crash := _exception(printed, stage)) else ""
        return f"stage {stage} crashed with exit code {code}{exception}; expected 0, or 2 with a sentence: {log}"
    by_dvc = [line.removeprefix("ERROR: ") for line in printed if line.startswith("ERROR: ")]
    if by_dvc and (missing := re.match(r"failed to reproduce '(.+)': \[Errno 2\].*: '(.+)'", by_dvc[-1])):
        path = os.path.relpath(missing[2], project.root)
        return f"stage {missing[1]} reads {path}, which is missing; expected a file: add it, or name another one"
    return f"{by_dvc[-1].rstrip('.')}: {log}" if by_dvc else f"stage {stage} failed: {log}"
