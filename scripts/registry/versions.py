"""A model's run and version in MLflow: a file becomes a run, a registered version and a decision about production.

All of it is idempotent and keyed by the file's content: the tag `model_sha256`, set in the calls that create the run
and the version. What is there already is left as it is, so the next publication finishes one that was killed. Records
say which version is in production, and `reconcile` makes the registry follow them: see records.py.

Only REST calls that MLflow servers from 2.7 on answer are used (no logged models).
"""

import json
import math
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from scripts.digests import sha256
from scripts.pipeline.stage import block
from scripts.registry import cards, model_folder, records
from scripts.registry.datasets import Dataset
from scripts.registry.gate import Gate, Measurement, Unscorable
from scripts.registry.mlflow import (
    Client,
    Reading,
    RegistryError,
    check_location,
    is_clash,
    quiet,
    run_of,
    send_folder,
    server_errors,
    versions,
    versions_of,
)
from scripts.registry.reconcile import AtHand, Judge, Measure, reconcile
from scripts.registry.records import LONGEST_PARAM, LONGEST_TAG, ScoredBy, Version, clean_name, clean_names

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from scripts.registry.logged import Logged

type Point = tuple[str, int, float]
"""A value of a curve: its metric's name, the step, the value."""

ATTEMPTS = 10
"""How often a step is tried: one more for each call in which another machine was as fast."""
PARAMS_AT_ONCE, TAGS_AT_ONCE, METRICS_AT_ONCE = 100, 100, 1000
LONGEST_DIGEST = 36
LARGEST_CALL = 900_000  # bytes; a little less than they take
"""What MLflow servers from 2.7 on take, in one call or as one value."""
MODEL, LIVE_STAGE, CLONE, CHANGED = "registered_model", "live_stage", "pipeline_clone", "params_changed_since"
NOTE = "mlflow.note.content"
"""Tags of a run. The first says which model of its experiment it belongs to: two may have the same bytes."""
WAS_WRITTEN = {"None": "null", "True": "true", "False": "false"}
"""How parameters are written now that runs of earlier versions of the pipeline have as Python has them."""


@dataclass(frozen=True)
class Settings:
    """Where a model is published, by which rule, from which commit and by whom."""

    experiment: str
    model: str
    gate: Gate
    git_commit: str
    who: str  # as MLflow's server or the host knows them
    repository: str = ""  # where a browser finds the code
    branch: str = ""
    note: str = ""  # what the record of a decision on the candidate says beside the reason


@dataclass(frozen=True)
class Candidate:
    """A model that is to be published: its file or folder, and all that is known of it before it is scored."""

    file: Path
    source: str  # the stage that made it
    params: Mapping[str, str]
    data: Sequence[Dataset]
    scored_by: ScoredBy | None = None  # only `register` needs it
    loader: Path | None = None
    signature: Path | None = None
    requirements: Sequence[str] = ()
    example: Mapping[str, Any] | None = None  # a row as the model takes it

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file or folder."""
        return sha256(self.file)

    @property
    def place(self) -> str:
        """The artifact that the file is in its run."""
        return model_folder.place(self.file.name)


class Outcome(NamedTuple):
    """What became of a model: its version and run, the stage that it was given and why, and the one it has now."""

    version: str
    run_id: str
    stage: str
    reason: str
    now: str
    tags: Mapping[str, str] = {}  # that the version had then


@contextmanager
def _server() -> Iterator[MlflowClient]:
    with server_errors(), quiet():
        yield Client()


def _again[T](work: Callable[[], T]) -> T:
    """Return what `work` returns; repeat it if another machine wrote the same row, or deleted the run as a twin.

    What is there then is looked at again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except MlflowException as error:
            if attempt == ATTEMPTS or not (is_clash(error) or "must be in the 'active' state" in str(error)):
                raise


# --- the run


def begin_run(settings: Settings, source: str, tags: Mapping[str, str]) -> str:
    """Begin a run for the live metrics of the stage `source`, before the model is there; return its id."""
    with _server() as client:
        experiment = _experiment(client, settings.experiment)
        own = {MODEL: settings.model, LIVE_STAGE: source, CLONE: os.environ["CLONE"], "mlflow.source.name": source}
        name = f"{settings.model}-{source}"
        return client.create_run(experiment.experiment_id, tags={**tags, **own}, run_name=name).info.run_id


