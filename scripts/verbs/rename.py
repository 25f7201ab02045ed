"""`make rename MODEL=... [EXPERIMENT=...] [FROM=...]`: gives a model and its experiment other names."""

from scripts.project import PROJECT
from scripts.scaffold.rename import rename


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    print("\n".join(rename(PROJECT.root, given["model"], given["experiment"], given["from"])))
