"""`make push`: sends the data and the run-cache to DVC's remote."""

from scripts import transfer
from scripts.pipeline import dvc_adapter


def main(arguments: list[str]) -> None:
    with transfer.repository("pushed", "push") as repo:
        count = dvc_adapter.push(repo)
        transfer.check_arrival(repo)
        transfer.check_whole(repo)
    print(f"pushed {count} files of data and run-cache")
