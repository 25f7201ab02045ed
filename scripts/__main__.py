"""`python -m scripts VERB [ARGUMENT...]`, in the runner: settles the environment, then calls the verb's module."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

from scripts import clone_lock, environment, heal, remote, setup_env, signals
from scripts.project import ROOT, UserError

ONE_AT_A_TIME = {"run", "push", "pull", "clean", "promote", "rollback", "reproduce"}
"""The verbs that change outputs or production, run stages, or hold DVC's own locks."""


def in_a_runner_that_sees(folder: str, arguments: list[str]) -> int:
    """Runs the same verb in a second runner that has `folder` mounted as well; its exit code."""
    environ = os.environ | {"RUNNER_MOUNT": folder}
    code = subprocess.run(["sh", "scripts/runner.sh", *arguments], env=environ).returncode
    if code == 125:  # Docker's own: it could not start the container
        raise UserError(
            f"DVC_REMOTE_URL is {folder}, which could not be mounted; expected a folder that exists: make it"
        )
    return code


def call(verb: str, arguments: list[str]) -> int:
    """Calls a verb's module, where it must be under the lock and after healing; its exit code."""
    module = importlib.import_module(f"scripts.{verb}")
    if verb not in ONE_AT_A_TIME:
        return module.main(arguments) or 0
    with clone_lock.held(f"make {verb}") as ended_well:
        heal.heal(ended_well=ended_well)
        return module.main(arguments) or 0


def main(arguments: list[str]) -> int:
    signals.raise_stopped()
    os.chdir(ROOT)
    Path(os.environ["HOME"]).mkdir(parents=True, exist_ok=True)
    verb, *rest = arguments
    try:
        setup_env.ensure()
        variables = environment.load()
        if folder := remote.folder_to_mount(variables):
            return in_a_runner_that_sees(str(folder), arguments)
        os.environ.clear()
        os.environ.update(variables)
        remote.configure(variables)
        return call(verb, rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except signals.Stopped as stopped:
        hint = f"; nothing is lost: the next 'make {verb}' goes on" if verb in ONE_AT_A_TIME else ""
        print(f"interrupted by {stopped.name}{hint}", file=sys.stderr)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
