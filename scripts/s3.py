"""How s3fs, by which DVC reaches S3, moves a file: in parts, several at once, as AWS's own client does.

By itself it takes parts of 50 MiB, and DVC gives it one connection a file as soon as there are two files.
"""

from collections.abc import Callable, Coroutine
from functools import cache, wraps
from pathlib import Path
from typing import Any

import s3fs

PART = 8 << 20
"""Bytes; AWS's client takes as many."""
MOST_PARTS = 10_000
"""Of one object, by the rules of S3."""
ALONE, AMONG_OTHERS = 10, 4
"""How many parts of a file are on their way, and in memory, at once: all files together have ten connections."""

Move = Callable[..., Coroutine[Any, Any, None]]
"""S3FileSystem._put_file or _get_file."""


@cache
def configure() -> None:
    """Let every S3FileSystem that is made from now on move files in such parts.

    It tries nothing again: botocore does, and five times that is minutes of silence.
    """
    s3fs.S3FileSystem.retries = 1
    s3fs.S3FileSystem._put_file = in_parts(s3fs.S3FileSystem._put_file, lambda file: part_of(Path(file).stat().st_size))
    s3fs.S3FileSystem._get_file = in_parts(s3fs.S3FileSystem._get_file, lambda _: PART)


def in_parts(move: Move, part: Callable[[str], int]) -> Move:
    """Return `move` in parts of `part(source)` bytes."""

    @wraps(move)
    async def moved(
        self: s3fs.S3FileSystem, source: str, target: str, *, max_concurrency: int | None = None, **options: Any
    ) -> None:
        at_once = AMONG_OTHERS if max_concurrency == 1 else ALONE  # DVC says 1 if it moves several files
        await move(self, source, target, max_concurrency=at_once, chunksize=part(source), **options)

    return moved


def part_of(size: int) -> int:
    """Return how many bytes each part of a file of `size` bytes has that is sent."""
    return max(PART, -(-size // MOST_PARTS))
