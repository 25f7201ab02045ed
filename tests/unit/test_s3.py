"""How files go to S3: in parts, several at once, within the rules of S3."""

import asyncio
import inspect
from typing import Any

import pytest
import s3fs

from scripts import s3


def moved(**options: Any) -> dict[str, Any]:
    """What a method of s3fs is called with, if it is called by DVC with `options`."""
    seen = {}

    async def move(self: object, source: str, target: str, **given: Any) -> None:
        seen.update(given)

    asyncio.run(s3.in_parts(move, len)(None, "source", "target", **options))
    return seen


def test_a_file_alone_has_all_connections():
    """A file that DVC moves alone has ten parts on their way, one of many has four; whatever else DVC says is kept."""
    assert moved(max_concurrency=8, callback=1) == {"max_concurrency": 10, "chunksize": 6, "callback": 1}
    assert moved() == {"max_concurrency": 10, "chunksize": 6}
    assert moved(max_concurrency=1) == {"max_concurrency": 4, "chunksize": 6}


@pytest.mark.parametrize("size", [0, 1, 10**9, 80_000 * 2**20, 80_000 * 2**20 + 1, 5 * 2**40])
def test_a_file_has_no_more_parts_than_s3_allows(size):
    """A part has 8 MiB, and more only where 10,000 of them are too few for the file."""
    part = s3.part_of(size)
    assert part >= s3.PART and -(-size // part) <= 10_000
    assert part == s3.PART or size > 10_000 * s3.PART


@pytest.mark.parametrize("name", ["_put_file", "_get_file"])
def test_s3fs_takes_parts(name):
    """s3fs has what is set of it; a version that has not fails here, and not a push."""
    parameters = inspect.signature(getattr(s3fs.S3FileSystem, name)).parameters
    assert {"chunksize", "max_concurrency", "callback"} <= set(parameters)
    assert isinstance(s3fs.S3FileSystem.retries, int)
