"""`make run`: lock, render, build what is missing, start what is needed, dvc repro, publish, report."""

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from scripts import build, environment, images, publish, render, services
from scripts.docker import docker, of_this_clone
from scripts.project import LOCAL, ROOT, UserError

LOG = LOCAL / "logs" / "run.log"


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds this clone's lock; the kernel drops it with its holder. Raises UserError where another run has it."""
    path = LOCAL / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(f"another run of this clone is going on {lock.read().strip()}; wait for its end") from None
        lock.truncate(0)
        lock.write(f"since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        lock.flush()
        yield


def heal() -> None:
    """Clears what a run that was killed left behind; to be called under the lock.

    DVC's own lock file names processes by bare numbers, which mean nothing in another container.
    """
    stop_stages()
    (ROOT / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)


def stop_stages() -> None:
    """Removes the stage containers of this clone: under the lock, any there is was left by a run that is no more.

    A docker client that is killed leaves its container running, which would go on to write outputs.
    """
    left = docker(
        "container", "ls", "--all", "--quiet", "--filter", of_this_clone(), "--filter", "label=pipeline.stage"
    )
    if left:
        docker("container", "rm", "--force", *left.split())
        print("removed a stage's container that an interrupted run had left", flush=True)


def reproduce(targets: list[str]) -> list[str]:
    """Runs `dvc repro`, showing and logging what it prints; the names of the stages that ran.

    Raises UserError where a stage fails: with the stage's own sentence if it gave one.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    printed = []
    with (
        LOG.open("w") as log,
        subprocess.Popen(
            ["dvc", "repro", *targets],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # a stage may print what is no UTF-8
        ) as dvc,
    ):
        for line in dvc.stdout or ():
            print(line, end="", flush=True)
            log.write(line)
            printed.append(line.rstrip())
    ran = [match[1] for line in printed if (match := re.match(r"Running stage '(.+)':", line))]
    if dvc.returncode:
        raise UserError(why_it_failed(printed, ran[-1] if ran else ""))
    return ran


def why_it_failed(printed: list[str], stage: str) -> str:
    """One sentence of what `dvc repro` printed before it failed in `stage` (empty: before any stage ran)."""
    said = [line.removeprefix("error: ") for line in printed if line.startswith("error: ")]
    if said:
        return said[-1]
    by_docker = [line for line in printed if line.startswith(("docker: ", "invalid argument "))]
    code = next((match[1] for line in printed if (match := re.search(r"exited with (\d+)$", line))), "")
    log = f"see above or {LOG.relative_to(ROOT)}"
    if code == "125" and by_docker:
        hint = ": 'make build' builds it" if "No such image" in by_docker[-1] else f"; is a limit in .env wrong? {log}"
        return f"stage {stage} could not be started, {by_docker[-1].removeprefix('docker: ').rstrip('.')}{hint}"
    if code == "137":
        memory = f"{environment.prefix(stage)}_MEMORY"
        limit = os.environ.get(memory)
        return f"stage {stage} was killed, most likely for more memory than {limit}: set {memory} in .env; {log}"
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
    with one_at_a_time():
        heal()
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
        try:
            ran = reproduce(arguments)
        except KeyboardInterrupt:
            stop_stages()
            raise
        if arguments:
            print(f"\nran {', '.join(ran) or 'nothing, all is up to date'}; 'make run' runs the rest and publishes")
            return
        outcome = publish.publish_all(used)
    print(report(ran, outcome, time.monotonic() - started), file=sys.stdout)
