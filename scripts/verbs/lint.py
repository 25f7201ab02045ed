"""Checks style: ruff for Python, shellcheck for the shell scripts; changes nothing."""

import subprocess
from pathlib import Path

SHELL = sorted([*Path("scripts").rglob("*.sh"), *Path("tests").rglob("*.sh"), *Path(".ci").iterdir()])
COMMANDS = [
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["shellcheck", "-x", *map(str, SHELL)],
]


def main(arguments: list[str]) -> int:
    return max(subprocess.run(command).returncode for command in COMMANDS)
