"""A shell in which the commands of dvc.yaml can be typed as they stand."""

import os
from collections.abc import Mapping
from typing import Any

from scripts import settings
from scripts.pipeline import template


def arguments_of(section: Mapping[str, Any]) -> str:
    """A section of params.yaml as DVC unpacks it in a command: `${train}` -> `--seed 1 ...`."""
    from dvc.parsing.interpolate import to_str

    return to_str(dict(section), {"bool": "boolean_optional"})  # as .dvc/config has it


def main(arguments: list[str]) -> None:
    params = template.read_params()
    os.environ.update(settings.for_a_run(params))
    os.environ.update({name: arguments_of(section) for name, section in params.items()})
    print("a shell in the runner; ${train} and the like hold the sections of params.yaml; leave it with 'exit'")
    os.execvp("bash", ["bash", "--norc", *arguments])
