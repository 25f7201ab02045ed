"""`make new-stage NAME=... AFTER=... [LIKE=...]`: adds a stage, with all that it needs to run at once."""

from scripts.project import PROJECT
from scripts.scaffold import new_stage


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    print("\n".join(new_stage.add(PROJECT.root, given["name"], given["after"], given["like"])))
