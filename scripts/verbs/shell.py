"""A shell in which the commands of dvc.yaml can be typed as they stand."""

import os
from collections.abc import Mapping
from typing import Any

from scripts.pipeline import dvc_adapter, template
from scripts.pipeline.params import read_params
from scripts.project import UserError

DVC = "BASH_FUNC_dvc%%"  # how bash exports a function `dvc`
AROUND_DVC = """() {
    command dvc "$@" || return
    case " $* " in *" --dry "* | *" -h "* | *" --help "*) return ;; esac
    case " $* " in *" repro "*) echo "the stages are done; 'make publish' publishes their models" >&2 ;; esac
}"""
"""`make run` publishes; a plain `dvc repro` does not, and says how."""


def variable(section: str) -> str:
    """Return the name that a section has as a variable of bash, which can have no dash."""
    return section.replace("-", "_")


def variables(sections: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of each section of params.yaml, as DVC writes them, by the name of the variable."""
    return {variable(name): dvc_adapter.arguments(section) for name, section in sections.items()}


def main(arguments: list[str]) -> None:
    sections = read_params()
    os.environ.update(variables(sections))
    os.environ[DVC] = AROUND_DVC
    try:
        os.environ.update(template.load().given(os.environ))
    except UserError as error:  # a shell may be what mends it
        print(f"note: {error}")
    example = next(iter(sections), "section")
    print(f"a shell in the runner; ${{{example}}} and the like hold the sections of params.yaml; leave it with 'exit'")
    for name in sections:
        if name != variable(name):
            print(f"note: for ${{{name}}} in a command type ${{{variable(name)}}}: bash reads the dash as an operator")
    os.execvp("bash", ["bash", "--norc", *arguments])