def log_live(run_id: str, points: Sequence[Point]) -> None:
    """Log values to a run: of each the metric's name, the step, the value."""
    with _server() as client:
        _log_points(client, run_id, points)


def end_run(run_id: str, status: str) -> None:
    """End a run that no model came of; `status` is MLflow's."""
    with _server() as client:
        client.set_terminated(run_id, status)


def end_abandoned(settings: Settings) -> None:
    """Mark the runs as killed that an earlier, killed process of this clone began and left running."""
    with _server() as client:
        if experiment := client.get_experiment_by_name(settings.experiment):
            running = f"attributes.status = 'RUNNING' and tags.{CLONE} = '{os.environ['CLONE']}'"
            for run in client.search_runs([experiment.experiment_id], running):
                client.set_terminated(run.info.run_id, "KILLED")


def upload(settings: Settings, candidate: Candidate, begun: str | None = None) -> str:
    """See to it that a finished run holds the model; return its id. One that was begun and never finished is finished.

    `begun` is a run with the live metrics of the model's stage: it becomes the model's, unless that has one; then it is
    deleted. Raise UserError if the model's signature is none, or a server does not take the name of one of its files,
    RegistryError for a fault of the server.
    """
    model_folder.check_names(candidate.file)
    signature = model_folder.read_signature(candidate.signature) if candidate.loader and candidate.signature else None
    with _server() as client:
        return _again(lambda: _uploaded(client, settings, candidate, begun, signature))


def _uploaded(
    client: MlflowClient,
    settings: Settings,
    candidate: Candidate,
    begun: str | None,
    signature: "ModelSignature | None",
) -> str:
    live = _active_run(client, begun) if begun else None
    if live and live.info.status == "FINISHED" and live.data.tags.get(records.DIGEST) == candidate.digest:
        return begun  # it was sent before
    experiment_id = _experiment(client, settings.experiment).experiment_id
    run = _run_of_model(client, settings, candidate.digest, experiment_id)
    if run is None and live:
        run = _adopt(client, settings, candidate, live)
    elif run is None:
        tags = _run_tags(settings, candidate) | {CLONE: os.environ["CLONE"]}  # so that it is ended if we are killed
        run = client.create_run(experiment_id, tags=tags)
    check_location(run.info.artifact_uri)
    run_id = run.info.run_id
    if run.info.status != "FINISHED":
        _log_params(client, run, candidate.params)
        if candidate.data:
            client.log_inputs(run_id, [_dataset(data) for data in candidate.data])
        _send_model(client, run, candidate, signature)
        client.set_terminated(run_id)
    if live and live.info.run_id != run_id:
        client.delete_run(live.info.run_id)
    return run_id


def _experiment(client: MlflowClient, name: str) -> Experiment:
    """Return the experiment; create it if there is none.

    Raise RegistryError if it was deleted, or would keep artifacts on our disk.
    """
    experiment = client.get_experiment_by_name(name) or _new_experiment(client, name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        which = experiment.experiment_id if experiment else "..."
        raise RegistryError(
            f"the experiment {name} was deleted in MLflow, which keeps its name and takes no runs for it; expected it: "
            f"in 'make shell', call 'mlflow experiments restore --experiment-id {which}', or name another experiment "
            "in params.yaml"
        )
    check_location(experiment.artifact_location)
    return experiment


def _new_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """Return a new experiment, or the one that another machine has just made; None if a deleted one has its name."""
    try:
        # The kind makes MLflow's pages show tables of runs rather than those for chat applications.
        made = client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})
        return client.get_experiment(made)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(name)


def _run_of_model(client: MlflowClient, settings: Settings, digest: str, experiment_id: str) -> Run | None:
    """Return the run of the model with this content: that of its version, else the oldest one in the experiment."""
    if version := find_version(settings.model, digest):
        return _living_run(client, settings.model, str(version.number), version.run_id)
    found = client.search_runs(
        [experiment_id], f"tags.{records.DIGEST} = '{digest}'", order_by=["attributes.start_time ASC"]
    )
    return next((run for run in found if _belongs_to(run, settings.model)), None)


