"""A first run on a machine that has make and git: from nothing, not even a Docker engine, to a model in production."""

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.clones import Clone, pipe
from benchmarks.measure import Record
from scripts.pipeline.stage import PROXIES
from scripts.project import ROOT, UserError

WHOLE = "make run on a bare machine"
STEPS = {
    "Docker engine": "",
    "Python image": r"pulling ",
    "runner image": r"building the runner image ",
    "settings, MLflow's start": r"\.env: created",
    "base image": r"building stages/base:",
    "stage images": r"built stages/base:",
    "stages, publishing": r"\w+ +\| starts in ",
}
"""The steps in their order, each with the line of output that begins it: the first begins with the command."""
RIGHTS = ("NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE")
"""What an engine needs beyond what each container may do."""
INDEX = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
OPEN = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")


def steps(lines: Iterable[tuple[float, str]], end: float) -> dict[str, float]:
    """Return the seconds of each step that came, by name. `lines` are what was printed, each at so many seconds."""
    began, names = {next(iter(STEPS)): 0.0}, [*STEPS]
    for at, line in lines:
        for name in names[names.index([*began][-1]) + 1 :]:
            if re.match(STEPS[name], line):
                began[name] = at
                break
    ends = [*[*began.values()][1:], end]
    return {name: until - since for (name, since), until in zip(began.items(), ends, strict=True)}


@contextmanager
def machine(clone: Clone) -> Iterator[str]:
    """A container that is as a machine of its own; yield its name. After the block it is gone, with all in it."""
    image = f"stages/clone-{clone.id}:machine"
    build = ["docker", "buildx", "build", "--quiet", "--pull=false", "--tag", image]
    build += ["--build-arg", f"PYTHON_IMAGE={os.environ['PYTHON_IMAGE']}"]
    given = [
        name for name in (*PROXIES, "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST") if name in os.environ
    ]
    for name in given:
        build += ["--build-arg", name]
    subprocess.run([*build, str(ROOT / "benchmarks" / "machine")], check=True, stdout=subprocess.DEVNULL)
    command = ["docker", "run", "--detach", "--rm", "--label", clone.label, "--device-cgroup-rule", "a *:* rwm"]
    command += [word for name in RIGHTS for word in ("--cap-add", name)]
    command += [word for option in OPEN for word in ("--security-opt", option)]
    command += [word for name in given for word in ("--env", name)]
    # An engine's folder can lie on no layer of another one's.
    command += ["--mount", "type=volume,dst=/var/lib/docker"]
    command += ["--mount", f"type=bind,src={clone.path},dst=/source,readonly", image]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["docker", "exec", name, "sh", "-c", "until [ -e /ready ]; do sleep 0.1; done"], check=True)
        subprocess.run(["docker", "exec", name, "git", "clone", "--quiet", "/source", "/root/clone"], check=True)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=True, stdout=subprocess.DEVNULL)


def first_run(name: str) -> Mapping[str, float]:
    """Call `make run` in this machine; return the seconds of the whole and of its steps."""
    command = ["docker", "exec", "--workdir", "/root/clone", name, "make", "run"]
    began, lines = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        for line in pipe(run.stdout):
            lines.append((time.perf_counter() - began, line))
    end = time.perf_counter() - began
    if run.returncode:
        print(*(line for _, line in lines[-20:]), sep="")
        raise UserError("'make run' failed on a machine of a benchmark; expected a run: see above")
    return {WHOLE: end, **steps(lines, end)}


def compare(bench: Bench, record: Record) -> None:
    clone = Clone.of(bench.source, "machine")
    for _ in range(bench.size(3, 1)):
        with machine(clone) as name:
            for what, seconds in first_run(name).items():
                record.add(what, seconds)
    record.parts[WHOLE] = [*STEPS]
    record.notes.append(
        "The machine is a container with an engine of its own, Debian's, and nothing at hand: each package and image "
        "is fetched or made, so that the network has its part in it. Tried on an engine with cgroups of version 1."
    )
