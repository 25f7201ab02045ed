"""A full run of the project's stages, from empty caches, against their programs as plain processes in one container."""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.clones import OUTPUTS, Clone, Shell, uid
from benchmarks.measure import Record, Sample
from scripts import settings
from scripts.pipeline import build, dvc_adapter, images, template
from scripts.pipeline.stage import Stage

RUN = "make run, all stages"
PLAIN = "the same as plain processes"
PARTS = ("waiting", "image", "start", "run", "border", "cache")
"""Of the stages together, as the run's own report has them."""
BEFORE, AFTER = "make and the plan", "publishing after the last stage"
DOCKERFILE = """\
ARG BASE_IMAGE
ARG RUNNER_IMAGE
FROM ${RUNNER_IMAGE} AS runner

FROM ${BASE_IMAGE}
COPY . /app/stages/
RUN --mount=type=bind,from=runner,source=/opt/venv/bin/uv,target=/usr/local/bin/uv \\
    --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \\
    for file in $(ls /app/stages/*/requirements.txt); do uv pip install -r "$file" || exit 1; done
RUN python -m compileall -q /app
"""
"""All stages in one image, made as the base's Dockerfile for stages makes each of them."""
PUBLISH = """\
import sys, mlflow
name, *files = sys.argv[1:]
mlflow.set_experiment('plain')
with mlflow.start_run() as run:
    mlflow.log_params({'program': 'plain'})
    mlflow.log_metric('accuracy', 0.9)
    for file in files:
        mlflow.log_artifact(file, 'model')
client = mlflow.MlflowClient()
client.create_registered_model(name)
version = client.create_model_version(name, run.info.artifact_uri + '/model', run.info.run_id)
client.transition_model_version_stage(name, version.version, 'Production')
client.set_registered_model_alias(name, 'production', version.version)
"""
"""What a person would write to publish a model: a run, a version, a stage, an alias."""


def plain_command(stage: Stage) -> str:
    """Return a stage's `docker run` as the program and the arguments that it starts."""
    files = {**stage.inputs, **stage.written}
    words = [f"--{argument} {path}" for argument, path in files.items()]
    parameters = "" if stage.section is None else dvc_adapter.arguments(stage.section)
    return " ".join([f"STAGE={stage.name} python /app/stages/{stage.name}/{stage.name}.py", *words, parameters]).strip()


def plain_image(clone: Clone) -> str:
    """Build the image that holds all stages; return its name, by which clean-all finds it."""
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
def plain_container(clone: Clone, folder: Path, image: str) -> Iterator[Shell]:
    """A shell in a container that sees `folder` as /work, and the clone's MLflow server; it has no limits."""
    command = ["docker", "run", "--rm", "--init", "--interactive", "--label", clone.label, "--network", clone.network]
    command += ["--user", uid(), "--mount", f"type=bind,src={folder},dst=/work", "--workdir", "/work"]
    for name, value in {"MLFLOW_TRACKING_URI": settings.LOCAL_MLFLOW, "HOME": "/tmp", "NO_PROXY": "mlflow"}.items():
        command += ["--env", f"{name}={value}"]
    with Shell.of([*command, "--env", "no_proxy=mlflow", image, "sh"], folder, os.environ) as inside:
        yield inside


def processes(inside: Shell, folder: Path, commands: Sequence[str]) -> float:
    """Return the seconds of the commands one after the other, from empty output folders."""
    for name in OUTPUTS:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    return sum(inside.run(command)["s"] for command in commands)


def parts(report: Mapping[str, Any], whole: float) -> dict[str, float]:
    """Return what a run of so many seconds, one stage after the other, is made of, by its run.json (REPORTS.md)."""
    spans = [span for stage in report["stages"] for span in stage["spans"]]
    spent = {part: sum(span["to"] - span["from"] for span in spans if span["part"] == part) for part in PARTS}
    after = report["seconds"] - max(span["to"] for span in spans)
    return {BEFORE: whole - sum(spent.values()) - after, **spent, AFTER: after}


def compare(bench: Bench, record: Record) -> None:
    clone, folder, number = bench.project, bench.source.with_name("plain"), itertools.count(1)
    folder.mkdir()
    (folder / "publish.py").write_text(PUBLISH)
    pipeline = template.load(clone.path)
    commands = [plain_command(stage) for stage in pipeline.stages.values()]
    files = " ".join(model.file for model in pipeline.models)

    # A model of a new name each time, so that both sides publish a first version each time.
    def ours() -> Sample:
        clone.set("mlflow", model=f"run-{next(number)}")
        clone.forget(lock=True)
        sample = clone.make("run")
        for found in sorted(clone.path.glob(".local/runs/*/run.json"))[-1:]:  # none without the room of reports
            for part, seconds in parts(json.loads(found.read_text()), sample["s"]).items():
                record.add(part, seconds)
        return sample

    with (
        plain_container(clone, folder, plain_image(clone)) as stages,
        plain_container(clone, folder, os.environ["RUNNER_IMAGE"]) as mlflow,
    ):

        def plain() -> Sample:
            seconds = processes(stages, folder, commands)
            return {"s": seconds + mlflow.run(f"python publish.py plain-{next(number)} {files}")["s"]}

        record.alternate({RUN: ours, PLAIN: plain}, bench.repetitions)
    clone.restore()
    record.parts[RUN] = [BEFORE, *PARTS, AFTER]
    record.at_most("full run, ratio to plain processes", record.ratio(RUN, PLAIN), 1.12)
    record.notes.append(
        "Both from empty caches, with all images built and MLflow up; both publish a new model: the plain side after "
        "the stages, by a script of MLflow's client; make run beside them, with metrics, plots and a decision. The "
        "plain containers have no limits of memory or cores."
    )
