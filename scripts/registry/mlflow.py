"""The MLflow server as publishing sees it: its faults, and what it has of a model."""

import errno
import logging
import os
import resource
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import requests
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request_safe

from scripts import bounded, faults, settings
from scripts.registry.records import DIGEST, State, Unclear, Version

FAULTS = (MlflowException, OSError, ImportError, Boto3Error, BotoCoreError, ClientError)
"""What MLflow's client and requests raise, and boto3 where the server keeps artifacts in S3; ImportError, if it names a
store that no client is installed for."""


class RegistryError(Exception):
    """The server did not do what was asked. The text is one line that says which server and why."""


class _Elsewhere(Exception):
    """Carries an exception past `server_errors`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Client(MlflowClient):
    """MLflow's client. It asks once whether a model's name is that of a prompt: MLflow's asks before each change."""

    def __init__(self) -> None:
        super().__init__()
        self._models: set[str] = set()

    def _raise_if_prompt(self, name: str) -> None:
        if name not in self._models:
            super()._raise_if_prompt(name)
            self._models.add(name)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's advice (stages are deprecated, where a run's page is) and its progress bars out of the log."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("mlflow", "urllib3")}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn what MLflow's client and requests raise into RegistryError, in one line."""
    try:
        yield
    except FAULTS as error:
        if _is_of_this_machine(error):
            where = error.filename or "a file of this clone"
            raise RegistryError(f"{where} cannot be read or written: {error.strerror}") from error
        why = faults.reason(error)
        raise RegistryError(f"the MLflow server {address()} did not do what was asked ({why})") from error
    except Unclear as error:
        raise RegistryError(str(error)) from None
    except _Elsewhere as fault:
        raise fault.error from None


def _is_of_this_machine(error: Exception) -> bool:
    """Return whether an error is about a file here, not about the server."""
    if not isinstance(error, OSError) or isinstance(error, requests.RequestException):
        return False
    return bool(error.filename) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def not_the_servers[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that works without the server: `server_errors` lets its exceptions pass as they are."""

    def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except FAULTS as error:
            raise _Elsewhere(error) from error

    return call


def address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def is_clash(error: MlflowException) -> bool:
    """Return True if another client wrote the same row of the server's database at the same moment."""
    return "IntegrityError" in str(error)


class Listed(NamedTuple):
    """A version as a list of the server's has it, with the times at which it was made and last changed."""

    version: Version
    made: int
    changed: int


def versions(model: str) -> list[Version]:
    """Return all versions of `model`, the oldest first; none if there is no such model."""
    return _by_number(_listed(f"name='{model}'", at_once=1000))


def _by_number(found: Iterable[Listed]) -> list[Version]:
    return sorted((each.version for each in found), key=lambda version: version.number)


def versions_of(model: str, digest: str) -> list[Version]:
    """Return the versions of `model` whose content is `digest`, the oldest first, as far as the server can tell them.

    A server may not know how to look for a tag: then all versions are read.
    """
    try:
        which = f"name='{model}' and tags.{DIGEST} = '{digest}'"
        found = _by_number(_listed(which, at_once=1000))
    except MlflowException as error:
        if error.error_code not in REFUSED:
            raise
        found = versions(model)
    return [version for version in found if version.tags.get(DIGEST) == digest]


REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "NOT_IMPLEMENTED")
"""What a server answers to a filter or an order that it does not know."""


def _listed(which: str, *, at_once: int, order: str = "") -> Iterator[Listed]:
    """Yield the versions of which `which` holds, in the order that is asked for, as far as the server knows it."""
    query = {"filter": which, "max_results": str(at_once)} | ({"order_by": order} if order else {})
    for _ in range(bounded.PAGES):
        page = _page(query)
        try:
            for each in page.get("model_versions", []):
                times = (int(each.get(f"{which}_timestamp") or 0) for which in ("creation", "last_updated"))
                yield Listed(Version.of(each), *times)
            token = page.get("next_page_token")
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            raise RegistryError(f"the MLflow server {address()} lists versions that are none") from None
        if not token:
            return
        query["page_token"] = str(token)
    raise RegistryError(f"the MLflow server {address()} has a list of versions that does not end")


