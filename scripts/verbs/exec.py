"""Runs a program of the runner in the settled environment: `exec dvc push`, `exec bash`."""

import os


def main(arguments: list[str]) -> None:
    os.execvp(arguments[0], arguments)
