"""`make run`: render, build what is missing, start what is needed, dvc repro, publish, report."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from scripts import build, environment, heal, images, publish, render, services
from scripts.docker import docker, of_this_clone
from scripts.project import LOCAL, ROOT, UserError

LOG = LOCAL / "logs" / "run.log"
TRIES = 3
TRANSIENT = re.compile(
    "Cannot connect to the Docker daemon|error during connect|unexpected EOF|connection reset|context deadline exceeded"
    "|TLS handshake timeout|device or resource busy|resource temporarily unavailable|transport is closing|ttrpc: closed"
)
"""What the engine says when it is the engine's moment that is bad, and not what it was asked for."""


def reproduce(targets: list[str]) -> list[str]:
    """Runs `dvc repro`, showing and logging what it prints; the names of the stages that ran.

    A transient fault of the engine is tried again. Raises UserError where a stage fails: with the stage's own sentence
    if it gave one.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    ran: list[str] = []
    since = datetime.now(UTC)
    tries = TRIES
    with LOG.open("w") as log:
        while True:
            code, printed = dvc_repro(targets, log)
            ran += [match[1] for line in printed if (match := re.match(r"Running stage '(.+)':", line))]
            if not code:
                return list(dict.fromkeys(ran))
            tries -= 1
            if not (tries and is_transient(printed)):
                stage = ran[-1] if ran else ""
                raise UserError(killed(code) or why_it_failed(printed, stage, starved=ran_out_of_memory(stage, since)))
            print("the Docker engine did not answer as it should: trying again ...", flush=True)
            time.sleep(2)


def dvc_repro(targets: list[str], log: TextIO) -> tuple[int, list[str]]:
    """The exit code of one `dvc repro`, and the lines that it printed; no stage of it is left when this ends."""
    printed = []
    with dvc("repro", *targets) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            log.write(line)
            printed.append(line.rstrip())
            if line.startswith("Running stage "):  # the one before it has ended
                heal.keep_dvc_lock()
        process.wait()
    heal.keep_dvc_lock()
    return process.returncode, printed


@contextmanager
def dvc(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of DVC. When the block ends it has ended, and so has any stage that it had started."""
    process = subprocess.Popen(
        ["dvc", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",  # a stage may print what is no UTF-8
    )
    try:
        yield process
    finally:
        if process.returncode != 0:
            process.send_signal(signal.SIGINT)  # DVC waits for its stage; no other one begins
            heal.stop_stages()
            try:
                process.communicate(timeout=heal.GRACE)
            except subprocess.TimeoutExpired:
                process.kill()


def is_transient(printed: list[str]) -> bool:
    """Whether `dvc repro` failed because the engine could not start or keep a container just then."""
    return any(line.startswith(("docker: ", "error ", "time=")) and TRANSIENT.search(line) for line in printed)


def killed(code: int) -> str:
    """The sentence for a DVC that a signal ended, which is negative as an exit code; else empty."""
    return (
        f"dvc was killed (signal {-code}); expected it to end by itself: run again, which goes on" if code < 0 else ""
    )


def ran_out_of_memory(stage: str, since: datetime) -> bool:
    """Whether the engine saw a container of `stage` go over its memory limit since then."""
    oom = ["--filter", of_this_clone(), "--filter", f"label=pipeline.stage={stage}", "--filter", "event=oom"]
    return bool(docker("events", "--since", since.isoformat(), "--until", datetime.now(UTC).isoformat(), *oom))


def why_it_failed(printed: list[str], stage: str, *, starved: bool) -> str:
    """One sentence of what `dvc repro` printed before it failed in `stage` (empty: before any stage ran).

    `starved`: whether the engine saw it go over its memory limit.
    """
    said = [line.removeprefix("error: ") for line in printed if line.startswith("error: ")]
    if said:
        return said[-1]
    by_docker = [line for line in printed if line.startswith(("docker: ", "invalid argument "))]
    code = next((match[1] for line in printed if (match := re.search(r"exited with (\d+)$", line))), "")
    log = f"see above or {LOG.relative_to(ROOT)}"
    if code == "125" and by_docker:
        hint = ": 'make build' builds it" if "No such image" in by_docker[-1] else f"; is a limit in .env wrong? {log}"
        return f"stage {stage} could not be started, {by_docker[-1].removeprefix('docker: ').rstrip('.')}{hint}"
    variable = environment.prefix(stage)
    if code and starved:
        memory = f"{variable}_MEMORY"
        return f"stage {stage} was killed for more memory than {os.environ.get(memory)}: set {memory} in .env; {log}"
    if code == "124":
        timeout = f"{variable}_TIMEOUT"
        return f"stage {stage} took longer than {os.environ.get(timeout)}: set {timeout} in .env; {log}"
    if code in ("137", "143"):
        return f"stage {stage} was killed from outside (exit code {code}); expected it to end by itself: run again"
    if code:
        return f"stage {stage} crashed with exit code {code}; expected 0, or 2 with a sentence: {log}"
    if any(line.startswith("'./dvc.lock' ") for line in printed):
        return (
            "dvc.lock is damaged, or a merge left it with conflicts; expected what a run wrote: take one side, or "
            f"delete it, and run again; {log}"
        )
    by_dvc = [line.removeprefix("ERROR: ") for line in printed if line.startswith("ERROR: ")]
    if by_dvc and (missing := re.match(r"failed to reproduce '(.+)': \[Errno 2\].*: '(.+)'", by_dvc[-1])):
        path = os.path.relpath(missing[2], ROOT)
        return f"stage {missing[1]} reads {path}, which is missing; expected a file: add it, or name another one"
    return f"{by_dvc[-1].rstrip('.')}: {log}" if by_dvc else f"dvc repro failed: {log}"


def report(ran: list[str], outcome: publish.Published, seconds: float) -> str:
    """The five lines that say what happened and where to look."""
    did = f"ran {', '.join(ran)}" if ran else "nothing to run, all stages are up to date"
    decision = f"{outcome.stage}: {outcome.reason}"
    if outcome.now != outcome.stage:
        decision = f"{outcome.now} now; when it came, {decision}"
    news = "published now" if outcome.news else "published before"
    return "\n".join(
        [
            "",
            f"stages    {did} ({seconds:.0f} s)",
            f"model     {outcome.model} version {outcome.version}, {news}: test accuracy {outcome.accuracy:.4f}",
            f"decision  {decision}",
            f"look at   {services.address()}/#/models/{outcome.model}",
            "then      make metrics, make plots; git commit dvc.yaml dvc.lock, make push",
        ]
    )


def main(arguments: list[str]) -> None:
    started = time.monotonic()
    local = environment.is_local(os.environ)
    params, wanted = render.read_params(), images.load()
    os.environ.update(environment.for_a_run(params))
    if render.write(wanted, params):
        print("dvc.yaml: rendered", flush=True)
    used = publish.snapshot(wanted)
    if local:
        services.start()
    build.ensure(wanted)
    if local:
        services.wait()
    ran = reproduce(arguments)
    if arguments:
        print(f"\nran {', '.join(ran) or 'nothing, all is up to date'}; 'make run' runs the rest and publishes")
        return
    outcome = publish.publish_all(used)
    print(report(ran, outcome, time.monotonic() - started), file=sys.stdout)
