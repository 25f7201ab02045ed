"""Makes the registry follow its records, and decides on new versions: promotion.py says how, this does it.

Any of these calls may be the last one of a process that is killed, or come between those of another machine.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import skops_model
from stagekit import BadInput, rounded, sha256
from stages.train import promotion, scoring
from stages.train.promotion import PRODUCTION, Champion, State, Unscorable, Version
from stages.train.server import RegistryError, Settings, artifact, is_clash, read, run_of

MODEL_FILE = "model/model.skops"
"""Where in its run a registered model is."""
DEAD_AFTER = 600.0
"""Seconds after which a machine that still says that it sets stages and aliases is taken for dead."""
ROUNDS = 100
"""How many steps a registry may take to come to rest: two for each version that waits for a decision, and a margin."""
SIGHTINGS, PAUSE = 10, 0.5
"""How often, and how many seconds apart, a change by hand is looked at: another machine may be amid its calls."""


def settle(client: MlflowClient, settings: Settings, judge: Callable[[Version], None] | None = None) -> State:
    """Makes stages and aliases follow the records, and has `judge` decide on the versions that wait for it.

    Any number of machines may do so at once, and any be killed: the last one sees all records, and sets what they say.
    Raises RegistryError where the server does not keep what it is told.
    """
    applied, sightings = None, 0
    for _ in range(ROUNDS):
        state = read(client, settings.model)
        if applied not in (None, promotion.key(state)):  # a promotion came while stages were set by an older one
            state = state._replace(applied="")
        for name, since in state.applying.items():
            if time.time() - since > DEAD_AFTER:
                client.delete_registered_model_tag(settings.model, name)
        step = promotion.next_step(state)
        if step is None or (isinstance(step, promotion.Decide) and judge is None):
            return state
        if isinstance(step, promotion.Adopt) and sightings < SIGHTINGS:
            sightings += 1
            time.sleep(PAUSE)
            continue
        if isinstance(step, promotion.Adopt) and applied is not None:
            raise RegistryError(_not_kept(settings.model, step))
        with clashes_forgiven():
            match step:
                case promotion.Apply():
                    apply(client, settings.model, step)
                    applied = step.key
                case promotion.Adopt():
                    decide_by_person(client, settings, state, step.version, "by hand", "in the registry's pages")
                case promotion.Decide():
                    judge(step.version)
    raise RegistryError(f"{settings.model} did not come to rest, others keep changing it; expected an end: run again")


@contextmanager
def clashes_forgiven() -> Iterator[None]:
    """Lets pass that another machine wrote the same row at the same moment, or deleted it as a twin.

    What is there then is looked at again.
    """
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST" and not is_clash(error):
            raise


def _not_kept(model: str, found: promotion.Adopt) -> str:
    has = f"version {found.version}" if found.version else "none"
    return (
        f"version {found.replaced} of {model} was put into production, but the server has {has} there; expected one "
        "that keeps stages and aliases: 'make doctor' tells what it supports"
    )


def apply(client: MlflowClient, model: str, step: promotion.Apply) -> None:
    """Makes stages and aliases follow the records; a tag of our own says so until they do."""
    ours = f"applying_{uuid4().hex[:12]}"
    client.set_registered_model_tag(model, ours, str(time.time()))
    for number, stage in step.stages.items():
        client.transition_model_version_stage(model, str(number), stage, archive_existing_versions=stage == PRODUCTION)
    for alias, number in step.aliases.items():
        if number is None:
            client.delete_registered_model_alias(model, alias)
        else:
            client.set_registered_model_alias(model, alias, str(number))
    client.set_registered_model_tag(model, "production_turn", step.key)
    client.delete_registered_model_tag(model, ours)


def decide_by_person(
    client: MlflowClient, settings: Settings, state: State, version: int | None, action: str, reason: str
) -> None:
    """Records that a person put `version` into production (None: took out the one that was there)."""
    replaced = promotion.champion(state)
    turn = promotion.next_turn(state)
    record = {"turn": turn, "action": action, "version": version, "replaced": replaced, "reason": reason}
    bearer = state.version(version or replaced)
    record = _log_record(client, settings, bearer, record)
    client.set_model_version_tag(settings.model, str(bearer.number), f"promotion_{turn}", json.dumps(record))


def _log_record(client: MlflowClient, settings: Settings, version: Version, record: dict[str, Any]) -> dict[str, Any]:
    """The record, signed; it is kept as an artifact of the version's run, if there is one."""
    record = record | {"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": settings.who}
    if run_of(client, version):
        action = record.get("action", "judged").replace(" ", "-")
        client.log_dict(version.run_id, record, f"decisions/{record['turn']}-{action}-version-{version.number}.json")
    return record


