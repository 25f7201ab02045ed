"""JupyterLab in a stage's image: it sees the clone's data and code, and can change nothing but notebooks/."""

import csv
import io
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from scripts import bounded
from scripts.pipeline import build, images
from scripts.pipeline.console import tell
from scripts.pipeline.containers import GRACE, docker, of_this_clone, stop
from scripts.pipeline.images import BASE, Image
from scripts.pipeline.stage import PROXIES, WORK, Pipeline
from scripts.project import NOTEBOOKS, PROJECT, Project, UserError

HERE = Path(__file__).parent
FILES = (images.DOCKERFILE, "requirements.txt", "jupyter_server_config.py", "kernel.py", "kernel.json")
PORT = 8888  # in the container
LABEL, TOKEN = "pipeline.notebook", "JUPYTER_TOKEN"
PIDS = 512
PATIENCE, FIRST_NOTE, PAUSE = 600, 5, 0.3  # seconds: until it is given up, until a note, between two questions
SERVES, ENDED = {"running", "paused"}, {"exited", "dead"}
"""Docker's words for a container that serves, and for one that has served."""


@dataclass(frozen=True)
class Server:
    """A notebook server of this clone: the name of its container, and the token that opens it."""

    name: str
    token: str

    def link(self) -> str:
        address = docker("port", self.name, f"{PORT}/tcp").splitlines()[0]
        return f"http://{address}/lab?token={self.token}"

    def state(self) -> str:
        """Return Docker's word for what the container does; empty if it is gone."""
        return docker("container", "ls", "--all", "--filter", f"name=^{self.name}$", "--format", "{{.State}}")

    def answers(self) -> bool:
        # By its name of the network, at which no proxy finds it; the server itself answers to 127.0.0.1 alone.
        headers = {"Authorization": f"token {self.token}", "Host": "127.0.0.1"}
        url, direct = f"http://{self.name}:{PORT}/api/status", {"no_proxy": self.name}
        try:
            return bounded.get(url, headers=headers, proxies=direct, timeout=5).ok
        except requests.RequestException:
            return False

    def wait(self) -> None:
        """Return when the server answers. Raise UserError with its last words if it has ended before, or never does."""
        began, noted = time.monotonic(), False
        while not self.answers():
            waited = time.monotonic() - began
            if self.state() not in SERVES or waited > PATIENCE:
                raise self.fault("did not come up")
            if waited > FIRST_NOTE and not noted:
                print("waiting for the notebook server, which is still starting ...", flush=True)
                noted = True
            time.sleep(PAUSE)

    def follow(self) -> None:
        """Return when the server has ended. Raise UserError if nobody has asked it to."""
        subprocess.run(["docker", "container", "wait", self.name], capture_output=True)
        if self.state() in ENDED and self._inspect("{{.State.ExitCode}}") not in ("0", "143"):
            raise self.fault("ended")

    def fault(self, what: str) -> UserError:
        """Return what to tell of a server that has ended, or does not answer."""
        if self._inspect("{{.State.OOMKilled}}") == "true":
            limit = os.environ["NOTEBOOK_MEMORY"]
            why, mend = f"it needs more than {limit} of memory", "it to fit: raise NOTEBOOK_MEMORY in .env"
        else:
            done = subprocess.run(["docker", "logs", "--tail", "5", self.name], capture_output=True, text=True)
            why = " ".join((done.stdout + done.stderr).split())[-500:] or "it printed nothing"
            mend = "it to serve: call again"
        return UserError(f"the notebook server {what}: {why}; expected {mend}")

    def _inspect(self, column: str) -> str:
        """Return a fact about the container; empty if it is gone."""
        inspect = ["docker", "container", "inspect", "--format", column, self.name]
        return subprocess.run(inspect, capture_output=True, text=True).stdout.strip()

    def remove(self) -> None:
        stop([self.name], GRACE)


def stage_of(pipeline: Pipeline, name: str) -> str:
    """Return the folder of the stage whose image it is: the one named, else the last one that makes a model, else the
    first one of all. Raise UserError if there is none of that name."""
    blocks = list(dict.fromkeys(stage.block for stage in pipeline.stages.values()))
    if name and name not in blocks:
        raise UserError(f"{name} is no stage; expected one of {', '.join(blocks)}: correct the name")
    if not blocks:
        raise UserError("the pipeline has no stage, in whose image a notebook could run; expected one: add it")
    makers = [pipeline.stages[model.maker].block for model in pipeline.models]
    return name or (makers or blocks[:1])[-1]


def image_of(wanted: dict[str, Image], stage: str) -> Image:
    """Return the image of a stage with JupyterLab, built if it is not here. Raise UserError if that is not possible."""
    base = wanted[stage]
    build.ensure({name: wanted[name] for name in (BASE, stage)})
    if not build.has_python(base):
        raise UserError(
            f"the image of stages/{stage} has no Python, so no notebook can run in it; expected one that has: name its "
            "stage, as in 'make notebook-<stage>'"
        )
    image = images.on_top(base, "notebook", HERE, FILES)
    here = build.on_this_machine()
    build.claim_present({image.name: image}, here)
    if image.tag not in here:
        build.build(image, base)
    return image


