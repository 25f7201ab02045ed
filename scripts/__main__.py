"""`python -m scripts VERB [ARGUMENT...]`, in the runner: settles the environment, then calls the verb's module."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

from scripts import environment, remote, setup_env
from scripts.project import ROOT, UserError


def in_a_runner_that_sees(folder: str, arguments: list[str]) -> int:
    """Runs the same verb in a second runner that has `folder` mounted as well; its exit code."""
    environ = os.environ | {"RUNNER_MOUNT": folder}
    code = subprocess.run(["sh", "scripts/runner.sh", *arguments], env=environ).returncode
    if code == 125:  # Docker's own: it could not start the container
        raise UserError(
            f"DVC_REMOTE_URL is {folder}, which could not be mounted; expected a folder that exists: make it"
        )
    return code


def main(arguments: list[str]) -> int:
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
        return importlib.import_module(f"scripts.{verb}").main(rest) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
