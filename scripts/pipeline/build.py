"""Provides the images that are missing: from the registry of .env, else built, the base first, then the stages side by
side."""

import fcntl
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from scripts.pipeline import image_registry
from scripts.pipeline.containers import docker
from scripts.pipeline.failures import TRANSIENT
from scripts.pipeline.images import BASE, Image
from scripts.pipeline.stage import PROXIES
from scripts.project import PROJECT, Project, Unavailable, UserError

NO_HASH = "In `--require-hashes` mode, all requirements must have a hash"
"""What uv says of a line of requirements.txt without one."""
AWAY = re.compile(
    rf"{TRANSIENT.pattern}|Temporary failure (in name resolution|resolving)|Name or service not known|Could not resolve"
    "|Connection refused|Connection timed out|Could not connect|i/o timeout|operation timed out|error sending request"
    r"|Network is unreachable|\b(429 Too Many|50[234] (Bad|Service|Gateway))",
    re.IGNORECASE,
)
"""What apt, uv and Docker say if the network or a server of packages is away."""


def on_this_machine() -> dict[str, str]:
    """Return the images here that are made from the Python image in use: id by tag."""
    python = f"label=pipeline.python={os.environ['PYTHON_IMAGE']}"
    listed = docker("image", "ls", "--filter", python, "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    return dict(line.split() for line in listed.splitlines())


def ensure(wanted: Mapping[str, Image], project: Project = PROJECT) -> list[str]:
    """Pull or build those of `wanted`, the base among them, that are not here; return the names of those built."""
    base = wanted[BASE]
    ids = on_this_machine()
    todo = [image for image in wanted.values() if image.tag not in ids]
    claim_present(wanted, ids)  # first of all: what is not claimed yet, clean-all in another clone deletes
    for image in image_registry.pull([*todo]):
        docker("tag", image.tag, claim(image))
        todo.remove(image)
    if base in todo:
        with _one_at_a_time(project):
            if base.tag not in on_this_machine():  # another process may have built it meanwhile
                build(base, None, project)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda image: build(image, base, project), [image for image in todo if image is not base]))
    return [image.name for image in todo]


def renew(wanted: Mapping[str, Image], project: Project = PROJECT) -> None:
    """Build again those of `wanted`, all of which are here, that an older version of this project has not labelled."""
    for name, image in wanted.items():
        if image_registry.fault(image.tag, image):
            build(image, wanted[BASE] if name != BASE else None, project)


def build(image: Image, base: Image | None, project: Project = PROJECT) -> None:
    """Build `image` from its sources alone. Raise UserError with the end of Docker's output if that fails, Unavailable
    if the engine, the network or an index of packages seems to be away."""
    command = _command(image, base)
    log = project.logs / f"build-{image.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"building {image.tag} ...\n", end="", flush=True)  # in one piece: others print too
    with package_index() as options, log.open("wb") as output:
        done = subprocess.run([*command, *options, "-"], input=image.context(), stdout=output, stderr=output)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        mend = "correct what the lines above complain of"
        if NO_HASH in tail:
            asked = f"stages/{image.name}/requirements.in"
            mend = f"a package has no hash; expected one for each: name it in {asked}, and 'make lock'"
        raise (Unavailable if AWAY.search(tail) else UserError)(
            f"the image {image.tag} could not be built; its log ends in:\n{tail}\n"
            f"error: the image of {image.name} could not be built: {mend} "
            f"(whole log: {log.relative_to(project.root)})"
        )
    print(f"built {image.tag} in {time.monotonic() - started:.0f} s\n", end="", flush=True)


def _command(image: Image, base: Image | None) -> list[str]:
    """Return the `docker build` that reads its context from standard input."""
    python = os.environ["PYTHON_IMAGE"]
    arguments = {"PYTHON_IMAGE": python, "RUNNER_IMAGE": os.environ["RUNNER_IMAGE"], "STAGE": image.name}
    if base:
        arguments["BASE_IMAGE"] = base.tag
    command = ["docker", "buildx", "build", "--builder", "default", "--progress", "plain", "--pull=false"]
    command += ["--tag", image.tag, "--tag", claim(image)]
    for name, value in image.labels(python).items():
        command += ["--label", f"{name}={value}"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in PROXIES:
        if name in os.environ:  # by name: a proxy's address may hold a password, which 'ps' would show
            command += ["--build-arg", name]
    return command


@contextmanager
def package_index() -> Iterator[list[str]]:
    """Give the options that tell a build's uv of the shell's PIP_ variables, as a secret that no image keeps."""
    given = {
        "index-url": os.environ.get("PIP_INDEX_URL"),
        "extra-index-url": os.environ.get("PIP_EXTRA_INDEX_URL", "").split(),
        "allow-insecure-host": os.environ.get("PIP_TRUSTED_HOST", "").split(),
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in given.items() if value]
    if not lines:
        yield []
        return
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("[pip]\n" + "\n".join(lines) + "\n")
        file.flush()
        yield ["--secret", f"id=uv.toml,src={file.name}"]


@contextmanager
def _one_at_a_time(project: Project) -> Iterator[None]:
    """Stages that run side by side start from one base."""
    with (project.local / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim_present(wanted: Mapping[str, Image], ids: Mapping[str, str]) -> None:
    """Claim those of `wanted` that are on this machine, by `ids`."""
    for image in wanted.values():
        if image.tag in ids and ids.get(claim(image)) != ids[image.tag]:
            docker("tag", image.tag, claim(image))


def has_python(image: Image) -> bool:
    """Return whether Python runs in an image that is here."""
    command = ["docker", "run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "python3"]
    return subprocess.run([*command, image.tag, "-c", ""], capture_output=True).returncode == 0


def claim(image: Image) -> str:
    """Return a second tag that says that this clone uses `image`, so that clean-all in another clone leaves it."""
    return f"stages/clone-{os.environ['CLONE']}:{image.name}"
