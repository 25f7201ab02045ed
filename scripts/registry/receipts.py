"""Whether the registry has a model as it is on disk: its receipt is a version with the digests of the model and of its
part of dvc.lock, and a decision. By plain REST calls, since MLflow takes seconds to import, and without DVC."""

import os
from typing import NamedTuple, Protocol

import requests

from scripts.faults import reason
from scripts.project import Unavailable, UserError
from scripts.registry import reader, records
from scripts.registry.records import Version


class NotPublished(UserError):
    """A model was made and is not in the registry; `why` says it in a few words."""

    why = ""


class NotPublishedYet(NotPublished, Unavailable):
    """A model was made and is not in the registry, since its server failed."""


class Published(NamedTuple):
    """What the registry has of a model: the stage it was given when it came and why, and the one it has now.

    `score` is of the gate's metric, None if there is none; `news` is whether this run put it there.
    """

    model: str
    version: str
    stage: str
    reason: str
    metric: str
    score: float | None
    now: str
    news: bool


class OnDisk(NamedTuple):
    """A model as it is on disk: the SHA-256 of its file or folder and of its part of dvc.lock, and its score of the
    gate's metric, None if there is none."""

    name: str
    sha256: str
    lock: str
    metric: str
    score: float | None


class Named(Protocol):
    """Whatever has a model's name."""

    @property
    def name(self) -> str: ...


def find(model: OnDisk) -> Published | None:
    """Return the version of the model, if the registry is at rest and has all of it.

    Raise NotPublishedYet if the server is away, NotPublished if a record in the registry is none.
    """
    try:
        version = _version_of(model)
    except records.Unclear as error:
        raise not_published(model, str(error)) from None
    except (requests.RequestException, ValueError) as error:
        server = os.environ["MLFLOW_TRACKING_URI"]
        raise not_published(
            model, f"the MLflow server {server} did not answer ({reason(error)})", NotPublishedYet
        ) from None
    if version is None:
        return None
    number, decision, why = str(version.number), version.tags["decision"], version.tags.get("reason", "")
    return Published(model.name, number, decision, why, model.metric, model.score, version.stage, news=False)


def _version_of(model: OnDisk) -> Version | None:
    """Return the version of the model; None unless it has a run, and the registry is at rest."""
    state = reader.read(model.name)
    if state is None or records.next_step(state):
        return None
    for version in state.versions:
        if (version.tags.get(records.DIGEST), version.tags.get(records.RECEIPT)) == (model.sha256, model.lock):
            return version if reader.has_run(version) else None
    return None


def not_published(model: Named, why: str, kind: type[NotPublished] = NotPublished) -> NotPublished:
    """Return the error that says that a model was made and is not in the registry."""
    error = kind(
        f"{model.name} is trained, but not published: {why}; 'make run' publishes it once that works, without training"
    )
    error.why = why
    return error
