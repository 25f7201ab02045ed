"""How s3fs, by which DVC reaches S3, moves a file: in parts, several at once, as AWS's own client does.

By itself it takes parts of 50 MiB, waits for the slowest of some before it begins with the next, and has one connection
for a file as soon as DVC moves two.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import cache, wraps
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import botocore.session
import s3fs
from aiobotocore.signers import AioRequestSigner
from botocore.auth import S3SigV4Auth

from scripts.pipeline.dvc_adapter import batch_coros
from scripts.pipeline.dvc_faster import file_hash

PART = 8 << 20
"""Bytes; AWS's client takes as many."""
MOST_PARTS = 10_000
"""Of one object, by the rules of S3."""
CHUNK = 1 << 18
"""Bytes of a part that are read at once: for larger ones each takes new memory, which costs as much as the reading."""
ALONE, AMONG_OTHERS = 10, 4
"""How many parts of a file are on their way, and in memory, at once: all files together have ten connections."""

Move = Callable[..., Coroutine[Any, Any, None]]
"""S3FileSystem._put_file or _get_file."""


@cache
def configure() -> None:
    """Let every S3FileSystem that is made from now on move files in such parts.

    It tries nothing again: botocore does, and five times that is minutes of silence. What botocore knows of S3, some MB
    of JSON, is read once and not for each of the clients, of which DVC makes four.
    """
    botocore.session.create_loader = cache(botocore.session.create_loader)
    s3fs.S3FileSystem.retries = 1
    s3fs.S3FileSystem._put_file = in_parts(s3fs.S3FileSystem._put_file, lambda file: part_of(Path(file).stat().st_size))
    s3fs.S3FileSystem._get_file = in_parts(s3fs.S3FileSystem._get_file, lambda _: PART)
    s3fs.S3FileSystem._upload_file_part_concurrent = _send
    AioRequestSigner.sign = hashed_aside(AioRequestSigner.sign)
    S3SigV4Auth.payload = known_payload(S3SigV4Auth.payload)
    s3fs.S3FileSystem._download_file_part_concurrent = _receive


def in_parts(move: Move, part: Callable[[str], int]) -> Move:
    """Return `move` in parts of `part(source)` bytes."""

    @wraps(move)
    async def moved(
        self: s3fs.S3FileSystem, source: str, target: str, *, max_concurrency: int | None = None, **options: Any
    ) -> None:
        at_once = AMONG_OTHERS if max_concurrency == 1 else ALONE  # DVC says 1 if it moves several files
        await move(self, source, target, max_concurrency=at_once, chunksize=part(source), **options)

    return moved


def hashed_aside(sign: Move) -> Move:
    """Return the `sign` of a request to S3 for which the content was hashed before, in a thread.

    The signature covers the content's SHA-256, which botocore makes while all that is on its way waits.
    """

    @wraps(sign)
    async def signed(self: AioRequestSigner, operation: str, request: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(request.data, BytesIO):  # which botocore makes of bytes
            request.context[SHA256] = await asyncio.to_thread(_sha256, request.data)
        await sign(self, operation, request, *arguments, **options)

    return signed


def known_payload(payload: Callable[..., str]) -> Callable[..., str]:
    """Return the function that says what a signature covers of a request, which takes a hash that is known."""

    @wraps(payload)
    def known(self: S3SigV4Auth, request: Any) -> str:
        return request.context.get(SHA256) or payload(self, request)

    return known


SHA256 = "sha256_of_content"
"""A key of a request's context."""


def _sha256(data: BytesIO) -> str:
    return hashlib.sha256(data.getbuffer()).hexdigest()


def part_of(size: int) -> int:
    """Return how many bytes each part of a file of `size` bytes has that is sent."""
    return max(PART, -(-size // MOST_PARTS))


async def _send(
    fs: s3fs.S3FileSystem,
    bucket: str,
    key: str,
    mpu: dict[str, Any],
    f0: BinaryIO,
    chunksize: int,
    callback: Any,
    max_concurrency: int,
) -> list[dict[str, Any]]:
    """Send the parts of the file `f0`, the next one when one is done; return what S3 says of each, in their order.

    s3fs completes the upload then, and gives it up if this raises: no part of an object is ever seen.
    """

    async def send(start: int) -> dict[str, Any]:
        data = os.pread(f0.fileno(), chunksize, start)
        about = {"Bucket": bucket, "Key": key, "UploadId": mpu["UploadId"], "PartNumber": start // chunksize + 1}
        answer = await fs._call_s3("upload_part", Body=data, **about)
        callback.relative_update(len(data))
        return answer

    return await _each([send(start) for start in range(0, os.fstat(f0.fileno()).st_size, chunksize)], max_concurrency)


async def _receive(
    fs: s3fs.S3FileSystem,
    bucket: str,
    key: str,
    lpath: str,
    content_length: int,
    chunksize: int,
    callback: Any,
    max_concurrency: int,
    version_id: str | None = None,
) -> None:
    """Fetch the parts of an object into the file `lpath`, which DVC then checks and gives its name.

    What has arrived is hashed meanwhile, as it is in the file.
    """
    version = {"VersionId": version_id} if version_id else {}
    starts = range(0, content_length, chunksize)
    with Path(lpath).open("w+b") as file:
        arrived = {start: asyncio.Event() for start in starts}

        async def receive(start: int) -> None:
            asked = f"bytes={start}-{min(start + chunksize, content_length) - 1}"
            answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=asked, **version, **fs.req_kw)
            async with answer["Body"] as body:
                at = start
                while data := await body.read(CHUNK):
                    at += os.pwrite(file.fileno(), data, at)  # not in a thread: it would outlive the file
                    callback.relative_update(len(data))
            arrived[start].set()

        async def hash_parts() -> str:
            digest = hashlib.md5(usedforsecurity=False)
            for start in starts:
                await arrived[start].wait()
                await asyncio.to_thread(_update, digest, file.fileno(), start, chunksize)
            return digest.hexdigest()

        hashed = asyncio.create_task(hash_parts())
        try:
            await _each([receive(start) for start in starts], max_concurrency)
            found = await hashed
        finally:
            hashed.cancel()
        file_hash.note(os.fstat(file.fileno()), found)


def _update(digest: "hashlib._Hash", file: int, start: int, size: int) -> None:
    """Add a part of a file to a digest; other threads go on meanwhile."""
    buffer, at = bytearray(CHUNK), start
    while got := os.preadv(file, [memoryview(buffer)[: start + size - at]], at):
        digest.update(memoryview(buffer)[:got])
        at += got


async def _each(parts: Sequence[Coroutine[Any, Any, Any]], at_once: int) -> list[Any]:
    """Return what each part returns, in their order; raise what the first that fails does, and begin no other."""
    try:
        return await batch_coros(parts, batch_size=at_once)
    finally:
        for part in parts:
            part.close()
