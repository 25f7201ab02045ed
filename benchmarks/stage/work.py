"""A stage of a synthetic pipeline: waits, computes and writes as it is told, by the standard library alone."""

import argparse
import hashlib
import os
import random
import sys
import time
from pathlib import Path


def digest(words: list[str]) -> str:
    """What depends on all arguments, and on the contents of the files among them."""
    state = hashlib.sha256()
    for word in words:
        path = Path(word)
        state.update(path.read_bytes() if path.is_file() else word.encode())
    return state.hexdigest()


def compute(rounds: int) -> None:
    """Keeps one core busy."""
    total = 0
    for number in range(rounds):
        total += number


def fill(folder: Path, files: int, size: int, seed: str) -> None:
    """Writes `files` files of `size` bytes that no compression makes smaller."""
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    for number in range(files):
        with (folder / f"{number:06}.bin").open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(source.randbytes(min(1 << 20, size - start)))


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--value", default="0")
    parser.add_argument("--seconds", type=float, default=0)  # to sleep
    parser.add_argument("--rounds", type=int, default=0)  # to compute
    parser.add_argument("--files", type=int, default=0)  # to write into the folder --out
    parser.add_argument("--size", type=int, default=0)  # bytes of each
    parser.add_argument("--metrics", type=Path)  # to write as JSON: a score
    args, others = parser.parse_known_args()  # --in_1 data/a/out
    if os.environ.get("STARTED_EARLY"):  # as stagekit.run does
        print("waits for its inputs", flush=True)
        if not sys.stdin.readline():
            return
    time.sleep(args.seconds)
    compute(args.rounds)
    if args.files:
        fill(args.out, args.files, args.size, args.value)
    else:
        args.out.write_text(digest([args.value, *others]) + "\n")
    if args.metrics:
        args.metrics.write_text('{"score": 0.5}\n')


if __name__ == "__main__":
    main()
