"""Copies a folder to a bucket and back as `aws s3 cp --recursive` does, by s3transfer with its default concurrency.

python benchmarks/s3/client.py put|get FOLDER BUCKET PREFIX, or: empty BUCKET
"""

import sys
from pathlib import Path

import boto3
import requests
from botocore.client import BaseClient
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferManager


def put(client: BaseClient, folder: Path, bucket: str, prefix: str) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with TransferManager(client) as manager:
        wait([manager.upload(str(path), bucket, f"{prefix}/{path.relative_to(folder)}") for path in files])


def get(client: BaseClient, folder: Path, bucket: str, prefix: str) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    paths = {
        found["Key"]: folder / found["Key"].removeprefix(f"{prefix}/") for page in pages for found in page["Contents"]
    }
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    with TransferManager(client) as manager:
        wait([manager.download(bucket, key, str(path)) for key, path in paths.items()])


def wait(transfers: list[TransferFuture]) -> None:
    """Returns when all have ended; raises what the first of them that failed did."""
    for transfer in transfers:
        transfer.result()


def empty(client: BaseClient, bucket: str) -> None:
    """Makes the server forget all it has but this bucket."""
    requests.post(f"{client.meta.endpoint_url}/moto-api/reset", timeout=60).raise_for_status()
    client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    s3 = boto3.client("s3")
    if verb == "empty":
        empty(s3, *words)
    else:
        folder, bucket, prefix = words
        (put if verb == "put" else get)(s3, Path(folder), bucket, prefix)
