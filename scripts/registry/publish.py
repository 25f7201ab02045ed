"""Publishes a model: its run, its version and the decision about production.

One idempotent path, keyed by the model's content: what the registry has already (receipts.py) is left as it is.
"""

import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts import places, settings
from scripts.digests import sha256
from scripts.pipeline import dvc_adapter, images, rooms
from scripts.pipeline.stage import Model, Pipeline, block
from scripts.project import Project, UserError
from scripts.registry import logged, provenance, receipts, scoring
from scripts.registry.gate import Measurement, Unscorable
from scripts.registry.receipts import OnDisk, Published
from scripts.registry.stage_files import read_text

CARD, MOST_OF_A_CARD = "MODEL.md", 100_000  # bytes


@dataclass(frozen=True)
class Job:
    """What is to be published, as it was when the run began: people edit and commit during a run."""

    project: Project
    pipeline: Pipeline
    models: Sequence[Model]
    wanted: Mapping[str, images.Image]
    snapshot: provenance.Snapshot
    requirements: Mapping[str, Sequence[str]]  # by the stage that makes a model
    who: str
    notes: Mapping[str, str] = field(default_factory=dict)  # what rooms say of a model, for the record of its decision

    @classmethod
    def of(
        cls,
        project: Project,
        pipeline: Pipeline,
        models: Sequence[Model],
        wanted: Mapping[str, images.Image],
        who: str,
    ) -> "Job":
        """Take the snapshot. Raise UserError if git cannot tell what is not committed."""
        needed = {model.maker: requirements(project, block(model.maker)) for model in models}
        notes = {model.name: rooms.notes(project, pipeline, model) for model in models}
        snapshot = provenance.snapshot(pipeline, wanted, project)
        return cls(project, pipeline, models, wanted, snapshot, needed, who, notes)


def requirements(project: Project, stage: str) -> list[str]:
    """Return the packages that the stage and the base ask for, each with its pinned version; [] if there are none."""
    folders = [project.root / "stages" / name for name in (images.BASE, stage)]
    asked, pinned = [], {}
    for folder in folders:
        asked += [_name(line) for line in _lines(folder / "requirements.in")]
        pinned |= {_name(line): line.split()[0] for line in _lines(folder / "requirements.txt") if "==" in line}
    return sorted({pinned[name] for name in asked if name in pinned})


def _lines(path: Path) -> list[str]:
    text = path.read_text() if path.is_file() else ""
    return [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]


def _name(requirement: str) -> str:
    """Return the package's name as indexes normalize it: `ruamel.yaml>=1` -> `ruamel-yaml`."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement)[0]).lower()


def digest(lock: bytes) -> str:
    """Return the SHA-256 of a part of dvc.lock, by which a receipt names it."""
    return hashlib.sha256(lock).hexdigest()


def on_disk(project: Project, pipeline: Pipeline, model: Model) -> OnDisk:
    """Return what a receipt must say of the model as it is on disk, and its score."""
    lock = digest(provenance.lock_of(pipeline, model, project))
    return OnDisk(model.name, sha256(project.root / model.file), lock, model.gate.metric, score_of(project, model))


def receipt(project: Project, pipeline: Pipeline, model: Model) -> Published | None:
    """Return the version of the model as it is on disk, as `receipts.find` does."""
    return receipts.find(on_disk(project, pipeline, model))


def score_of(project: Project, model: Model) -> float | None:
    """Return the gate's metric as the scorer wrote it; None if it is not there."""
    measured = scoring.read(project.root, model)
    return None if isinstance(measured, Unscorable) else measured.metrics.get(model.gate.metric)


