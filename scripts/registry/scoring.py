"""Measures any version of a model as the pipeline measures its own: by the scorer's container, on the same test data.

The container is sealed: no network, no variables, its output in a folder of its own. Nothing here loads a model.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.pipeline import build, dvc_adapter, failures, images, takeover
from scripts.pipeline.console import harmless
from scripts.pipeline.stage import Model, Mount, Pipeline, Stage
from scripts.project import Project, UserError
from scripts.registry import logged
from scripts.registry.gate import Measurement, Unscorable
from scripts.registry.records import ScoredBy

BAD_INPUT, TIMED_OUT, NOT_STARTED, KILLED = 2, 124, 125, (137, 143)
"""Exit codes of `docker run`, of `timeout` and of the stage contract."""
KEPT_LINES, LONGEST_LINE = 1000, 10_000
"""Of what a container prints, which may be any amount."""


def scored_by(pipeline: Pipeline, model: Model, lock: Mapping[str, Any]) -> ScoredBy:
    """Return what a score depends on beside the model: the scorer's image, its parameters, and its other inputs.

    `lock` has the entries of dvc.lock by stage.
    """
    scorer = pipeline.stages[model.scorer]
    entries = lock[model.scorer].get("deps", [])
    lines = sorted(f"{entry['path']}\0{entry['md5']}\n" for entry in entries if entry["path"] != model.file)
    params = json.dumps(scorer.section or {}, sort_keys=True, separators=(",", ":"), default=str)
    return ScoredBy(scorer.image, params, hashlib.sha256("".join(lines).encode()).hexdigest())


def read(root: Path, model: Model) -> Measurement | Unscorable:
    """Return what the scorer wrote below `root`; Unscorable, with the reason, if that cannot be read."""
    try:
        rows = None if model.rows is None else logged.read_rows(root / model.rows)
        return Measurement(logged.read_metrics(root / model.metrics), rows)
    except UserError as error:
        return Unscorable(str(error))


@dataclass(frozen=True)
class Scorer:
    """Measures other versions of `model`. `wanted` are the images of the code as it is now."""

    project: Project
    pipeline: Pipeline
    model: Model
    wanted: Mapping[str, images.Image]

    @property
    def stage(self) -> Stage:
        return self.pipeline.stages[self.model.scorer]

    def measure(self, file: Path) -> Measurement | Unscorable:
        """Measure a model's file or folder; Unscorable, with the reason, if the scorer cannot.

        Raise UserError for a fault of the Docker engine, or if the container is killed from outside: that says nothing
        about the model.
        """
        build.ensure({name: self.wanted[name] for name in (images.BASE, self.stage.block)}, self.project)
        folder = self.project.score / self.stage.name
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._put(file, folder)
            return self._run(folder)
        finally:
            shutil.rmtree(self.project.score, ignore_errors=True)

    def _put(self, file: Path, folder: Path) -> None:
        there = folder / self.model.file
        there.parent.mkdir(parents=True)
        (folder / "made" / self.stage.folder).mkdir(parents=True)
        if file.is_dir():
            shutil.copytree(file, there)
        else:
            shutil.copyfile(file, there)

    def _command(self, folder: Path) -> str:
        here = folder.relative_to(self.project.root)
        files = {path: path for path in self.stage.inputs.values()} | {self.model.file: f"{here}/{self.model.file}"}
        mounts = [Mount(source, path, True) for path, source in files.items()]
        mounts.append(Mount(f"{here}/made/{self.stage.folder}", self.stage.folder, False))
        parameters = "" if self.stage.section is None else dvc_adapter.arguments(self.stage.section)
        return self.stage.in_time(self.stage.docker_run(mounts, parameters=parameters, network="none", env=()))

    def _run(self, folder: Path) -> Measurement | Unscorable:
        since, environ = datetime.now(UTC), os.environ | self.stage.given(os.environ)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(
            ["sh", "-c", self._command(folder)], cwd=self.project.root, env=environ, **pipes
        ) as client:
            printed = deque(iter(lambda: client.stdout.readline(LONGEST_LINE), b""), maxlen=KEPT_LINES)
        if client.returncode == 0:
            try:
                takeover.look(folder / "made", self.stage.name, [*self.stage.written.values()], takeover.Limits())
            except UserError as error:
                return Unscorable(str(error))
            return read(folder / "made", self.model)
        return self._why(
            client.returncode, [harmless(line.decode(errors="replace").strip("\n")) for line in printed], since
        )

    def _why(self, code: int, printed: list[str], since: datetime) -> Unscorable:
        said = [line.removeprefix("error: ") for line in printed if line.startswith("error: ")]
        if code == BAD_INPUT and said:
            return Unscorable(said[-1].removeprefix(f"{self.stage.name}: "))
        if code == TIMED_OUT:
            return Unscorable(f"{self.stage.name} took longer than {self.stage.prefix}_TIMEOUT")
        if code == NOT_STARTED or code in KILLED:
            if code != NOT_STARTED and failures.ran_out_of_memory(self.stage.name, since):
                return Unscorable(f"{self.stage.name} needs more memory than {self.stage.prefix}_MEMORY")
            last = printed[-1] if printed else "it was killed"
            raise UserError(f"{self.stage.name} could not be run on another version of {self.model.name}: {last}")
        last = f": {printed[-1][:200]}" if printed else ""
        return Unscorable(f"{self.stage.name} crashed on it with exit code {code}{last}")
