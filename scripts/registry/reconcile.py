"""Makes the registry follow its records, and decides on new versions: records.py says how, this does it.

A process may be killed after any of these calls, and another machine's calls may come between them.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from scripts.digests import sha256
from scripts.registry import records
from scripts.registry.gate import Gate, Measurement, Unscorable, Verdict, judge, one_line
from scripts.registry.mlflow import Reading, RegistryError, address, artifact, is_clash, not_the_servers, run_of
from scripts.registry.records import PRODUCTION, ScoredBy, State, Version

DEAD_AFTER = 600.0
"""Seconds after which a machine that still says that it sets stages and aliases is taken to be dead."""
ROUNDS = 100
"""How many steps a registry may take to come to rest: two for each version that waits for a decision, and a margin."""
SIGHTINGS, PAUSE = 10, 0.5
"""How often, and how many seconds apart, a change by hand is looked at: another machine may be amid its calls."""
DOWNLOADS = 3
"""How often a file that differs is downloaded, PAUSE apart: another machine may be sending it at this moment."""

Measure = Callable[[Path], Measurement | Unscorable]


def reconcile(
    client: MlflowClient,
    model: str,
    who: str,
    judge: Callable[[Version, State], None] | None = None,
    reading: Reading | None = None,
) -> State:
    """Make stages and aliases follow the records, and have `judge` decide on the versions that wait for it.

    Any number of machines may do so at once, and any may be killed: the last one sees all records, and sets what they
    say. `reading` has read the model before. Raise RegistryError if the server does not keep what it is told.
    """
    applied, sightings = None, 0
    reading = reading or Reading(client, model)
    for _ in range(ROUNDS):
        state = reading.now()
        if applied not in (None, records.key(state)):  # a promotion came while stages were set by an older one
            state = state._replace(applied="")
        for name, since in state.applying.items():
            if time.time() - since > DEAD_AFTER:
                client.delete_registered_model_tag(model, name)
        step = records.next_step(state)
        if step is None or (isinstance(step, records.Decide) and judge is None):
            if reading.is_whole:
                return state
            reading.forget()
            continue
        if isinstance(step, records.Adopt) and sightings < SIGHTINGS:
            sightings += 1
            time.sleep(PAUSE)
            continue
        if isinstance(step, records.Adopt) and applied is not None:
            raise RegistryError(_not_kept(model, step))
        with clashes_forgiven(reading):
            match step:
                case records.Apply():
                    apply(client, model, step)
                    applied = step.key
                case records.Adopt():
                    decide_by_person(client, model, who, state, step.version, "by hand", "in the registry's pages")
                    reading.forget()
                case records.Decide():
                    judge(step.version, state)
    raise RegistryError(f"{model} did not come to rest, others keep changing it; expected an end: run again")


@contextmanager
def clashes_forgiven(reading: Reading) -> Iterator[None]:
    """Ignore that another machine wrote the same row at the same moment, or deleted it as a twin.

    What is there then is looked at again, all of it.
    """
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST" and not is_clash(error):
            raise
        reading.forget()


def _not_kept(model: str, found: records.Adopt) -> str:
    has = f"version {found.version}" if found.version else "none"
    return (
        f"version {found.replaced} of {model} was put into production, but the server has {has} there; expected one "
        "that keeps stages and aliases: 'make doctor' says what it supports"
    )


def apply(client: MlflowClient, model: str, step: records.Apply) -> None:
    """Make stages and aliases follow the records; until they do, a tag of our own says so."""
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
    client: MlflowClient, model: str, who: str, state: State, version: int | None, action: str, reason: str
) -> int:
    """Record that a person put `version` into production (None: took out the one that was there).

    Return the version that bears the record.
    """
    replaced = records.champion(state)
    turn = records.next_turn(state)
    record = {"turn": turn, "action": action, "version": version, "replaced": replaced, "reason": reason}
    bearer = state.version(version or replaced)
    record = _log_record(client, who, bearer, record)
    del record["artifact"]  # the tag has all of it
    client.set_model_version_tag(model, str(bearer.number), f"promotion_{turn}", json.dumps(record))
    return bearer.number


def _log_record(client: MlflowClient, who: str, version: Version, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record, signed, and its `artifact` of the version's run; that is empty if there is no run."""
    record = record | {"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": who}
    if not run_of(client, version):
        return record | {"artifact": ""}
    action = record.get("action", "judged").replace(" ", "-")
    path = f"decisions/{record['turn']}-{action}-version-{version.number}.json"
    client.log_dict(version.run_id, record, path)
    return record | {"artifact": path}