def _belongs_to(run: Run, model: str) -> bool:
    """Return True if the run is of this model. Runs from before there was a tag for it tell so by their name."""
    return run.data.tags.get(MODEL, (run.info.run_name or "").rpartition("-")[0]) == model


def _living_run(client: MlflowClient, model: str, number: str, run_id: str) -> Run:
    """Return the run of a version. Raise RegistryError if somebody deleted it."""
    run = run_of(client, Version(0, "", run_id, {}))
    if run and run.info.lifecycle_stage == "active":
        return run
    what = f"the run {run_id} of version {number} of {model}"
    delete = f"delete version {number}, too, on the model's page ('make ui' says where)"
    if run:
        raise RegistryError(
            f"{what} was deleted in MLflow; expected it, since it holds the model: in 'make shell', call "
            f"'mlflow runs restore --run-id {run_id}', or {delete}"
        )
    raise RegistryError(
        f"{what} was deleted in MLflow for good, and the model's file with it; expected it: {delete}, and the model "
        "becomes a new version"
    )


def _active_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run; None if it was deleted."""
    run = run_of(client, Version(0, "", run_id, {}))
    return run if run and run.info.lifecycle_stage == "active" else None


def _adopt(client: MlflowClient, settings: Settings, candidate: Candidate, live: Run) -> Run:
    """Make a run with live metrics the model's."""
    run_id, tags = live.info.run_id, _run_tags(settings, candidate)
    client.update_run(run_id, name=tags["mlflow.runName"])
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    return client.get_run(run_id)


def _run_tags(settings: Settings, candidate: Candidate) -> dict[str, str]:
    # MLflow's pages link to the commit of a source that is a project in a repository.
    source = {"mlflow.source.name": candidate.source, "mlflow.source.type": "LOCAL"}
    if settings.repository:
        folder = f"{settings.repository}#stages/{block(candidate.source)}"
        source = {"mlflow.source.name": folder, "mlflow.source.type": "PROJECT"}
        source |= {"mlflow.source.git.repoURL": settings.repository}
    if settings.branch:
        source |= {"mlflow.source.git.branch": settings.branch}
    return source | {
        records.DIGEST: candidate.digest,
        MODEL: settings.model,
        "mlflow.runName": f"{settings.model}-{candidate.digest[:8]}",
        "mlflow.user": settings.who,
        "mlflow.source.git.commit": settings.git_commit,
        records.COMMIT: settings.git_commit,
    }


_KEYS = {"http": "url"}
"""By what name a kind of MLflow's sources has its address, where that is not `uri`."""


def _dataset(data: Dataset) -> DatasetInput:
    where = {"path": data.path, "md5": data.digest}
    kind, address = data.source or ("dvc", "")
    source = {_KEYS.get(kind, "uri"): address} if address else where
    dataset = MlflowDataset(
        name=data.name,
        digest=data.digest[:LONGEST_DIGEST],
        source_type=kind,
        source=json.dumps(source),
        schema=data.schema,
        profile=json.dumps(where | ({"num_rows": data.seen.rows} if data.seen and data.seen.rows else {})),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.context)])


def _send_model(client: MlflowClient, run: Run, candidate: Candidate, signature: "ModelSignature | None") -> None:
    if candidate.loader:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, model_folder.FOLDER)
            model_folder.write(folder, candidate, signature, run.info.run_id)
            send_folder(run, folder, model_folder.FOLDER)
    if candidate.file.is_dir():
        send_folder(run, candidate.file, candidate.place)
    else:
        client.log_artifact(run.info.run_id, str(candidate.file), candidate.place.rpartition("/")[0])


# --- the version


def register(
    settings: Settings,
    candidate: Candidate,
    run_id: str,
    measured: Measurement | Unscorable,
    measure: Measure,
) -> Outcome:
    """See to it that the model in the run has a version and a decision; return them.

    `measured` is what the pipeline's own scorer found of it; `measure` finds the same of another version's file. What
    that raises passes as it is. Raise RegistryError for a fault of the server.
    """
    with _server() as client:
        version = _again(lambda: _version(client, settings, candidate, run_id, measured))
        at_hand = AtHand(candidate.digest, measured)
        about = (settings.model, settings.who, settings.gate, candidate.scored_by)
        reading = Reading(client, settings.model)
        judge = Judge(client, *about, at_hand, measure, reading=reading, note=settings.note)
        state = reconcile(client, settings.model, settings.who, judge, reading)
    settled = state.version(version.number)
    if settled is None:
        raise RegistryError(
            f"version {version.number} of {settings.model} was deleted while it was published; expected it to stay: "
            "run again"
        )
    stage, reason = settled.tags["decision"], settled.tags.get("reason", "")
    return Outcome(str(version.number), version.run_id, stage, reason, settled.stage, settled.tags)


