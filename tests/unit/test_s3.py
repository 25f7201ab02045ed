"""How files go to S3: in parts, several at once, within the rules of S3."""

import asyncio
import gc
import hashlib
import inspect
import io
import random
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiobotocore.session
import botocore.session
import pytest
import s3fs
from aiobotocore.awsrequest import AioAWSResponse
from botocore.auth import S3SigV4Auth

from scripts import s3
from scripts.pipeline.dvc_faster import file_hash

CALLBACK = SimpleNamespace(relative_update=lambda _: None)


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


class Bucket:
    """An S3FileSystem of one object, to which `break_at` (the number of a part) cannot be sent, nor that be fetched."""

    def __init__(self, data: bytes = b"", break_at: int = 0) -> None:
        self.data, self.break_at, self.req_kw = data, break_at, {}
        self.parts: dict[int, bytes] = {}
        self.now, self.most = 0, 0

    async def _call_s3(self, method: str, **asked: Any) -> dict[str, Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        first, _, last = asked.get("Range", "").removeprefix("bytes=").partition("-")
        number = asked.get("PartNumber") or int(first) // 10 + 1
        await asyncio.sleep(0.001 * (number % 3))  # they end in another order
        self.now -= 1
        if number == self.break_at:
            raise OSError("broken")
        if method == "upload_part":
            self.parts[number] = asked["Body"]
            return {"ETag": number}
        return {"Body": Body(self.data[int(first) : int(last) + 1])}


class Body:
    def __init__(self, data: bytes) -> None:
        self.data, self.most = io.BytesIO(data), len(data) // 3 + 1

    async def __aenter__(self) -> "Body":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self, size: int = 1) -> bytes:
        return self.data.read(min(size, self.most))


def send(bucket: Bucket, path: Path) -> list[Any]:
    with path.open("rb") as file:
        return asyncio.run(s3._send(bucket, "b", "k", {"UploadId": 1}, file, 10, CALLBACK, 4))


@pytest.mark.parametrize("size", [1, 10, 95, 1000])
def test_parts_make_the_file_again(tmp_path, size):
    """What is sent in parts, and what is received, is the file, however the parts end; no more are on their way."""
    data = random.Random(size).randbytes(size)
    (tmp_path / "here").write_bytes(data)
    there = Bucket(data)
    answers = send(there, tmp_path / "here")
    assert [answer["ETag"] for answer in answers] == sorted(there.parts) == list(range(1, -(-size // 10) + 1))
    assert b"".join(there.parts[number] for number in sorted(there.parts)) == data
    asyncio.run(s3._receive(there, "b", "k", str(tmp_path / "got"), size, 10, CALLBACK, 4))
    assert (tmp_path / "got").read_bytes() == data
    assert there.most == min(4, -(-size // 10))


def hash_of(path: Path) -> str:
    return file_hash(str(path), name="md5")


def test_what_arrives_is_hashed_as_it_is_in_the_file(tmp_path, monkeypatch):
    """DVC need not read what was received to know its hash, until it is another file or has other bytes."""
    data, got = random.Random(1).randbytes(95), tmp_path / "got"
    asyncio.run(s3._receive(Bucket(data), "b", "k", str(got), 95, 10, CALLBACK, 4))
    monkeypatch.setattr(file_hash, "_by_dvc", lambda path, *_, **__: f"read {path}")
    renamed = got.rename(tmp_path / "renamed")
    assert hash_of(renamed) == hashlib.md5(data).hexdigest()
    shutil.copy(renamed, got)
    assert hash_of(got) == f"read {got}"
    renamed.write_bytes(data[:-1])
    assert hash_of(renamed) == f"read {renamed}"


@pytest.mark.parametrize("size", [1, 9, 30, 3 * s3.CHUNK + 1])
def test_a_damaged_part_has_another_hash(tmp_path, size):
    """The hash is that of the bytes that are in the file, each of them."""
    data = random.Random(size).randbytes(size)
    for at in (0, size // 2, size - 1):
        wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        asyncio.run(s3._receive(Bucket(wrong), "b", "k", str(tmp_path / "got"), size, s3.CHUNK + 1, CALLBACK, 4))
        assert hash_of(tmp_path / "got") == hashlib.md5(wrong).hexdigest() != hashlib.md5(data).hexdigest()


def test_a_part_that_fails_ends_the_rest(tmp_path, recwarn):
    """If a part fails, the error is raised, so that s3fs gives the upload up; no other part is begun, nor warned of."""
    (tmp_path / "here").write_bytes(bytes(1000))
    there = Bucket(bytes(1000), break_at=5)
    with pytest.raises(OSError, match="broken"):
        send(there, tmp_path / "here")
    assert len(there.parts) < 20
    with pytest.raises(OSError, match="broken"):
        asyncio.run(s3._receive(there, "b", "k", str(tmp_path / "got"), 1000, 10, CALLBACK, 4))
    gc.collect()
    assert not recwarn.list


NAMES = {
    "_put_file": ["lpath", "rpath", "callback", "chunksize", "max_concurrency"],
    "_get_file": ["rpath", "lpath", "callback", "version_id", "chunksize", "max_concurrency"],
    "_upload_file_part_concurrent": ["bucket", "key", "mpu", "f0", "chunksize", "callback", "max_concurrency"],
    "_download_file_part_concurrent": [
        "bucket", "key", "lpath", "content_length", "chunksize", "callback", "max_concurrency", "version_id"
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_s3fs_has_what_is_set_of_it(name):
    """s3fs has the methods that are replaced, with the same arguments: another version may fail here, no push."""
    parameters = inspect.signature(getattr(s3fs.S3FileSystem, name)).parameters
    assert [each for each in parameters if each in NAMES[name]] == NAMES[name]
    assert isinstance(s3fs.S3FileSystem.retries, int)


def test_clients_share_what_botocore_knows_of_s3():
    """Each client is of a session of its own, and all of them read botocore's descriptions once."""
    s3.configure()
    sessions = [botocore.session.get_session() for _ in range(2)]
    assert len({id(session.get_component("data_loader")) for session in sessions}) == 1


@pytest.fixture
def sent():
    """Return a function that uploads a part to a server that answers nothing; it returns what was asked."""
    s3.configure()

    async def upload(content: Any) -> Any:
        seen = []

        async def send(request: Any, **_: Any) -> AioAWSResponse:
            seen.append(request)
            return AioAWSResponse(request.url, 200, {}, Body(b""))

        about = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        async with aiobotocore.session.get_session().create_client("s3", endpoint_url="http://s3", **about) as client:
            client.meta.events.register("before-send.s3", send)
            await client.upload_part(Bucket="b", Key="k", UploadId="1", PartNumber=1, Body=content)
        return seen[0]

    return lambda content: asyncio.run(upload(content))


@pytest.mark.parametrize("content", [b"", b"a part" * 100, io.BytesIO(b"a stream")])
def test_a_request_is_signed_with_the_hash_of_its_content(sent, content):
    """As botocore signs it by itself."""
    data = content if isinstance(content, bytes) else content.getvalue()
    assert sent(content).headers["X-Amz-Content-SHA256"] == hashlib.sha256(data).hexdigest().encode()


def test_a_part_is_hashed_in_a_thread(sent, monkeypatch):
    """Nothing else that is on its way waits for it, and it is hashed once."""
    threads, sha256 = [], s3._sha256
    monkeypatch.setattr(s3, "_sha256", lambda data: threads.append(threading.current_thread()) or sha256(data))
    monkeypatch.setattr(S3SigV4Auth, "payload", s3.known_payload(lambda *_: pytest.fail("it is hashed once more")))
    sent(b"a part" * 100)
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