# --- the decision


def parsed_rows(data: bytes) -> tuple[float, ...] | None:
    """Return the scores that a rows file holds; None if somebody changed it so that it holds none."""
    try:
        return tuple(float(row) for row in json.loads(data))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def logged_measurement(
    version: Version, gate: Gate, scored_by: ScoredBy, rows: Callable[[], tuple[float, ...] | None] | None
) -> Measurement | Unscorable | None:
    """Return what the registry has of a version's measurement; None if that was another one than `scored_by` asks for.

    `rows` finds the scores of its rows, for a gate that compares them; None: they are not needed.
    """
    score = version.tags.get(gate.tag)
    if score is None or not scored_by.as_tags().items() <= version.tags.items():
        return None
    try:
        metrics = {gate.metric: float(score)}
    except ValueError:
        return Unscorable(f"its tag {gate.tag} is {score[:20]!r}, not a number")
    if gate.confidence is None or rows is None:
        return Measurement(metrics)
    found = rows()
    return Measurement(metrics, found) if found else None


class AtHand(NamedTuple):
    """The candidate that is published now: the digest of its file, and what its pipeline's scorer found."""

    digest: str
    measured: Measurement | Unscorable

    @property
    def has_no_rows(self) -> bool:
        return isinstance(self.measured, Measurement) and self.measured.rows is None


