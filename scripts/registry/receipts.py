"""Whether the registry has a model as it is on disk: its receipt is a version with the digests of the model and of its
part of dvc.lock, and a decision. By plain REST calls, since MLflow takes seconds to import, and without DVC."""

import os
from typing import NamedTuple, Protocol

import requests

from scripts.faults import reason
from scripts.project import Unavailable, UserError
from scripts.registry import glance as glances
from scripts.registry import reader, records
from scripts.registry.records import State, Version


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
    gate's metric, None if there is none.

    `seen` is what a registry of many versions showed when it was at rest and had this model as `version`.
    """

    name: str
    sha256: str
    lock: str
    metric: str
    score: float | None
    seen: str = ""
    version: int = 0


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


def noted(model: OnDisk) -> OnDisk:
    """Return the model with what its registry shows, if that has many versions, is at rest and has it: to be noted."""
    try:
        glance = glances.lately(model.name)
        if glance is None or glance.is_whole:
            return model
        found = _at_rest(model, reader.read(model.name))
    except (requests.RequestException, ValueError, records.Unclear):
        return model
    return model._replace(seen=glance.digest, version=found.number) if found else model


def _version_of(model: OnDisk) -> Version | None:
    """Return the version of the model; None unless it has a run, and the registry is at rest."""
    glance = glances.lately(model.name)
    if glance is None or glance.is_whole:
        return _at_rest(model, glance and glance.state)
    if glance.digest == model.seen and (found := _as_it_was(model, glance.state)):
        return found
    if glances.knows_none(model.name, f"tags.{records.DIGEST} = '{model.sha256}'"):
        return None
    return _at_rest(model, reader.read(model.name))


def _at_rest(model: OnDisk, state: State | None) -> Version | None:
    if state is None or records.next_step(state):
        return None
    for version in state.versions:
        if _is(version, model):
            return version if reader.has_run(version) else None
    return None


def _is(version: Version, model: OnDisk) -> bool:
    return (version.tags.get(records.DIGEST), version.tags.get(records.RECEIPT)) == (model.sha256, model.lock)


def _as_it_was(model: OnDisk, state: State) -> Version | None:
    """Return the version of the model that was noted, if all is as it was then; None if that is not so.

    What was changed last is known to be the same. What may have changed besides is a tag. So both versions that matter
    are looked at, and a decision is looked for that a person made and nobody has applied yet.
    """
    last = records.applied(state)
    if not last or not last.version or not _leads(model.name, last):  # nothing is in production: that is read whole
        return None
    ours = glances.version(model.name, model.version)
    if ours is None or not ours.decided or not _is(ours, model):
        return None
    alone = (
        glances.knows_none(model.name, f"tags.promotion_{turn} LIKE '%'", but=last.version if turn == last.turn else 0)
        for turn in (last.turn, last.turn + 1)  # of two persons at the same moment, one may have been killed
    )
    return ours if all(alone) and reader.has_run(ours) else None


def _leads(model: str, last: records.Key) -> bool:
    """Return True if the last promotion's version is in production, and still bears it."""
    best = glances.version(model, last.version)
    if best is None or best.stage != records.PRODUCTION:
        return False
    return (
        f"promotion_{last.turn}" in best.tags if last.by_a_person else best.tags.get("decision") == records.PRODUCTION
    )


def not_published(model: Named, why: str, kind: type[NotPublished] = NotPublished) -> NotPublished:
    """Return the error that says that a model was made and is not in the registry."""
    error = kind(
        f"{model.name} is trained, but not published: {why}; 'make run' publishes it once that works, without training"
    )
    error.why = why
    return error
