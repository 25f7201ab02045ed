"""`make pull`: fetches the data and the run-cache from DVC's remote; what was never pushed is left to the next run."""

from scripts import transfer
from scripts.pipeline import dvc_adapter


def main(arguments: list[str]) -> None:
    with transfer.repository("pulled", "pull") as repo:
        count = dvc_adapter.pull(repo)
    print(f"pulled {count} files of data, and the run-cache")
