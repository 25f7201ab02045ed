"""What a version's run recorded of the pipeline that made it, and what that says: for lineage, compare and reproduce.

A registry's answers are a stranger's data: they are bounded, and nothing in them can move a terminal's cursor.
"""

import functools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts import mlflow_server, settings
from scripts.faults import reason
from scripts.project import UserError
from scripts.registry import reader
from scripts.registry.logged import Made, leaves
from scripts.registry.provenance import LOCK, PATCH, seal
from scripts.registry.records import COMMIT, DIGEST, DIRTY, MODEL_FILE, OLD_MODEL_FILE, RECEIPT, State, Version
from scripts.registry.stage_files import read_bytes, read_value

FOLDER = "pipeline"
"""Where below a run's artifacts the record is."""
GIVEN = "given"
"""Stands for a stage where a file is the user's own."""
NOT_PUSHED = "not pushed"
"""Stands for a place in the remote."""

type Lock = Mapping[str, Mapping[str, Any]]
"""The entries of a dvc.lock, by the stage's name."""


@dataclass(frozen=True)
class Record:
    """The record of a version, downloaded to `folder`."""

    number: int
    folder: Path

    @functools.cached_property
    def images(self) -> dict[str, str]:
        """The tags of the images, by name."""
        return {str(name): str(tag) for name, tag in self._mapping("images.json").items()}

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The values of params.yaml, by names with dots."""
        return dict(leaves(self._mapping("params.yaml")))

    @functools.cached_property
    def stages(self) -> Lock:
        """The stages of dvc.yaml, by name."""
        return self._stages_of("dvc.yaml")

    @functools.cached_property
    def lock(self) -> Lock:
        """The entries of dvc.lock, by the stage's name."""
        found = self._stages_of(LOCK)
        if not all(map(is_inside, files(found))):
            raise self._damaged(LOCK)
        return found

    @functools.cached_property
    def patch(self) -> bytes:
        """The patch that the working tree was beyond the commit; empty if there was none."""
        path = self.folder / PATCH
        return self._taken(read_bytes, PATCH) if path.exists() else b""

    @property
    def seal(self) -> str:
        """The digest of what is run of it, see provenance.seal."""
        read = {name: self._taken(read_bytes, name) for name in ("dvc.yaml", "params.yaml")}
        return seal(read | {PATCH: self.patch})

    def _stages_of(self, name: str) -> dict[str, Mapping[str, Any]]:
        found = self._mapping(name).get("stages")
        if not isinstance(found, Mapping) or not all(isinstance(entry, Mapping) for entry in found.values()):
            raise self._damaged(name)
        return {str(stage): entry for stage, entry in found.items()}

    def _mapping(self, name: str) -> Mapping[Any, Any]:
        found = self._taken(read_value, name)
        if not isinstance(found, Mapping):
            raise self._damaged(name)
        return found

    def _taken(self, read: Any, name: str) -> Any:
        try:
            return read(self.folder / name)
        except UserError:
            raise self._damaged(name) from None

    def _damaged(self, name: str) -> UserError:
        return UserError(
            f"version {self.number} has no {FOLDER}/{name} that can be read; expected what 'make run' recorded: name "
            "another version"
        )


@contextmanager
def record_of(version: Version) -> Iterator[Record]:
    """Download the record of a version, and delete it in the end. Raise UserError if there is none."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = fetch(version, FOLDER, Path(temporary))
        if folder is None or not folder.is_dir():
            raise UserError(
                f"version {version.number} has no record of its pipeline; expected one that 'make run' published to "
                "its end: name another version"
            )
        yield Record(version.number, folder)


def fetch(version: Version, path: str, folder: Path) -> Path | None:
    """Download an artifact of the version's run; return where it is below `folder`, None if there is none."""
    from scripts.registry import mlflow

    with reader.registry_of(f"version {version.number}") as (client, _):
        run = mlflow.run_of(client, version)
        return mlflow.artifact(run, path, folder) if run else None


def metrics_of(version: Version) -> dict[str, float]:
    """Return the metrics of the version's run: the last value of each; none if the run is gone."""
    from scripts.registry import mlflow

    with reader.registry_of(f"version {version.number}") as (client, _):
        run = mlflow.run_of(client, version)
        return dict(run.data.metrics) if run else {}


def model_file(version: Version) -> str:
    """Return where among the artifacts of its run a version has its file or folder."""
    return version.tags.get(MODEL_FILE, OLD_MODEL_FILE)


# --- what the record says


