"""What `make push` and `make pull` share: DVC's own progress bars, and one sentence where its remote does not do it."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import s3fs
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.errors import ObjectDBError
from dvc_objects.fs.errors import AuthError, ConfigError

from scripts.faults import reason
from scripts.project import LOCAL, UserError

FAULTS = (DvcException, OSError, BotoCoreError, ResponseParserError, ObjectDBError, AuthError, ConfigError)
"""What DVC, s3fs and botocore raise for a fault of the remote or of the repository."""


class _Stopped(Exception):
    """A file could not be transferred; why is its cause."""


class _StopAtTheFirst(logging.Handler):
    """Ends the transfer at the first file that fails.

    DVC logs that and goes on, through as many waits as there are files, and takes a run-cache that fails for success.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and record.exc_info and record.exc_info[1]:
            raise _Stopped from record.exc_info[1]
        print(record.getMessage(), file=sys.stderr)


@contextmanager
def repository(did: str, verb: str) -> Iterator[Repo]:
    """The clone's DVC repository; raises UserError, which says that the data is not `did`, for whatever goes wrong."""
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logger = logging.getLogger(name)
        logger.handlers = [_StopAtTheFirst(logging.WARNING)]
        logger.propagate = False
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # connections that a fault left open
    try:
        with Repo() as repo:
            contact(repo.cloud.get_remote_odb())
            yield repo
    except (_Stopped, *FAULTS) as error:
        where = os.environ.get("AWS_ENDPOINT_URL") if os.environ.get("DVC_REMOTE_URL", "").startswith("s3://") else ""
        where = where or os.environ.get("DVC_REMOTE_URL") or LOCAL / "dvc-remote"
        raise UserError(
            f"the data is not {did}: DVC's remote {where} did not do what was asked ({reason(first_cause(error))}); "
            f"'make {verb}' does what is left once that works"
        ) from None


def check_arrival(repo: Repo) -> None:
    """Raises OSError where an output is not on the remote in its full size.

    Anything that answers 200, such as a page for signing in, is a success to S3's client.
    """
    here, there = repo.cache.local, repo.cloud.get_remote_odb()
    there.fs.fs.invalidate_cache()
    for oid in {out.hash_info.value for out in repo.index.outs if out.hash_info}:
        if here.exists(oid) and _size(here, oid) != _size(there, oid):
            raise OSError("it took the data and does not have it: is its address that of an S3 server?")


def _size(odb: HashFileDB, oid: str) -> int | None:
    try:
        return odb.fs.size(odb.oid_to_path(oid))
    except FileNotFoundError:
        return None


def contact(odb: HashFileDB) -> None:
    """Asks a remote one question; raises one of FAULTS where it has no answer or refuses.

    S3 has to list: to its client an empty answer is a file that is there, and a page is a list of no files.
    """
    if odb.fs.protocol != "s3":
        odb.fs.exists(odb.path)
        return
    s3fs.S3FileSystem.retries = 1  # botocore retries already; five times that is minutes of silence
    bucket, _, prefix = odb.path.partition("/")
    if "Name" not in odb.fs.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1):
        raise OSError("it answers with a page and not with data: is its address that of an S3 server?")


def first_cause(error: BaseException) -> Exception:
    """The error that `error` was made of; a server's answer with its status, as requests would tell it."""
    while cause := error.__cause__ or (error.kwargs["error"] if isinstance(error, EndpointConnectionError) else None):
        error = cause
    if isinstance(error, ConnectionRefusedError):  # its text is asyncio's
        return OSError("Connection refused")
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 400:
            return OSError(f"{status} {'Server' if status >= 500 else 'Client'} Error: {error}")
    return error if isinstance(error, Exception) else OSError(str(error))