def find_version(model: str, digest: str) -> Version | None:
    """Return the oldest version of `model` whose content is `digest`, if there is one."""
    return next(iter(versions_of(model, digest)), None)


def _version(
    client: MlflowClient, settings: Settings, candidate: Candidate, run_id: str, measured: Measurement | Unscorable
) -> Version:
    """Return the version that holds the model; register it if there is none."""
    model, digest, scored_by = settings.model, candidate.digest, candidate.scored_by
    if version := find_version(model, digest):
        if version.run_id != run_id and _active_run(client, run_id):
            client.delete_run(run_id)  # another machine sent and registered the same model meanwhile
        return version
    tags = {records.DIGEST: digest, records.COMMIT: settings.git_commit, records.MODEL_FILE: candidate.place}
    tags |= scored_by.as_tags()
    if isinstance(measured, Measurement):
        if measured.rows is not None:
            client.log_text(run_id, json.dumps(measured.rows), scored_by.rows_file)
        if settings.gate.metric in measured.metrics:
            tags[settings.gate.tag] = str(measured.metrics[settings.gate.metric])
    _create_model(client, model)
    source = f"{client.get_run(run_id).info.artifact_uri}/{model_folder.FOLDER}"
    made = client.create_model_version(model, source, run_id, tags=tags)
    first = _first(model, digest, Version(int(made.version), "", run_id, {}))
    if first.number != int(made.version):  # another machine registered the same model at the same moment
        client.delete_model_version(model, made.version)
        if first.run_id != made.run_id:
            client.delete_run(made.run_id)
    return first


def _first(model: str, digest: str, made: Version) -> Version:
    """Return the oldest version of this content, of which one was just made."""
    alike = versions_of(model, digest)
    if made.number not in [version.number for version in alike]:  # the server does not find by a tag what it has
        alike = [version for version in versions(model) if version.tags.get(records.DIGEST) == digest]
    return alike[0] if alike else made


def _create_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


# --- what exists only after the stages


def log(run_id: str, logged: "Logged", tags: Mapping[str, str]) -> None:
    """Add to the run what the stages left: whatever a server refuses of it, it refuses before there is a version.

    A run that another machine's took the place of gets nothing: that one has it.
    """
    with _server() as client:
        _again(lambda: _log(client, run_id, logged, tags))


def _log(client: MlflowClient, run_id: str, logged: "Logged", tags: Mapping[str, str]) -> None:
    run = _active_run(client, run_id)
    if run is None:
        return
    check_location(run.info.artifact_uri)
    _log_files(run, logged.artifacts)
    _log_params(client, run, logged.params)
    _log_points(client, run_id, _new_points(client, run, logged.steps))
    _log_metrics(client, run, logged.metrics)
    for some in batched(_clean(tags).items(), TAGS_AT_ONCE, strict=False):
        client.log_batch(run_id, tags=[RunTag(name, value[:LONGEST_TAG]) for name, value in some])


def complete(
    settings: Settings,
    outcome: Outcome,
    logged: "Logged",
    tags: Mapping[str, str],
    logged_to: str = "",
    about: cards.About | None = None,
) -> None:
    """See to it that the version's run has what the stages left; the receipt, which says that all is there, comes last.

    `tags` has the receipt (`dvc_lock_sha256`), the commit, and what else the run is to bear. `logged_to` is the run
    that `log` was called with: it has all of that. Run and model are described by what is known `about` them.
    """
    with _server() as client:
        _again(lambda: _complete(client, settings, outcome, logged, tags, logged_to, about))


