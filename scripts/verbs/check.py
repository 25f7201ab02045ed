"""`make check`: each stage against its contract, and what would make a result unstable; exit 1 if anything is found."""

from scripts.contract import contract
from scripts.pipeline import images
from scripts.project import PROJECT


def main(arguments: list[str]) -> int:
    found = contract.check(PROJECT)
    for each in found:
        print(each)
    names = images.stage_names()
    print(f"{len(found)} findings" if found else f"{len(names)} stages keep the contract: {', '.join(names)}")
    return 1 if found else 0
