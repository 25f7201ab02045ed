"""Formats the Python code, and mends what ruff can mend by itself."""

import subprocess


def main(arguments: list[str]) -> int:
    codes = [subprocess.run(["ruff", *command, "."]).returncode for command in (["check", "--fix"], ["format"])]
    return max(codes)
