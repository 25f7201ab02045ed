"""`make pull`: fetches the data and the run-cache from DVC's remote; what was never pushed is left to the next run."""

from scripts import transfer


def main(arguments: list[str]) -> None:
    with transfer.repository("pulled", "pull") as repo:
        stats = repo.pull(run_cache=True, allow_missing=True)["stats"]
    print(f"pulled {stats['fetched']} files of data, and the run-cache")