class Judge:
    """Decides on versions by the gate. All are measured as `scored_by` says: by the same scorer, on the same data.

    `note` goes into the record on the candidate at hand, beside the reason; no decision depends on it.
    """

    def __init__(
        self,
        client: MlflowClient,
        model: str,
        who: str,
        gate: Gate,
        scored_by: ScoredBy,
        at_hand: AtHand,
        measure: Measure,
        *,
        reading: Reading,
        note: str = "",
    ) -> None:
        self._client, self._model, self._who, self._gate, self._reading = client, model, who, gate, reading
        self._scored_by, self._at_hand, self._measure = scored_by, at_hand, not_the_servers(measure)
        self._note = one_line(note)
        self._known: dict[int, Measurement | Unscorable] = {}
        self._seen: set[int] = set()  # versions whose file was downloaded whole

    def __call__(self, version: Version, before: State) -> None:
        """Judge `version` against production, as `before` has it, and record it; the tag `decision`, by which it
        counts, comes last.

        Raise RegistryError if the server does not have the file of the candidate at hand: nothing is decided then.
        What `measure` raises passes as it is: a fault of the engine says nothing about a model.
        """
        champion = records.champion(before)
        verdict = self._verdict(version, before.version(champion) if champion else None)
        record = self._record(verdict, before, champion if champion != version.number else None)
        if self._note and self._is_at_hand(version):
            verdict = verdict._replace(reason=f"{verdict.reason}; {self._note}")
            record |= {"reason": verdict.reason, "note": self._note}
        now = self._reading.now()
        if records.key(now) != records.key(before) or (now.version(version.number) or version).decided:
            return  # another machine was faster: what it left is looked at again
        self._write(version, verdict, record)

    def _verdict(self, version: Version, champion: Version | None) -> Verdict:
        ours = self._measurement(version)
        if champion and champion.number == version.number:
            return judge(ours, None, self._gate)._replace(
                stage=PRODUCTION, reason="was put there by a person, before it was compared"
            )
        theirs = None
        verdict = judge(ours, theirs, self._gate)
        if verdict.stage == PRODUCTION and champion:
            theirs = champion.number, self._measurement(champion)
            verdict = judge(ours, theirs, self._gate)
        if verdict.stage == PRODUCTION and (fault := self._read_back(version)):
            verdict = judge(fault, theirs, self._gate)
        return verdict

    def _record(self, verdict: Verdict, state: State, champion: int | None) -> dict[str, Any]:
        logged_on = state.version(champion).tags.get(records.TEST_DATA) if champion else None
        return {
            "turn": records.next_turn(state),
            "stage": verdict.stage,
            "reason": verdict.reason,
            "score": verdict.score,
            records.SCORER_IMAGE: self._scored_by.image,
            records.TEST_DATA: self._scored_by.test_data,
            "champion": champion,
            "champion_score": verdict.champion_score,
            "champion_logged_on_sha256": logged_on,
            "p_value": verdict.p_value,
            "replaced": champion if verdict.stage == PRODUCTION else None,
            "rule": asdict(self._gate),
        }

    def _write(self, version: Version, verdict: Verdict, record: dict[str, Any]) -> None:
        model, number = self._model, str(version.number)
        record = _log_record(self._client, self._who, version, record)
        self._client.update_model_version(model, number, description=f"{verdict.stage}: {verdict.reason}")
        self._client.set_model_version_tag(model, number, "decision_record", json.dumps(records.in_tag(record)))
        self._client.set_model_version_tag(model, number, "reason", verdict.reason)
        self._client.set_model_version_tag(model, number, "decision", verdict.stage)

    # measuring

    def _is_at_hand(self, version: Version) -> bool:
        return version.tags.get(records.DIGEST) == self._at_hand.digest

    def _measurement(self, version: Version) -> Measurement | Unscorable:
        """Return what the scorer finds of a version: once, however many others are compared with it."""
        if self._is_at_hand(version):
            return self._at_hand.measured
        if version.number not in self._known:
            self._known[version.number] = self._logged(version) or self._measured(version)
        return self._known[version.number]

    def _logged(self, version: Version) -> Measurement | Unscorable | None:
        rows = None if self._at_hand.has_no_rows else lambda: self._logged_rows(version)
        return logged_measurement(version, self._gate, self._scored_by, rows)

    def _logged_rows(self, version: Version) -> tuple[float, ...] | None:
        run = run_of(self._client, version)
        with tempfile.TemporaryDirectory() as folder:
            file = artifact(run, self._scored_by.rows_file, folder) if run else None
            return parsed_rows(file.read_bytes()) if file else None

    def _measured(self, version: Version) -> Measurement | Unscorable:
        with tempfile.TemporaryDirectory() as folder:
            file = self._download(version, Path(folder))
            return file if isinstance(file, Unscorable) else self._measure(file)

    def _download(self, version: Version, folder: Path) -> Path | Unscorable:
        """Return the version's file, below `folder`; Unscorable if the server has not the one that was registered.

        A fault of the server is neither, and raises.
        """
        run = run_of(self._client, version)
        if run is None:
            return Unscorable("its run is gone")
        why = ""
        for attempt in range(DOWNLOADS):
            time.sleep(PAUSE if attempt else 0)
            there = folder / str(attempt)
            there.mkdir()
            file = artifact(run, version.file, there)
            if file and version.tags.get(records.DIGEST) in (None, sha256(file)):
                self._seen.add(version.number)
                return file
            why = "its file is not the one that was registered" if file else "its file is gone"
        return Unscorable(why)

    def _read_back(self, version: Version) -> Unscorable | None:
        """Return what is wrong with the version's file on the server, if anything is.

        Raise RegistryError if that is the file of the candidate at hand: the next run sends it again.
        """
        if version.number in self._seen:
            return None
        with tempfile.TemporaryDirectory() as folder:
            found = self._download(version, Path(folder))
        if not isinstance(found, Unscorable):
            return None
        if not self._is_at_hand(version):
            return found
        if run_of(self._client, version):
            self._client.set_terminated(version.run_id, "FAILED")  # a run that is not finished is sent again
        raise RegistryError(
            f"the MLflow server {address()} does not have the file that was sent as version {version.number} of "
            f"{self._model}: {found.why}; nothing was decided: the next run sends it again"
        )
