"""`make push`: sends the data and the run-cache to DVC's remote."""

from scripts import transfer


def main(arguments: list[str]) -> None:
    with transfer.repository("pushed", "push") as repo:
        count = repo.push(run_cache=True)
        transfer.check_arrival(repo)
    print(f"pushed {count} files of data and run-cache")
