"""How recovery says what it did."""


def say(done: str) -> None:
    """Print what was found and put right; `done` is in the past tense."""
    print(f"recovered: {done}", flush=True)