class Publication:
    """One model of a job, published step by step; imports MLflow's client.

    Each step raises registry.mlflow.RegistryError for a server's fault, and can be repeated.
    """

    def __init__(self, job: Job, model: Model) -> None:
        from scripts.registry import cards, datasets, versions

        self._cards, self._datasets, self._versions, self._job, self.model = cards, datasets, versions, job, model
        seen, note = job.snapshot, job.notes.get(model.name, "")
        self.settings = versions.Settings(
            model.experiment, model.name, model.gate, seen.commit, job.who, seen.repository, seen.branch, note
        )
        self._run: str | None = None
        self._is_uploaded = False
        self._drawn: dict[str, bytes] = {}

    @property
    def stages(self) -> list[str]:
        """The stages whose metrics belong to the model's run."""
        return self._job.pipeline.leading_to(self.model.scorer)

    def end_abandoned(self) -> None:
        """End the runs for live metrics that an interrupted run of this clone left open."""
        self._versions.end_abandoned(self.settings)

    def log_live(self, found: Sequence[tuple[str, int, float]]) -> None:
        """Log (name, step, value) to the run that the model will be published in; begin it if there is none."""
        self._run = self._run or self._versions.begin_run(self.settings, self.model.maker, self._tags())
        self._versions.log_live(self._run, found)

    def upload(self) -> str:
        """See to it that the model's file has a run, with parameters and data; return its id."""
        return self._upload(self._candidate(scored=False))

    def draw_ahead(self) -> None:
        """Draw the pictures of what the stages left, as far as that can be read; what there is to say is said later."""
        with redirect_stdout(io.StringIO()):
            logged.collect(self._job.pipeline, self.model, self._job.project.root, self._drawn)

    def publish(self) -> Published:
        """See to it that the model has in its run all that the stages left, a version, and a decision.

        In this order: what a stage's file or the server has against it is told before there is a version.
        """
        job, model = self._job, self.model
        if published := receipt(job.project, job.pipeline, model):
            return published
        candidate, lock = self._candidate(scored=True), provenance.lock_of(job.pipeline, model, job.project)
        left, tags = self._left(lock), self._tags() | {"dvc_lock_sha256": digest(lock)}
        run_id = self._upload(candidate)
        job.project.made.mkdir(parents=True, exist_ok=True)
        (job.project.made / job.snapshot.seal).touch()
        self._versions.log(run_id, left, tags)
        measured = scoring.read(job.project.root, model)
        scorer = scoring.Scorer(job.project, job.pipeline, model, job.wanted)
        outcome = self._versions.register(self.settings, candidate, run_id, measured, scorer.measure)
        self._versions.complete(self.settings, outcome, left, tags, run_id, self._about(candidate, measured))
        score = score_of(job.project, model)
        return Published(
            model.name, outcome.version, outcome.stage, outcome.reason, model.gate.metric, score, outcome.now, news=True
        )

    def _left(self, lock: bytes) -> logged.Logged:
        """Return what the run gets of the stages, and the record of its pipeline."""
        job = self._job
        found = logged.collect(job.pipeline, self.model, job.project.root, self._drawn)
        files = {f"pipeline/{name}": data for name, data in job.snapshot.files.items()} | {"pipeline/dvc.lock": lock}
        return found._replace(artifacts={**found.artifacts, **files})

    def _about(self, candidate: Any, measured: Measurement | Unscorable) -> Any:
        """Return what people are told of the model."""
        snapshot, model = self._job.snapshot, self.model
        return self._cards.About(
            model=model.name,
            maker=model.maker,
            scorer=model.scorer,
            place=candidate.place,
            gate=model.gate,
            commit=snapshot.commit,
            dirty=snapshot.dirty,
            repository=snapshot.repository,
            loads=bool(model.loader),
            metrics=measured.metrics if isinstance(measured, Measurement) else {},
            data=candidate.data,
            example=candidate.example,
            own=self._own_words(),
            **self._signature(),
        )

    def _own_words(self) -> str:
        """Return what the project says of the model itself: MODEL.md in the folder of its stage, if that is there."""
        path = self._job.project.stages / block(self.model.maker) / CARD
        try:
            return read_text(path, MOST_OF_A_CARD) if path.is_file() else ""
        except UserError as error:
            print(f"note: {error}", flush=True)
            return ""

    def _signature(self) -> dict[str, list[Mapping[str, Any]]]:
        path = self.model.signature
        return self._datasets.signature(self._job.project.root / path) if path else {"inputs": [], "outputs": []}

    def give_up(self) -> None:
        """Mark a run that was begun for live metrics as failed: its stage failed."""
        if self._run and not self._is_uploaded:
            self._versions.end_run(self._run, "FAILED")

    def _upload(self, candidate: Any) -> str:
        """Upload the model; what its scorer prints from now on is logged to the same run."""
        self._run = self._versions.upload(self.settings, candidate, self._run)
        self._is_uploaded = True
        return self._run

    def _tags(self) -> dict[str, str]:
        snapshot = self._job.snapshot
        tags = {f"image.{block(name)}": self._job.pipeline.stages[name].image for name in self.stages}
        code = {"git_commit": snapshot.commit, "git_dirty": str(snapshot.dirty).lower()}
        return tags | code | {"mlflow.source.git.commit": snapshot.commit}

    def _candidate(self, *, scored: bool) -> Any:
        job, model, root = self._job, self.model, self._job.project.root
        lock = provenance.read_lock(job.project)
        data = self._data(lock)
        return self._versions.Candidate(
            file=root / model.file,
            source=model.maker,
            params=logged.params_of(job.pipeline, model),
            data=data,
            scored_by=scoring.scored_by(job.pipeline, model, lock) if scored else None,
            loader=root / model.loader if model.loader else None,
            signature=root / model.signature if model.signature else None,
            requirements=job.requirements[model.maker],
            example=self._datasets.example(self._signature()["inputs"], [each.seen for each in data if each.seen]),
        )

    def _data(self, lock: Mapping[str, Any]) -> list[Any]:
        """Return the data sets of the run: what the model's stage and its scorer read."""
        stages, root = self._job.pipeline.stages, self._job.project.root
        entries = [entry for stage in lock.values() for kind in ("deps", "outs") for entry in stage.get(kind, [])]
        known = {entry["path"]: entry.get("md5") for entry in entries}
        read = {"training": stages[self.model.maker].inputs, "testing": stages[self.model.scorer].inputs}
        found = []
        for context, files in read.items():
            for name, path in files.items():
                value = known.get(path) or (dvc_adapter.md5(root / path) if (root / path).is_file() else None)
                if path != self.model.file and value:
                    source = self._source(path, value)
                    seen = self._datasets.look(root / path)
                    found.append(self._datasets.Dataset(name, path, value, context, seen, source))
        return found

    def _source(self, path: str, digest: str) -> tuple[str, str] | None:
        """Return from where MLflow can read a data set: DVC's remote, or, for a server on this machine, DVC's cache."""
        from scripts.registry import recorded

        project = self._job.project
        if found := self._datasets.address(places.default_remote(project)[1], digest):
            return found
        if not settings.is_local(os.environ):  # whoever else asks that server has not this machine's files
            return None
        cached = recorded.cache_path(digest, project.root)
        return "local", str(cached if cached.is_file() else project.root / path)
