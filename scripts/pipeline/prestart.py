"""A stage's container that starts while its inputs are still being made, so that its start and imports cost no time.

It waits, with all imported (stagekit.run), until its inputs are there; then it is the stage, in place of the `docker
run` of dvc.yaml. It sees the same: inputs cannot be mounted before they exist, so in their place is a folder of this
clone that they are linked into. What it makes is moved to its outputs when it has ended well, so a program that does
not wait spoils none. Such a one, or a container that is not as it should be, is given up, and the command of dvc.yaml
runs.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from dvc.stage import Stage
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.run import prepare_kwargs

import waiting
from scripts import settings
from scripts.project import ROOT, UserError
from scripts.recovery import recover

TIMEOUT = re.compile(r'timeout --foreground --kill-after 10 "\$([A-Z0-9_]+)" \\\n *(?=docker run )')
INPUT = re.compile(r'--mount "type=bind,src=\$PWD/([^",]+),dst=/work/\1,readonly" \\\n *')
OUTPUT = re.compile(r'--mount "type=bind,src=\$PWD/([^",]+),dst=/work/\1"')
PATIENCE = 30.0  # seconds that a container may take for its imports once its inputs are there
CHUNK = 1 << 16  # bytes
TIMED_OUT = 124  # what `timeout` exits with


class Command(NamedTuple):
    """The `docker run` of a stage that starts early: the words, the variable of its timeout, its files."""

    docker_run: str
    timeout: str
    inputs: list[str]
    folder: str  # of the outputs


def command(stage: str, cmd: object) -> Command | None:
    """How `stage` starts early, from its `cmd` in dvc.yaml; None where that is not of render.py, or has no inputs."""
    if not isinstance(cmd, list) or len(cmd) != 2 or not (found := TIMEOUT.match(cmd[1])):
        return None
    inputs, outputs = INPUT.findall(cmd[1]), OUTPUT.findall(cmd[1])
    if not inputs or len(outputs) != 1 or any(path.startswith(f"{outputs[0]}/") for path in inputs):
        return None
    here = f'--mount "type=bind,src=$PWD/{place(stage).relative_to(ROOT)}'
    work, made = f'{here}/work,dst=/work,readonly"', f'{here}/made,dst=/work/{outputs[0]}"'
    text = INPUT.sub("", cmd[1][found.end() :])
    text = text.replace("docker run ", f"docker run --interactive --env {waiting.EARLY}=1 ", 1)
    text = OUTPUT.sub(lambda _: f"{work} \\\n  {made}", text)
    return Command(text, found[1], inputs, outputs[0])


def place(stage: str) -> Path:
    """Holds what a container that starts early has as /work (`work`) and for its outputs (`made`)."""
    return recover.EARLY / stage


class Container:
    """A container that waits for its inputs."""

    def __init__(self, stage: Stage, how: Command) -> None:
        self._stage, self._how, self._place = stage, how, place(stage.addressing)
        self._work, self._made, self._outputs = self._place / "work", self._place / "made", ROOT / how.folder
        self._expired = False
        shutil.rmtree(self._place, ignore_errors=True)
        for folder in (self._work / how.folder, self._made):
            folder.mkdir(parents=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 0}
        self._client = subprocess.Popen(["sh", "-c", f"exec {how.docker_run}"], **prepare_kwargs(stage), **pipes)

    def run(self) -> bool:
        """Gives it its inputs, passes on what it prints until it ends, and moves what it made to the outputs.

        False where it is of no use. Raises StageCmdFailedError as DVC does for a command.
        """
        limit = settings.seconds(os.environ[self._how.timeout])
        try:
            if limit is None or not self._waits():
                return False
            self._try_outputs()
            for path in self._how.inputs:
                link(Path(os.path.realpath(ROOT / path)), self._work / path)
            self._client.stdin.write(b"\n")
            self._client.stdin.close()
        except OSError:
            # Another file system, a folder that is not ours, a client that is gone: the typed command tells.
            return False
        print("was started early", flush=True)
        if code := self._follow(limit):
            raise StageCmdFailedError(self._stage.cmd[-1], code)
        move(self._made, self._outputs)
        return True

    def _waits(self) -> bool:
        """Whether it says that it waits; what else it said before is passed on."""
        said, end = b"", time.monotonic() + PATIENCE
        line = f"{waiting.WAITING}\n".encode()
        while line not in said:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._client.stdout], [], [], left)[0]:
                return False
            if not (chunk := self._client.stdout.read(CHUNK)):
                return False
            said += chunk
        os.write(1, said.replace(line, b"", 1))
        return True

    def _try_outputs(self) -> None:
        """Raises OSError where what it makes could not be moved."""
        self._outputs.mkdir(parents=True, exist_ok=True)
        probe = self._made / ".early.part"
        probe.touch()
        probe.replace(self._outputs / probe.name).unlink()

    def _follow(self, limit: float) -> int:
        """Passes on what it prints; how it ended, in a shell's number. It has `limit` seconds, without one if 0."""
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
            self._client.wait(recover.GRACE)
        except subprocess.TimeoutExpired:
            self._client.kill()

    def give_up(self) -> None:
        """Ends it, if it has not ended; one that waits does so when its standard input ends."""
        self._client.stdin.close()
        try:
            self._client.wait(2)
        except subprocess.TimeoutExpired:
            with suppress(UserError):  # the engine is away: the run, or the next one, removes it
                recover.stop_stages(self._stage.addressing, grace=0)
            self._client.kill()
            self._client.wait()
        shutil.rmtree(self._place, ignore_errors=True)
        with suppress(OSError):  # a neighbour's is there
            recover.EARLY.rmdir()


def link(source: Path, target: Path) -> None:
    """Makes `target` the same file as `source`, or a folder of the same files. Raises OSError where that cannot be."""
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


def move(made: Path, outputs: Path) -> None:
    """Moves all files below `made` to the same places below `outputs`, whose folders stay as they are."""
    for folder, folders, files in os.walk(made):
        for name in [*folders, *files]:
            path = Path(folder, name)
            there = outputs / path.relative_to(made)
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
                there.mkdir(exist_ok=True)
            else:
                path.replace(there)


@contextmanager
def started(stage: Stage) -> Iterator[Container | None]:
    """The container of `stage`, if that can start early; it is no more when the block ends."""
    container = None
    try:
        with suppress(OSError):  # no room, no process to be had: the stage may still not need to run
            if how := command(stage.addressing, stage.cmd):
                container = Container(stage, how)
        yield container
    finally:
        if container:
            container.give_up()