def _page(query: Mapping[str, str]) -> Any:
    """Return a page of a list of versions, as MLflow's client asks for it, without the second that this takes to turn a
    thousand into objects of its own."""
    there = get_default_host_creds(address())
    return http_request_safe(there, "/api/2.0/mlflow/model-versions/search", "GET", params=query).json()


def read(client: MlflowClient, model: str) -> State:
    """Return what the registry has of `model`."""
    return Reading(client, model).now()


class Reading:
    """Reads what the registry has of a model: whole at first, and then only what may have changed since.

    A server notes when a version was made, and when its stage or description last changed, but not its tags. Whoever
    decides on a version describes it before the tag that counts. A person's decision is such a tag alone until its
    stage is set, and the model's own tags and aliases with it: as soon as those differ, all is read again. So only a
    decision that somebody is just making can be missed, and only a registry that was read whole is at rest.
    """

    def __init__(self, client: MlflowClient, model: str) -> None:
        self._client, self._model = client, model
        self._versions: dict[int, Listed] = {}
        self._own: tuple[dict[str, int], dict[str, str]] | None = None
        self._stale: set[int] = set()
        self.is_whole = False  # whether all that `now` last returned was read then

    def forget(self) -> None:
        """Read all again the next time."""
        self._own = None

    def forget_one(self, number: int) -> None:
        """Read this version again the next time: a tag of it was set."""
        self._stale.add(number)

    def now(self) -> State:
        """Return what there is. The model comes before its versions: its tags are written after theirs."""
        registered = self._client.get_registered_model(self._model)
        own = (registered.aliases, registered.tags)
        changed = self._changed() if own == self._own and len(self._versions) > FEW else None
        self.is_whole = changed is None
        found = _listed(f"name='{self._model}'", at_once=1000) if changed is None else changed
        known = {} if self.is_whole else self._versions
        self._versions = known | {each.version.number: each for each in found}
        self._own, self._stale = own, set()
        return State.of([each.version for each in self._versions.values()], *own)

    def _changed(self) -> list[Listed] | None:
        """Return the versions that changed since the last look; None if the server cannot tell."""
        known = self._versions.values()
        if not any(each.changed > each.made for each in known):
            return None  # it does not note when one is changed
        since = max(each.changed for each in known) - CLOCKS
        found: list[Listed] = []
        try:
            for each in _listed(f"name='{self._model}'", at_once=AT_ONCE, order=LATELY):
                if found and each.changed > found[-1].changed:
                    return None  # it has an order of its own
                if each.changed < since:
                    break
                found.append(each)
            return found + [self._again(number) for number in self._stale]
        except MlflowException as error:
            if error.error_code not in (*REFUSED, "RESOURCE_DOES_NOT_EXIST"):
                raise
            return None

    def _again(self, number: int) -> Listed:
        found = self._client.get_model_version(self._model, str(number))
        version = Version(number, found.current_stage, found.run_id, found.tags)
        return Listed(version, found.creation_timestamp or 0, found.last_updated_timestamp or 0)


FEW, AT_ONCE = 50, 50
"""A model with so many versions is always read whole; how many of those that changed last are listed at once."""
LATELY = "last_updated_timestamp DESC"
CLOCKS = 60_000
"""Milliseconds by which the clocks of a server's machines may differ."""


def run_of(client: MlflowClient, version: Version) -> Run | None:
    """Return the run that the version came from; None if it came from none, or that is gone."""
    if not version.run_id:
        return None
    try:
        return client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def send_folder(run: Run, folder: Path, place: str = "") -> None:
    """Upload the files below `folder` as artifacts of `run`, below `place`: MLflow's client sends one at a time.

    Raise what the first that fails does, when none is on its way any more; after it no other one is begun.
    """
    there = get_artifact_repository(run.info.artifact_uri)
    failed = threading.Event()

    def send(file: Path) -> None:
        if failed.is_set():
            return
        above = PurePosixPath(place, file.parent.relative_to(folder).as_posix()).as_posix()
        try:
            there.log_artifact(str(file), None if above == "." else above)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(SENT_AT_ONCE) as pool:
        files = [pool.submit(send, path) for path in sorted(folder.rglob("*")) if path.is_file()]
        try:
            for file in files:
                file.result()
        finally:
            pool.shutdown(cancel_futures=True)


SENT_AT_ONCE = 4


