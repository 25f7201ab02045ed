"""What `make push` and `make pull` share: DVC's progress bars, and one sentence if its remote fails."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from scripts import places
from scripts.faults import reason
from scripts.pipeline import dvc_adapter
from scripts.pipeline.dvc_adapter import HashFileDB, Repo
from scripts.project import PROJECT, Unavailable, UserError
from scripts.remote import OURS

FAULTS = (*dvc_adapter.FAULTS, BotoCoreError, ResponseParserError)
"""What DVC, s3fs and botocore raise if the remote or the repository fails."""


LACKING = "Some of the cache files do not exist neither"
"""How DVC begins a list of hashes; `make push` and `make pull` name the files."""


class _Stopped(Exception):
    """A file could not be transferred; the cause says why."""


class _StopAtTheFirst(logging.Handler):
    """Ends the transfer at the first file that fails.

    DVC logs the failure and goes on, waiting as long for each file, and takes a run-cache that failed for a success.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and record.exc_info and record.exc_info[1]:
            raise _Stopped from record.exc_info[1]
        if record.getMessage().startswith(LACKING):
            return
        print(record.getMessage(), file=sys.stderr)


@contextmanager
def repository(did: str, verb: str) -> Iterator[Repo]:
    """Open the clone's DVC repository, whose remote answers.

    Raise Unavailable, which says that the data is not `did`, for whatever goes wrong until the end of the block.
    """
    dvc_adapter.handle_logs(_StopAtTheFirst(logging.WARNING))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # connections that a failure left open
    try:
        with Repo() as repo:
            contact(dvc_adapter.remote_of(repo))
            yield repo
    except (_Stopped, *FAULTS) as error:
        raise Unavailable(
            f"the data is not {did}: DVC's remote {_where()} did not do what was asked ({reason(first_cause(error))}); "
            f"'make {verb}' does the rest once that works"
        ) from None


def _where() -> str:
    """Return the address of the default remote for a person: of S3 that of the server, if it is not AWS's."""
    name, url = places.default_remote()
    if url.startswith("s3://") and name == OURS:
        return os.environ.get("AWS_ENDPOINT_URL") or url
    return url if "://" in url else os.path.normpath(PROJECT.root / ".dvc" / url)


def fetch_outputs(stage: dvc_adapter.Stage) -> bool:
    """Fetch the outputs of `stage` that are not here, if DVC's remote has them all; return whether it had.

    A remote that does not do what is asked has none of them, and that is said.
    """
    try:
        if not remote_has(stage):
            return False
        dvc_adapter.pull_outputs(stage)
    except FAULTS as error:
        print(f"is not fetched: {why_not(error)}", flush=True)
        return False
    return True


def remote_has(stage: dvc_adapter.Stage) -> bool:
    """Return whether DVC's remote has all outputs of `stage` that are not here. Raise one of FAULTS if it fails."""
    remote = dvc_adapter.remote_of(stage.repo)
    contact(remote)
    return all(remote.exists(oid) for oid in dvc_adapter.lacking(stage))


def why_not(error: BaseException) -> str:
    """Return what a remote that raised one of FAULTS did not do, as half a sentence."""
    return f"DVC's remote did not do what was asked ({reason(first_cause(error))})"


def check_arrival(repo: Repo) -> None:
    """Raise OSError if an output is not on the remote in its full size.

    Anything that answers 200, such as the login page of a proxy, is a success to S3's client.
    """
    here, there = dvc_adapter.cache_of(repo), dvc_adapter.remote_of(repo)
    dvc_adapter.forget_listings(there)
    for oid in dvc_adapter.output_hashes(repo):
        if (size := dvc_adapter.size_of(here, oid)) is not None and size != dvc_adapter.size_of(there, oid):
            raise OSError("it took the data and does not have it: is its address that of an S3 server?")


def check_whole(repo: Repo) -> None:
    """Raise UserError if an output is neither here nor on the remote: there is nothing of it to be sent."""
    here, there = dvc_adapter.cache_of(repo), dvc_adapter.remote_of(repo)
    outputs = dvc_adapter.outputs(repo)
    lost = [
        each for each in outputs
        if not each.oid or all(dvc_adapter.size_of(odb, each.oid) is None for odb in (here, there))
    ]  # fmt: skip
    if lost:
        made = "'make run' makes them" if all(each.by_a_stage for each in lost) else (
            "'make run' makes what a stage writes, and who called 'dvc add' can push the rest"
        )  # fmt: skip
        raise UserError(
            f"{len(lost)} of {len(outputs)} outputs are neither here nor on the remote "
            f"({first([each.path for each in lost])}): {made}"
        )


def first(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and whether there are more, in words."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def contact(odb: HashFileDB) -> None:
    """Ask a remote one question. Raise one of FAULTS if it does not answer or refuses.

    S3 has to list: to its client an empty answer is a file that exists, and a page is a list of no files.
    """
    if dvc_adapter.protocol(odb) != "s3":
        odb.fs.exists(odb.path)
        return
    from scripts import s3  # only now: its client takes long to import

    s3.configure()
    if "Name" not in dvc_adapter.list_s3(odb):
        raise OSError("it answers with a page and not with data: is its address that of an S3 server?")


def first_cause(error: BaseException) -> Exception:
    """Return the error that `error` was made of; the answer of an S3 server with its status, as requests words it."""
    while cause := error.__cause__ or (error.kwargs["error"] if isinstance(error, EndpointConnectionError) else None):
        error = cause
    if isinstance(error, ConnectionRefusedError):  # its text is asyncio's
        return OSError("Connection refused")
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 400:
            return OSError(f"{status} {'Server' if status >= 500 else 'Client'} Error: {error}")
    return error if isinstance(error, Exception) else OSError(str(error))
