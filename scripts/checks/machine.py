"""The machine: the Docker engine, room on its disk, images, and the stages' limits."""

import itertools
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts import settings
from scripts.checks.check import Check
from scripts.pipeline import build, images
from scripts.pipeline.containers import docker
from scripts.project import PROJECT, Project, UserError

GIB = 1 << 30
FREE_DISK = 5  # GiB: the images, and a margin
OLDEST = (20, 10)
LOCAL_PORTS = 28
"""From this version on a port published on 127.0.0.1 cannot be reached from the network beside it."""
LIMITS: dict[str, tuple[Callable[[str], object], str]] = {
    "MEMORY": (settings.size, "2g"),
    "CPUS": (re.compile(r"\d+(\.\d+)?").fullmatch, "1.5"),
    "PIDS": (re.compile(r"-?\d+").fullmatch, "256"),
    "TIMEOUT": (settings.seconds, "12h"),
    "OUTPUT_SIZE": (settings.size, "100g"),
    "OUTPUT_FILES": (re.compile(r"\d+").fullmatch, "2000000"),
}
"""A function that returns None for a limit that Docker, or `timeout`, would refuse; and an example."""


def engine() -> Iterator[Check]:
    """Check the engine's version and kind, and the stages' limits against its machine."""
    facts = docker("info", "--format", "{{.ServerVersion}}\t{{.MemTotal}}\t{{.NCPU}}\t{{.SecurityOptions}}")
    version, memory, processors, security = facts.split("\t")
    kind = ", rootless" if "rootless" in security else ""
    recent = tuple(map(int, re.findall(r"\d+", version)[:2])) >= OLDEST
    yield Check("engine", recent, f"Docker {version}{kind}", "expected 20.10 or newer: update it")
    yield Check("machine", True, f"{int(memory) / GIB:.0f} GiB of memory, {processors} processors")
    yield from limits(int(memory), int(processors))
    yield from border(version, security, PROJECT.local.stat().st_mode)


def border(version: str, security: str, mode: int) -> Iterator[Check]:
    """Name what of SECURITY.md is weaker here than it could be: by the engine's version and kind, and .local's mode."""
    if "rootless" not in security:
        found = "the engine runs as root, and so may whoever gets at its socket"
        yield Check("border", None, found, "a rootless engine is safer (docs.docker.com, 'Rootless mode')")
    if settings.is_local(os.environ) and int(re.match(r"\d*", version)[0] or 0) < LOCAL_PORTS:
        found = f"Docker {version} lets machines of this network reach MLflow's port, which has a password"
        yield Check("border", None, found, f"Docker {LOCAL_PORTS} keeps it on this machine: update it")
    if mode & 0o077:
        found = f".local has the mode {mode & 0o777:03o}: others on this machine may read it, or write there"
        yield Check("border", None, found, "expected 700: 'chmod 700 .local'")


def limits(memory: int, processors: int) -> Iterator[Check]:
    """Report limits that Docker would refuse, or that exceed the machine's `memory` (bytes) or `processors`."""
    for stage, (limit, (parse, example)) in itertools.product(images.stage_names(), LIMITS.items()):
        name = f"{settings.prefix(stage)}_{limit}"
        value = os.environ[name]
        if parse(value) is None:
            yield Check("limits", False, f"{name} is {value}", f"expected one like {example}: correct it in .env")
        elif limit == "CPUS" and float(value) > processors:
            yield Check("limits", False, f"{name} is {value}", f"expected at most {processors}: set it in .env")
        elif limit == "MEMORY" and (settings.size(value) or 0) > memory:
            found = f"{name} is {value}, more than the machine's {memory / GIB:.0f} GiB"
            yield Check("limits", None, found, "expected less, or a stage may take all there is: lower it in .env")


def folder(project: Project = PROJECT) -> Iterator[Check]:
    """Check that a sibling container sees what the runner writes, on which all mounts rest."""
    nonce, path = secrets.token_hex(8), project.local / "doctor-nonce"
    path.write_text(nonce)
    label, mount = f"pipeline.clone={os.environ['CLONE']}", f"type=bind,src={path},dst=/nonce,readonly"
    command = ["run", "--rm", "--pull", "never", "--network", "none", "--label", label, "--mount", mount]
    try:
        seen = docker(*command, os.environ["RUNNER_IMAGE"], "cat", "/nonce")
    except UserError as error:
        seen = str(error)
    finally:
        path.unlink()
    good = seen == nonce
    found = "a sibling container sees this clone" if good else f"a sibling container does not see this clone: {seen}"
    yield Check("folder", good, found, "expected an engine on this machine, which may mount the folder")


def disk(project: Project = PROJECT) -> Iterator[Check]:
    """Check the room where the clone lies, and where the engine keeps images: the runner's own root is there too."""
    for what, path in (("this clone", project.root), ("Docker's images", Path("/"))):
        free = shutil.disk_usage(path).free / GIB
        yield Check("disk", free > FREE_DISK, f"{free:.0f} GiB free for {what}", f"expected {FREE_DISK} GiB: make room")


def base_image() -> Iterator[Check]:
    """Report what the images are made from, whose certificate authorities they trust, and how many are to be built."""
    name = os.environ["PYTHON_IMAGE"]
    label = docker("image", "inspect", "--format", '{{index .Config.Labels "pipeline.source"}}', name)
    from_debian = label == "debian-packages"
    source = "from Debian's packages, Docker Hub was out of reach" if from_debian else "from its pinned image"
    yield Check("base", True, f"{name}, {source}")
    named = Path("/usr/local/share/ca-certificates/host-ca.crt").exists()
    yield Check("CA", True, "Debian's, and the bundle that the host's environment named" if named else "Debian's")
    here = build.on_this_machine()
    missing = [image.tag for image in images.load().values() if image.tag not in here]
    yield Check("images", True, f"{len(missing)} to build, by the next run" if missing else "all built")
