"""Checks style: ruff for Python, shellcheck for the shell scripts; changes nothing."""

import subprocess
from pathlib import Path

COMMANDS = [
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["shellcheck", "-x", *map(str, sorted([*Path("scripts").rglob("*.sh"), *Path("tests").rglob("*.sh")])), ".ci/run"],
]


def main(arguments: list[str]) -> int:
    return max(subprocess.run(command).returncode for command in COMMANDS)
