"""`python -m scripts VERB [ARGUMENT...]`, in the runner: sets up the environment, then calls the verb's module."""

import gc
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from scripts import remote, settings
from scripts.project import ROOT, UserError
from scripts.recovery import recover, run_lock, signals

ONE_AT_A_TIME = {"run", "publish", "push", "pull", "clean", "promote", "rollback", "reproduce"}
"""The verbs that change outputs or production, run stages, or hold DVC's own locks."""


def in_a_runner_that_sees(folder: str, arguments: list[str]) -> int:
    """Run the same verb in a second runner that has `folder` mounted as well; return its exit code."""
    environ = os.environ | {"RUNNER_MOUNT": folder}
    code = subprocess.run(["sh", "scripts/host/runner.sh", *arguments], env=environ).returncode
    if code == 125:  # Docker's own: it could not start the container
        raise UserError(
            f"DVC_REMOTE_URL is {folder}, which could not be mounted; expected a folder that exists: make it"
        )
    return code


def call(verb: str, arguments: list[str]) -> int:
    """Call a verb's module, under the lock and after recovery if it changes something; return its exit code."""
    module = importlib.import_module(f"scripts.verbs.{verb}")
    if verb != "run":  # which collects again as soon as there is something to run
        gc.enable()
    if verb not in ONE_AT_A_TIME:
        return module.main(arguments) or 0
    with run_lock.held(f"make {verb}") as ended_well:
        recover.recover(ended_well=ended_well)
        return module.main(arguments) or 0


def last_words(text: str) -> None:
    """Print to standard error, after all that was printed before: Docker carries the two streams apart."""
    time.sleep(0.1)
    print(text, file=sys.stderr)


def main(arguments: list[str]) -> int:
    gc.disable()  # what is imported stays: to look through it again and again takes a tenth of a short command
    signals.raise_stopped()
    os.chdir(ROOT)
    Path(os.environ["HOME"]).mkdir(parents=True, exist_ok=True)
    verb, *rest = arguments
    try:
        settings.ensure_dotenv()
        variables = settings.load()
        if folder := remote.folder_to_mount(variables):
            return in_a_runner_that_sees(str(folder), arguments)
        os.environ.clear()
        os.environ.update(variables)
        remote.configure(variables)
        return call(verb, rest)
    except UserError as error:
        last_words(f"error: {error}")
        return 1
    except signals.Stopped as stopped:
        hint = f"; nothing is lost: 'make {verb}' continues" if verb in ONE_AT_A_TIME else ""
        last_words(f"interrupted by {stopped.name}{hint}")
        return 128 + stopped.number


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the interpreter would take a tenth of a second to take itself apart