def artifact(run: Run, path: str, folder: str | Path) -> Path | None:
    """Download an artifact of `run`, a file or a folder; return where it is below `folder`, None if there is none.

    Not by the client's own calls, which ask for logged models first: servers before MLflow 3 do not know those.
    """
    check_location(run.info.artifact_uri)
    there = get_artifact_repository(run.info.artifact_uri)
    listed = {file.path: file for file in there.list_artifacts(path.rpartition("/")[0] or None)}
    if path not in listed:
        return None
    with _no_file_larger_than(size := settings.size(os.environ.get("STAGE_OUTPUT_SIZE", "0")) or None):
        for number, file in enumerate(_files(there, listed[path])):
            place = Path(folder, file)
            place.parent.mkdir(parents=True, exist_ok=True)
            there._download_file(file, str(place))
            size = None if size is None else size - place.stat().st_size
            if number >= MOST_FILES or (size is not None and size < 0):
                raise RegistryError(
                    f"the MLflow server {address()} has more as {path} of a run than is taken from it; expected at "
                    f"most {MOST_FILES} files and STAGE_OUTPUT_SIZE"
                )
    return Path(folder, path)


MOST_FILES, DEEPEST = 100_000, 30
"""Of an artifact that is a folder: a server can list one in itself."""


def _files(there: ArtifactRepository, top: FileInfo) -> Iterator[str]:
    """Yield the path of an artifact, or of each file below it. Raise RegistryError for a path that leads elsewhere."""
    left = [top]
    while left:
        entry = left.pop()
        if not entry.is_dir:
            yield entry.path
            continue
        for child in there.list_artifacts(entry.path):
            name = child.path.removeprefix(f"{entry.path}/")
            if child.path == name or "/" in name or name in ("", ".", "..") or not name.isprintable():
                raise RegistryError(f"the MLflow server {address()} lists {child.path[:100]!r} in {entry.path[:100]!r}")
            if child.path.count("/") > DEEPEST:
                raise RegistryError(f"the MLflow server {address()} has folders that do not end in {top.path}")
            left.append(child)


@contextmanager
def _no_file_larger_than(size: int | None) -> Iterator[None]:
    """Let no file be written beyond `size` bytes in the block (OSError): what a server sends need not end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size if before[1] < 0 else min(size, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


PROXIED, PORTS = "mlflow-artifacts", {"http": 80, "https": 443}
BUCKETS = ("s3", "gs", "wasb", "wasbs", "abfss", "r2", "b2", "oss")
"""Where artifacts may be besides the server: stores that have credentials of their own."""


def _is_own(parts: SplitResult) -> bool:
    """Return whether an address is of the server in use. Raise ValueError if it has no port that could be."""
    server = urlsplit(address())
    port = server.port or PORTS.get(server.scheme)
    if parts.scheme == PROXIED and not parts.netloc:  # mlflow-artifacts:/1/...
        return True
    return parts.hostname == server.hostname and (parts.port or PORTS.get(parts.scheme, port)) == port


def check_location(uri: str) -> None:
    """Raise RegistryError if artifacts sent to `uri` would not reach the server that is in use.

    MLflow's client writes to a path on its own disk, and gives the server's user and token to any other host.
    """
    try:
        parts = urlsplit(uri)
        host, own = parts.hostname, _is_own(parts)
    except ValueError:
        raise RegistryError(f"the MLflow server {address()} keeps artifacts at {uri!r}, which is no address") from None
    mend = "name a new experiment in params.yaml"
    if len(parts.scheme) < 2 or parts.scheme == "file":
        raise RegistryError(
            f"the MLflow server {address()} keeps artifacts at {parts.path}, which is a folder of this container; "
            "expected a server that takes them: start it with --serve-artifacts and without --default-artifact-root, "
            f"and {mend}"
        )
    if parts.scheme in (PROXIED, *PORTS) and not own:
        raise RegistryError(
            f"the MLflow server {address()} keeps artifacts at {uri}, which is another server; expected its own, since "
            f"{host} would get the user and the token: {mend}"
        )
    if parts.scheme not in (PROXIED, *PORTS, *BUCKETS):
        raise RegistryError(
            f"the MLflow server {address()} keeps artifacts at {uri}, which is neither on the server nor in a bucket; "
            f"expected one of both: {mend}"
        )
