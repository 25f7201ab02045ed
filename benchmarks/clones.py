"""Clones of the project that benchmarks run, and shells that are already running when a command is timed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import yaml

from benchmarks.measure import Sample
from scripts import copies
from scripts.project import UserError
from scripts.yaml12 import load_yaml

OUTPUTS = ("data/raw", "data/processed", "models", "metrics")
KEPT = (*OUTPUTS, ".dvc/cache", ".dvc/tmp", ".local/dvc-site-cache")
"""What a clone has of former runs, beside dvc.lock."""
SAID = "/tmp/said"
"""What the last command of a shell printed, in its container."""


@dataclass(frozen=True)
class Shell:
    """A shell in a container that runs already: what is timed in it does not wait for a container's start."""

    process: subprocess.Popen[str]

    @classmethod
    @contextmanager
    def of(cls, command: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Iterator["Shell"]:
        """A shell that `command` starts and that reads standard input; it ends with the block."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=cwd, env=environ, text=True, **pipes) as process:
            try:
                shell = cls(process)
                shell.run("true")
                yield shell
            except BaseException:
                process.kill()  # not to wait for its command; its container is found by its label
                raise
            pipe(process.stdin).close()

    def run(self, command: str) -> Sample:
        """Runs a command there; its seconds. Raises UserError with what it printed where it fails."""
        started = time.perf_counter()
        pipe(self.process.stdin).write(f"{{ {command}\n}} < /dev/null > {SAID} 2>&1; echo; echo ended $?\n")
        pipe(self.process.stdin).flush()
        code = next((line.split()[1] for line in pipe(self.process.stdout) if line.startswith("ended ")), "?")
        seconds = time.perf_counter() - started
        if code != "0":
            self._fail(command, code)
        return {"s": seconds}

    def _fail(self, command: str, code: str) -> None:
        pipe(self.process.stdin).write(f"tail -n 20 {SAID}; exit\n")
        pipe(self.process.stdin).flush()
        print(pipe(self.process.stdout).read(), file=sys.stderr)
        raise UserError(f"'{command[:100]}' ended with {code} in its container; expected 0: see above")


def pipe(end: IO[str] | None) -> IO[str]:
    """An end of a pipe of a process that was started with one."""
    if end is None:
        raise ValueError("the process was started without pipes")
    return end


@dataclass(frozen=True)
class Clone:
    """A clone beside the copy of the working tree; `settings` are the shell's variables of all that runs in it."""

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Path, name: str, **settings: str) -> "Clone":
        """A new clone of `source`, beside it."""
        path = source.with_name(name)
        subprocess.run(["git", "clone", "--quiet", str(source), str(path)], check=True)
        return cls(path, settings)

    @cached_property
    def id(self) -> str:
        """What tells its containers, network and images from those of others, as scripts/host/runner.sh has it."""
        hashed = ["git", "hash-object", "--stdin"]
        return subprocess.run(hashed, input=str(self.path), capture_output=True, text=True, check=True).stdout[:12]

    @property
    def label(self) -> str:
        return f"pipeline.clone={self.id}"

    @property
    def network(self) -> str:
        return f"pipeline-{self.id}"

    def environ(self, **variables: str) -> dict[str, str]:
        return {**copies.clean_environment(), **self.settings, **variables}

    def make(self, *arguments: str, **variables: str) -> Sample:
        """`make ARGUMENTS` here, as a user calls it; its seconds. Raises UserError with what it printed if it fails."""
        started = time.perf_counter()
        done = subprocess.run(
            ["make", *arguments], cwd=self.path, env=self.environ(**variables),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        if done.returncode:
            print(*done.stdout.splitlines()[-20:], sep="\n", file=sys.stderr)
            raise UserError(f"'make {' '.join(arguments)}' of a benchmark's clone failed; expected a run: see above")
        return {"s": seconds}

    @contextmanager
    def shell(self, **variables: str) -> Iterator[Shell]:
        """A shell in this clone's runner, settled as for a run."""
        command = ["sh", "scripts/host/runner.sh", "shell"]
        with Shell.of(command, self.path, self.environ(**variables)) as shell:
            yield shell

    # --- what it holds

    @property
    def params(self) -> dict[str, Any]:
        return load_yaml((self.path / "params.yaml").read_text())

    def set(self, section: str, **values: Any) -> None:
        """Changes values in a section of params.yaml."""
        params = self.params
        params[section] |= values
        (self.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def forget(self, *, lock: bool = False) -> None:
        """Deletes all outputs and DVC's caches, and with `lock` dvc.lock: the next run runs all stages.

        A dvc.lock that stays is the same after that run, so that publishing finds its receipt and takes no time.
        """
        for name in KEPT:
            shutil.rmtree(self.path / name, ignore_errors=True)
        if lock:
            (self.path / "dvc.lock").unlink(missing_ok=True)

    def forget_below(self, folder: str) -> None:
        """Deletes the files made below a folder, also from DVC's cache: the next run runs their stages."""
        shutil.rmtree(self.path / folder, ignore_errors=True)
        shutil.rmtree(self.path / ".dvc/cache/runs", ignore_errors=True)
        stages = load_yaml((self.path / "dvc.lock").read_text())["stages"]
        for out in (out for stage in stages.values() for out in stage["outs"] if out["path"].startswith(folder)):
            (self.path / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink(missing_ok=True)

    def commit(self, message: str) -> None:
        """Commits all, so that publishing has no patch to send."""
        who = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
        for command in (["add", "--all"], ["commit", "--quiet", "--allow-empty", "--message", message]):
            subprocess.run(["git", *who, *command], cwd=self.path, check=True)

    def restore(self) -> None:
        """Put every tracked file back as it was committed, and delete the others that git does not ignore."""
        for command in (["checkout", "--quiet", "."], ["clean", "--quiet", "--force", "-d"]):
            subprocess.run(["git", *command], cwd=self.path, check=True)


def uid() -> str:
    """Who owns the clones, for a container's --user."""
    return f"{os.getuid()}:{os.getgid()}"