# --- the decision


class Judge:
    """Decides on versions by the gate, on the test set at hand. `data`: its path and digest, as train wrote them."""

    def __init__(self, client: MlflowClient, settings: Settings, data: Mapping[str, Any]) -> None:
        self.client, self.settings, self.gate, self.digest = client, settings, settings.gate, data["sha256"]
        self.path = Path(data["path"])

    def __call__(self, version: Version) -> None:
        """Judges `version` against production and records it; the tag `decision`, by which it counts, comes last."""
        before = read(self.client, self.settings.model)
        score = self._score(version)
        if promotion.champion(before) == version.number:
            champion, stage, reason = None, PRODUCTION, "was put there by a person, before it was compared"
        else:
            champion = self._champion(before, version)
            stage, reason = promotion.judge(score, champion, self.gate)
        record = promotion.record(
            promotion.next_turn(before),
            stage,
            reason,
            score=score,
            test_data=self.digest,
            champion=champion,
            champions_data=before.version(champion.number).tags.get("test_data_sha256") if champion else None,
            gate=self.gate,
        )
        now = read(self.client, self.settings.model)
        if promotion.key(now) != promotion.key(before) or (now.version(version.number) or version).decided:
            return  # another machine was faster: what it left is looked at again
        self._write(version, stage, reason, record)

    def _write(self, version: Version, stage: str, reason: str, record: dict[str, Any]) -> None:
        model, number = self.settings.model, str(version.number)
        record = _log_record(self.client, self.settings, version, record)
        self.client.update_model_version(model, number, description=f"{stage}: {reason}")
        self.client.set_model_version_tag(model, number, "decision_record", json.dumps(record))
        self.client.set_model_version_tag(model, number, "reason", reason)
        self.client.set_model_version_tag(model, number, "decision", stage)

    def _champion(self, state: State, challenger: Version) -> Champion | None:
        number = promotion.champion(state)
        if number is None:
            return None
        score = self._score(state.version(number))
        if self.gate.confidence is None or isinstance(score, Unscorable):
            return Champion(number, score)
        ours, theirs = (self._measured(version, scoring.hits) for version in (challenger, state.version(number)))
        if isinstance(ours, Unscorable) or isinstance(theirs, Unscorable):
            return Champion(number, score)
        return Champion(number, score, scoring.mcnemar(ours, theirs))

    def _score(self, version: Version) -> float | Unscorable:
        """The version's score on the test set at hand: the one that was logged if that was measured on the same."""
        logged = version.tags.get(self.gate.metric)
        if logged is not None and version.tags.get("test_data_sha256") == self.digest:
            try:
                return float(logged)
            except ValueError:
                return Unscorable(f"its tag {self.gate.metric} is {logged[:20]!r} and no number")
        found = self._measured(version, scoring.scores)
        return found if isinstance(found, Unscorable) else rounded(found[self.gate.metric])  # as logged scores are

    def _measured[T](self, version: Version, measure: Callable[[Any, scoring.HeldOut], T]) -> T | Unscorable:
        """What `measure` finds of the version's model on the test set, or why it finds nothing."""
        model, held_out = self._load(version), self._held_out()
        if isinstance(model, Unscorable):
            return model
        try:
            return scoring.mismatch(model, held_out) or measure(model, held_out)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:  # of another scikit-learn
            return Unscorable(f"it fails on the test set: {type(error).__name__}")

    def _load(self, version: Version) -> Any:
        """The version's model, or why it cannot be scored; a fault of the server is neither, and raises."""
        run = run_of(self.client, version)
        if run is None:
            return Unscorable("its run is gone")
        with tempfile.TemporaryDirectory() as folder:
            path = artifact(run, MODEL_FILE, folder)
            if path is None:
                return Unscorable("its file is gone")
            if version.tags.get("model_sha256", sha256(path)) != sha256(path):
                return Unscorable("its file is not the one that was registered")
            try:
                return skops_model.load(path)
            except BadInput:
                return Unscorable("its file is no model that can be trusted")

    def _held_out(self) -> scoring.HeldOut:
        if sha256(self.path) != self.digest:
            raise RegistryError(
                f"{self.path} is not the test set of the model at hand; expected that: 'make run' mends it"
            )
        return scoring.HeldOut.read(self.path)