def folders(project: Project) -> Iterator[tuple[Path, Path]]:
    """Yield each folder of the clone that a notebook may read, by where it is and by its path in the clone.

    None begins with a dot, as those with secrets, records and caches do (.git, .dvc, .local); files of the clone's top,
    .env among them, are no folders. A link that leads to one of those, or to a folder around the clone, is left out.
    """
    root = project.root.resolve()
    for path in sorted(project.root.iterdir()):
        there = path.resolve()
        inside = there.relative_to(root).parts if there.is_relative_to(root) else ()
        hidden = any(part.startswith(".") for part in (path.name, *inside))
        if there.is_dir() and not hidden and not root.is_relative_to(there):
            yield there, path.relative_to(project.root)


def command(stage: str, image: str, name: str, project: Project) -> list[str]:
    """Return the `docker run` of the server, which may do no more than a stage, but for its network and its port."""
    labels = {"pipeline.clone": os.environ["CLONE"], LABEL: stage}
    options = ["--name", name, *(word for pair in labels.items() for word in ("--label", "=".join(pair)))]
    options += ["--init", "--pull", "never", "--log-driver", "local", "--log-opt", "max-size=10m"]
    options += ["--user", f"{os.getuid()}:{os.getgid()}", "--read-only", "--tmpfs", "/tmp"]
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += ["--memory", os.environ["NOTEBOOK_MEMORY"], "--pids-limit", str(PIDS)]
    options += ["--network", os.environ["MLFLOW_NETWORK"]]
    options += ["--publish", f"127.0.0.1:{os.environ['NOTEBOOK_PORT']}:{PORT}"]
    options += ["--env", "HOME=/tmp"]
    for variable in (TOKEN, *PROXIES):
        options += ["--env", variable]
    for source, path in folders(project):
        mode = [] if str(path) == NOTEBOOKS else ["readonly"]
        options += _mount(source, f"{WORK}/{path}", *mode)
    options += _mount(project.stages / stage, "/app", "readonly")
    return ["docker", "run", "--detach", *options, image]


def _mount(source: Path, target: str, *more: str) -> list[str]:
    line = io.StringIO()  # Docker reads it as CSV: a folder may have a comma in its name
    csv.writer(line, lineterminator="").writerow(["type=bind", f"src={source}", f"dst={target}", *more])
    return ["--mount", line.getvalue()]


def check_alone() -> None:
    """Raise UserError if a server of this clone runs already; remove what a killed one left."""
    listing = ("container", "ls", "--all", "--filter", of_this_clone(), "--filter", f"label={LABEL}")
    for name in docker(*listing, "--format", "{{.Names}}").splitlines():
        variables = docker("container", "inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", name)
        former = Server(name, next(line for line in variables.splitlines() if line.startswith(TOKEN))[len(TOKEN) + 1 :])
        if former.state() in SERVES:
            raise UserError(
                f"a notebook server of this clone runs already, at {former.link()}; expected none: stop it by Ctrl-C "
                "where it was started, or by 'make down'"
            )
        former.remove()


def make_folders(pipeline: Pipeline, project: Project) -> None:
    """Make the folder for notebooks, and those that the first run would make: what appears later is not seen.

    Raise UserError if the one for notebooks is a link, by which they could write elsewhere, or a file.
    """
    notebooks = project.root / NOTEBOOKS
    if notebooks.is_symlink() or notebooks.is_file():
        kind = "link" if notebooks.is_symlink() else "file"
        raise UserError(
            f"{NOTEBOOKS} is a {kind}; expected a folder of the clone, all that a notebook may write: rename it"
        )
    for path in (NOTEBOOKS, *(stage.folder.partition("/")[0] for stage in pipeline.stages.values())):
        (project.root / path).mkdir(exist_ok=True)


def serve(stage: str, image: Image, pipeline: Pipeline, project: Project = PROJECT) -> None:
    """Start a server, say where it is, and return when it has ended. It ends with this process.

    Raise UserError if Docker cannot start it, or if it does not come up.
    """
    make_folders(pipeline, project)
    server = Server(f"pipeline-{os.environ['CLONE']}-notebook-{secrets.token_hex(4)}", secrets.token_urlsafe(24))
    environ = os.environ | {TOKEN: server.token}
    docker_run = command(stage, image.tag, server.name, project)
    try:
        done = subprocess.run(docker_run, env=environ, capture_output=True, text=True)
        if done.returncode:
            words = done.stderr.removeprefix("docker: ").partition("See 'docker")[0].split()
            said = " ".join(words)[-400:].rstrip(".")
            raise UserError(
                f"the notebook server could not be started: {said}; expected a free port in "
                f"{os.environ['NOTEBOOK_PORT']}, and memory like 4g: set NOTEBOOK_PORT and NOTEBOOK_MEMORY in .env"
            )
        server.wait()
        tell(
            f"JupyterLab with the packages of {stage}: {server.link()}\n"
            f"what is saved in {NOTEBOOKS}/ stays; all else of the clone can only be read; Ctrl-C stops it"
        )
        server.follow()
        tell("the notebook server has ended")
    finally:
        server.remove()
