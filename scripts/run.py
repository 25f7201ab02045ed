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


def reproduce(targets: list[str]) -> list[str]:
    """Runs `dvc repro`, showing and logging what it prints; the names of the stages that ran.

    Raises UserError where a stage fails: with the stage's own sentence if it gave one.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    command = ["dvc", "repro", *targets]
    ran, said = [], ""
    with (
        LOG.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as dvc,
    ):
        for line in dvc.stdout or ():
            print(line, end="", flush=True)
            log.write(line)
            if match := re.match(r"Running stage '(.+)':", line):
                ran.append(match[1])
            if match := re.match(r"(?i:error): (.+)", line):
                said = said or match[1]  # the stage's own sentence comes before what DVC makes of it
    if dvc.returncode:
        raise UserError(said or f"the pipeline stopped: see above, or {LOG.relative_to(ROOT)}")
    return ran


def report(ran: list[str], outcome: publish.Published, seconds: float) -> str:
    """The five lines that say what happened and where to look."""
    did = f"ran {', '.join(ran)}" if ran else "nothing to run, all stages are up to date"
    news = "published now" if outcome.news else "published before"
    return "\n".join(
        [
            "",
            f"stages    {did} ({seconds:.0f} s)",
            f"model     {outcome.model} version {outcome.version}, {news}: test accuracy {outcome.accuracy:.4f}",
            f"decision  {outcome.stage}: {outcome.reason}",
            f"look at   {services.address()}/#/models/{outcome.model}",
            "then      make metrics, make plots; git commit dvc.yaml dvc.lock, make push",
        ]
    )


def main(arguments: list[str]) -> None:
    started = time.monotonic()
    local = environment.is_local(os.environ)
    with one_at_a_time():
        params, wanted = render.read_params(), images.load()
        os.environ.update(environment.for_a_run(params))
        if render.write(wanted, params):
            print("dvc.yaml: rendered", flush=True)
        if local:
            services.start()
        build.ensure(wanted)
        if local:
            services.wait()
        ran = reproduce(arguments)
        if arguments:
            return
        outcome = publish.publish_all()
    print(report(ran, outcome, time.monotonic() - started), file=sys.stdout)