def files(lock: Lock) -> dict[str, tuple[str, str]]:
    """Return the files of a dvc.lock: by path, the stage that makes it, or GIVEN, and the hash that DVC has of it."""
    read = {path: (GIVEN, digest) for entry in lock.values() for path, digest in _entries(entry, "deps")}
    made = {path: (stage, digest) for stage, entry in lock.items() for path, digest in _entries(entry, "outs")}
    return {**read, **made}


def last(lock: Lock) -> list[str]:
    """Return the stages whose files no other stage of `lock` reads: of a model's part, its scorer."""
    read = {path for entry in lock.values() for path, _ in _entries(entry, "deps")}
    return [stage for stage, entry in lock.items() if not any(path in read for path, _ in _entries(entry, "outs"))]


def _entries(entry: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """Yield path and hash of each file that an entry lists; "unknown" where DVC has none."""
    listed = entry.get(kind)
    for file in listed if isinstance(listed, list) else []:
        if isinstance(file, Mapping) and "path" in file:
            digest = str(file.get("md5", ""))
            yield str(file["path"]), digest if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", digest) else "unknown"


def made_by(record: Record, stage: str) -> Made:
    """Return the metrics and plots of a stage of the recorded dvc.yaml."""
    block = record.stages.get(stage, {})
    return Made(_paths(block.get("metrics")), _paths(block.get("plots")))


def _paths(listed: Any) -> list[str]:
    """Return the paths in a list of DVC's: `- path`, or `- path: {cache: true}`; only those inside the project."""
    entries = listed if isinstance(listed, list) else []
    paths = [str(path) for entry in entries for path in (entry if isinstance(entry, Mapping) else [entry])]
    return [path for path in paths if is_inside(path)]


def is_inside(path: str) -> bool:
    """Return whether a path leads to a file below the project."""
    return not Path(path).is_absolute() and ".." not in Path(path).parts


def description(model: str, state: State, version: Version, record: Record) -> dict[str, Any]:
    """Return what there is to say of a version besides its images, parameters and files, by name."""
    tags, site = version.tags, mlflow_server.address()
    commit = tags.get(COMMIT)
    return {
        "model": model,
        "version": version.number,
        "stage": version.stage,
        "aliases": sorted(alias for alias, number in state.aliases.items() if number == version.number),
        "page": f"{site}/{mlflow_server.route(f'models/{quote(model)}')}",
        "file": model_file(version),
        "sha256": tags.get(DIGEST),
        "decision": tags.get("decision"),
        "reason": tags.get("reason"),
        "run": version.run_id,
        "commit": commit,
        "commit_page": None if settings.is_local(os.environ) or not commit else f"{site}/commit/{commit}",
        "patch_lines": record.patch.count(b"\n"),
        "lock_sha256": tags.get(RECEIPT),
    }


def facts(version: Version, record: Record, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return all that there is to compare of a version, by name, in the order in which it is shown."""
    tags = version.tags
    found: dict[str, Any] = {"stage": version.stage, "decision": tags.get("decision")}
    found |= {name: tags.get(name) for name in (COMMIT, DIRTY)}
    found |= {f"metric {name}": value for name, value in sorted(metrics.items())}
    found |= {f"param {name}": value for name, value in record.params.items()}
    found |= {f"data {path}": digest for path, (_, digest) in files(record.lock).items()}
    return found | {f"image {name}": tag for name, tag in record.images.items()}


# --- DVC's own


@functools.cache
def _repository(root: Path) -> Any:
    from scripts.pipeline import dvc_adapter

    return dvc_adapter.repository(root)


def cache_path(digest: str, root: Path) -> Path:
    """Return where DVC's cache has, or would have, the file or the folder's list of this hash."""
    from scripts.pipeline import dvc_adapter

    return Path(dvc_adapter.path_of(dvc_adapter.cache_of(_repository(root)), digest))


def remote_places(digests: Iterable[str], root: Path) -> dict[str, str]:
    """Return where in DVC's remote the data of each hash is, or that it is not there, or why that cannot be said.

    A remote that does not answer once is not asked again.
    """
    from scripts import transfer
    from scripts.pipeline import dvc_adapter

    found, fault = {}, ""
    for digest in digests:
        try:
            remote = dvc_adapter.remote_of(_repository(root))
            found[digest] = fault or dvc_adapter.address_of(remote, digest) or NOT_PUSHED
        except (*transfer.FAULTS, ImportError) as error:  # the last: no client for a remote of this kind is installed
            found[digest] = fault = f"unknown: {reason(error)}"
    return found