def _complete(
    client: MlflowClient,
    settings: Settings,
    outcome: Outcome,
    logged: "Logged",
    tags: Mapping[str, str],
    logged_to: str,
    about: cards.About | None,
) -> None:
    run = _living_run(client, settings.model, outcome.version, outcome.run_id)
    if run.info.run_id != logged_to:
        _log(client, outcome.run_id, logged, tags)
    if about:
        _describe(client, run, outcome, about)
    # The commit goes with the patch: the same model may come from other code than it did first.
    for name in (records.COMMIT, records.DIRTY, records.RECEIPT):
        if name in tags and tags[name] != outcome.tags.get(name):
            client.set_model_version_tag(settings.model, outcome.version, name, tags[name])


def _describe(client: MlflowClient, run: Run, outcome: Outcome, about: cards.About) -> None:
    """Write the descriptions of the run and of the registered model, but over nothing that a person wrote."""
    note = run.data.tags.get(NOTE)
    text = cards.of_run(about, outcome.version, outcome.stage, outcome.reason)
    if cards.is_ours(note) and text != note:
        client.set_tag(run.info.run_id, NOTE, text)
    card, text = client.get_registered_model(about.model).description, cards.of_model(about, outcome.version)
    if cards.is_ours(card) and text != card:
        client.update_registered_model(about.model, text)


def _log_files(run: Run, artifacts: Mapping[str, bytes | Path]) -> None:
    if not artifacts:
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in artifacts.items():
            path = Path(temporary, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content.is_dir():
                shutil.copytree(content.resolve(), path, copy_function=os.symlink)
            else:
                path.symlink_to(content.resolve())
        send_folder(run, Path(temporary))


def _log_params(client: MlflowClient, run: Run, params: Mapping[str, str]) -> None:
    """Log the parameters that the run lacks. One that has changed since (the scorer's) is told in a tag: MLflow refuses
    another value."""
    run_id, known = run.info.run_id, run.data.params
    wanted = {name: _cut(value) for name, value in _clean(params).items()}
    for some in batched([item for item in wanted.items() if item[0] not in known], PARAMS_AT_ONCE, strict=False):
        client.log_batch(run_id, params=[Param(name, value) for name, value in some])
    was = {name: WAS_WRITTEN.get(value, value) for name, value in known.items()}
    changed = {name: value for name, value in wanted.items() if was.get(name, value) != value}
    if changed or CHANGED in run.data.tags:
        client.set_tag(run_id, CHANGED, json.dumps(changed)[:LONGEST_TAG])


def _log_metrics(client: MlflowClient, run: Run, metrics: Mapping[str, float]) -> None:
    """Log the metrics whose last value is another one; beyond a curve's last step, if there is a curve of that name."""
    now, known, found = int(time.time() * 1000), run.data.metrics, []
    for name, value in _clean(metrics).items():
        if name not in known:
            found.append(Metric(name, value, now, 0))
        elif not _same(known[name], value):
            last = max(point.step for point in client.get_metric_history(run.info.run_id, name))
            found.append(Metric(name, value, now, last))
    _log_all(client, run.info.run_id, found)


def _log_all(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    longest = max((len(json.dumps(name)) for name in {metric.key for metric in metrics}), default=0)
    at_once = min(METRICS_AT_ONCE, LARGEST_CALL // (longest + 150))  # what else there is of a metric in a call
    for some in batched(metrics, at_once, strict=False):
        client.log_batch(run_id, metrics=some)


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _new_points(client: MlflowClient, run: Run, points: Sequence[Point]) -> list[Point]:
    """Return the points that the run lacks: it may have them live, or from a publication that was killed."""
    by_name: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_name[clean_name(point[0])].append(point)
    new = []
    for name, some in by_name.items():
        history = client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
        known = {(point.step, repr(point.value)) for point in history}
        new += [point for point in some if (point[1], repr(float(point[2]))) not in known]
    return new


def _log_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    now = int(time.time() * 1000)
    _log_all(client, run_id, [Metric(clean_name(name), value, now, step) for name, step, value in points])


def _clean[V](values: Mapping[str, V]) -> dict[str, V]:
    """Return the values by names that MLflow takes."""
    names = clean_names({name: name for name in values})
    return {names[name]: value for name, value in values.items()}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_PARAM else f"{text[: LONGEST_PARAM - 1]}…"
