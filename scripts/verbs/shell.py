"""A shell in which the commands of dvc.yaml can be typed as they stand."""

import os

from scripts.pipeline import dvc_adapter
from scripts.pipeline.params import read_params

DVC = "BASH_FUNC_dvc%%"  # how bash exports a function `dvc`
AROUND_DVC = """() {
    command dvc "$@" || return
    case " $* " in *" --dry "* | *" -h "* | *" --help "*) return ;; esac
    case " $* " in *" repro "*) echo "the stages are done; 'make publish' publishes their models" >&2 ;; esac
}"""
"""`make run` publishes; a plain `dvc repro` does not, and says how."""


def main(arguments: list[str]) -> None:
    sections = read_params()
    os.environ.update({name: dvc_adapter.arguments(section) for name, section in sections.items()})
    os.environ[DVC] = AROUND_DVC
    example = next(iter(sections), "section")
    print(f"a shell in the runner; ${{{example}}} and the like hold the sections of params.yaml; leave it with 'exit'")
    os.execvp("bash", ["bash", "--norc", *arguments])
