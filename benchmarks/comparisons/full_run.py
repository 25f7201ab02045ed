"""A full run of the four stages, from empty caches, against their programs as plain processes in one container."""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.clones import OUTPUTS, SAID, Clone, Shell, uid
from benchmarks.measure import Record, Sample
from scripts import settings
from scripts.pipeline import images
from scripts.project import load_yaml
from scripts.verbs import shell

RUN = "make run, four stages"
PLAIN = "the same as plain processes"
DOCKERFILE = """\
ARG BASE_IMAGE
ARG RUNNER_IMAGE
FROM ${RUNNER_IMAGE} AS runner

FROM ${BASE_IMAGE}
COPY . /app/stages/
RUN --mount=type=bind,from=runner,source=/opt/venv/bin/uv,target=/usr/local/bin/uv \\
    --mount=type=cache,target=/tmp/.cache/uv --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \\
    for file in /app/stages/*/requirements.txt; do uv pip install -r "$file" || exit 1; done
RUN python -m compileall -q /app
"""
"""All stages in one image, made as the Dockerfiles of stages/ make each of them."""


def plain_command(docker_run: str, name: str, params: Mapping[str, Any]) -> str:
    """A stage's `docker run` of dvc.yaml as the program and the arguments that it starts."""
    words = re.split(rf"stages/{name}:\w+", docker_run)[1].replace("\\\n", " ")
    words = words.replace(f"${{{name}}}", shell.arguments_of(params.get(name, {})))
    return f"python /app/stages/{name}/{name}.py {' '.join(words.split())}"


def plain_commands(clone: Clone) -> list[str]:
    """The programs of all stages in their order."""
    stages = load_yaml((clone.path / "dvc.yaml").read_text())["stages"]
    return [plain_command(stage["cmd"][1], name, clone.params) for name, stage in stages.items()]


def plain_image(clone: Clone) -> str:
    """Builds the image that holds all stages; its name, by which clean-all finds it."""
    from scripts.pipeline import build

    name = f"stages/clone-{clone.id}:plain"
    wanted = images.load(clone.path / "stages")
    arguments = {"BASE_IMAGE": wanted[images.BASE].tag, "RUNNER_IMAGE": os.environ["RUNNER_IMAGE"]}
    command = ["docker", "buildx", "build", "--builder", "default", "--quiet", "--pull=false", "--tag", name]
    command += ["--label", "pipeline.image=plain"]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    with build.package_index() as options:
        command += [*options, "--file", "-", str(clone.path / "stages")]
        subprocess.run(command, input=DOCKERFILE, text=True, check=True, stdout=subprocess.DEVNULL)
    return name


@contextmanager
def plain_container(clone: Clone, folder: Path) -> Iterator[Shell]:
    """A shell in a container that sees `folder` as /work, and the clone's MLflow server; it has no limits."""
    command = ["docker", "run", "--rm", "--init", "--interactive", "--label", clone.label, "--network", clone.network]
    command += ["--user", uid(), "--mount", f"type=bind,src={folder},dst=/work"]
    command += ["--env", f"MLFLOW_TRACKING_URI={settings.LOCAL_MLFLOW}", "--env", "GIT_COMMIT=none"]
    for name in ("NO_PROXY", "no_proxy"):
        command += ["--env", f"{name}=mlflow"]
    with Shell.of([*command, plain_image(clone), "sh"], folder, os.environ) as inside:
        yield inside


def processes(inside: Shell, folder: Path, commands: Sequence[str]) -> Sample:
    """The seconds of the commands one after the other, from empty output folders; one that cannot publish fails."""
    for name in OUTPUTS:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    return {"s": sum(inside.run(f"{command} && ! grep 'not published' {SAID}")["s"] for command in commands)}


def compare(bench: Bench, record: Record) -> None:
    clone, folder, number = bench.iris, bench.source.with_name("plain"), itertools.count(1)
    folder.mkdir()
    commands = plain_commands(clone)

    # A model of a new name each time, so that both sides publish a first version each time.
    def ours() -> Sample:
        clone.set("mlflow", model=f"run-{next(number)}")
        clone.forget(lock=True)
        return clone.make("run")

    with plain_container(clone, folder) as inside:

        def plain() -> Sample:
            settings = settings.registry(
                {**clone.params, "mlflow": {"experiment": "plain", "model": f"plain-{next(number)}"}}
            )
            inside.run(f"export REGISTRY='{settings}'")
            return processes(inside, folder, commands)

        record.alternate({RUN: ours, PLAIN: plain}, bench.repetitions)
    clone.restore()
    record.at_most("full run, ratio to plain processes", record.ratio(RUN, PLAIN), 1.4)
    record.notes.append(
        "Both from empty caches, with all images built and MLflow up; both publish a new model. make run also copies "
        "metrics, plots and the pipeline to the model's run. The plain container has no limits of memory or cores."
    )
