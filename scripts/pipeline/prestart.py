"""Starts a stage's container while its inputs are still being made, so that its start and imports cost no time.

The container waits, with all imported (stages/base/waiting.py), until its inputs are there; then it takes the place of
the `docker run` of dvc.yaml. It sees the same: inputs cannot be mounted before they exist, so they are linked into a
folder of this clone that is mounted instead. A container that does not wait, or is not as it should be, is given up
with all that it wrote, and the commands of dvc.yaml run.
"""

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from scripts import settings
from scripts.pipeline import dvc_adapter, takeover
from scripts.pipeline.containers import GRACE, stop_stages
from scripts.pipeline.stage import Mount, Stage
from scripts.project import Project, UserError

STARTED_EARLY = "STARTED_EARLY"
"""Set in such a container; its program then waits for a line of standard input."""
WAITING = b"waits for its inputs\n"
"""What it prints when it has imported all that it needs."""
PATIENCE = 30.0  # seconds that a container may take for its imports once its inputs are there
CHUNK = 1 << 16  # bytes
TIMED_OUT = 124  # what `timeout` exits with


def can_start(stage: Stage | None) -> bool:
    """Return whether the stage has inputs to wait for, none of them below its own output folder."""
    if stage is None or not stage.inputs:
        return False
    return not any(path.startswith(f"{stage.folder}/") for path in stage.inputs.values())


class Container:
    """A container that waits for its inputs. `options` are those of `subprocess.Popen`."""

    def __init__(self, project: Project, stage: Stage, **options: Any) -> None:
        self._project, self._stage = project, stage
        self._inputs, self._work = project.prestart / stage.name, project.work / stage.name
        self._expired = False
        for folder in (self._inputs, self._work):
            takeover.remove_tree(folder)
            (folder / stage.folder).mkdir(parents=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 0}
        self._client = subprocess.Popen(["sh", "-c", f"exec {self._docker_run()}"], **options, **pipes)

    def _docker_run(self) -> str:
        inputs = str(self._inputs.relative_to(self._project.root))
        parameters = "" if self._stage.section is None else dvc_adapter.arguments(self._stage.section)
        return self._stage.docker_run(
            [Mount(inputs, "", True), self._stage.output_mount],
            parameters=parameters,
            options=f"--interactive --env {STARTED_EARLY}=1",
        )

    def run(self) -> int | None:
        """Give it its inputs, and pass on what it prints until it ends.

        Return its exit code, or None if it cannot be used.
        """
        limit = settings.seconds(os.environ[f"{self._stage.prefix}_TIMEOUT"])
        try:
            if limit is None or not self._waits():
                return None
            for path in self._stage.inputs.values():
                link(Path(os.path.realpath(self._project.root / path)), self._inputs / path)
            self._client.stdin.write(b"\n")
            self._client.stdin.close()
        except OSError:
            # Another file system, a folder that is not ours, a client that is gone: the command of dvc.yaml tells.
            return None
        print("was started early", flush=True)
        return self._follow(limit)

    def _waits(self) -> bool:
        """Return whether it says that it waits; pass on what else it said before."""
        said, end = b"", time.monotonic() + PATIENCE
        while WAITING not in said:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._client.stdout], [], [], left)[0]:
                return False
            if not (chunk := self._client.stdout.read(CHUNK)):
                return False
            said += chunk
        os.write(1, said.replace(WAITING, b"", 1))
        return True

    def _follow(self, limit: float) -> int:
        """Pass on what it prints; return how it ended, in a shell's number. It has `limit` seconds, no limit if 0."""
        clock = threading.Timer(limit, self._expire)
        clock.daemon = True
        if limit:
            clock.start()
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as DVC does: the run stops the container
        for chunk in iter(lambda: self._client.stdout.read(CHUNK), b""):
            os.write(1, chunk)
        code = self._client.wait()
        signal.signal(signal.SIGINT, interrupt)
        clock.cancel()
        return TIMED_OUT if self._expired else code if code >= 0 else 128 - code

    def _expire(self) -> None:
        self._expired = True
        self._client.terminate()
        try:
            self._client.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._client.kill()

    def give_up(self) -> None:
        """End it, if it has not ended; one that waits does so when its standard input ends."""
        self._client.stdin.close()
        try:
            self._client.wait(2)
        except subprocess.TimeoutExpired:
            with suppress(UserError):  # the engine is away: the run, or the next one, removes it
                stop_stages(self._stage.name, grace=0)
            self._client.kill()
            self._client.wait()
        takeover.remove_tree(self._work)
        takeover.remove_tree(self._inputs)
        with suppress(OSError):  # another stage's is there
            self._project.prestart.rmdir()


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a folder of the same files. Raise OSError if that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        os.link(source, target)
        return
    target.mkdir()
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            there.mkdir()
        else:
            os.link(path, there, follow_symlinks=False)


Started = AbstractContextManager[Container | None]


@contextmanager
def started(project: Project, stage: Stage | None, **options: Any) -> Iterator[Container | None]:
    """Give the container of `stage`, if that can start early; it is gone when the block ends."""
    container = None
    try:
        with suppress(OSError):  # no room, no process to be had: the stage may still not need to run
            if can_start(stage):
                container = Container(project, stage, **options)
        yield container
    finally:
        if container:
            container.give_up()
