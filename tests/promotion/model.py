"""A model in a registry that tests publish to step by step. Its files are JSON, and a Python function scores them."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from scripts.registry import cards, mlflow, reconcile, records, versions
from scripts.registry.gate import Gate, Measurement, Unscorable
from scripts.registry.logged import Logged
from scripts.registry.records import ScoredBy, State

ROWS = 20
METRICS = ("accuracy", "per_class.setosa.f1", "log_loss")
TAGS = {"git_commit": "def456", "git_dirty": "false", "dvc_lock_sha256": "1" * 64, "image.train": "train:1"}
LEFT = Logged(
    params={"n_estimators": "100", "preprocess.seed": "3"},
    metrics={"accuracy": 0.5},
    steps=[("loss", step, 1 / (1 + step)) for step in range(3)],
    artifacts={"evaluation/metrics.json": b"{}", "pipeline/dvc.lock": b"schema: '2.0'\n"},
)
"""What the stages left of a model, and the tags of its run; the receipt among them."""
USUAL = ScoredBy("stages/score:1", '{"seed":1}', "a" * 64)


class Files(NamedTuple):
    """A model that is not published yet: its candidate, and what its pipeline's scorer found of it."""

    candidate: versions.Candidate
    measured: Measurement | Unscorable

    @property
    def digest(self) -> str:
        return self.candidate.digest


def rows_right(right: int) -> tuple[float, ...]:
    """Return the scores of rows of which the first ones are right."""
    return (1.0,) * right + (0.0,) * (ROWS - right)


@dataclass
class Model:
    """A registered model, and what tests, people and accidents do with it.

    Each of its files has a score on the usual test data; on other data, all of them score the same.
    """

    name: str
    folder: Path
    gate: Gate = field(default_factory=lambda: Gate("accuracy", range=(0.0, 1.0)))
    experiment: str = ""
    client: MlflowClient = field(default_factory=MlflowClient)
    made: Iterator[int] = field(default_factory=itertools.count)
    in_container: Callable[[str], object] | None = None  # runs a shell command where the server is
    scored_by: ScoredBy = USUAL
    elsewhere: float | str | None = None  # what the scorer finds on other test data: a score, or why there is none
    note: str = ""  # what the record says of the model beside the reason
    measurements: list[str] = field(default_factory=list)  # the names of the files that the scorer was given

    @property
    def settings(self) -> versions.Settings:
        return versions.Settings(self.experiment or self.name, self.name, self.gate, "abc123", "ann", note=self.note)

    def files(
        self,
        score: float | str,
        *,
        right: int | None = None,
        beside: float | str | None = None,
        scorer: str | None = None,
        extra: str = "",
    ) -> Files:
        """Make a model with this score, or a reason why it has none; of its rows `right` score 1, the others 0.

        `beside` says that it was scored on new test data, and what any other model gets there. `scorer` is an image.
        `extra` makes another file of the same score.
        """
        folder = self.folder / f"{self.name}-{next(self.made)}"
        folder.mkdir()
        file = folder / "model.json"
        file.write_text(json.dumps({"score": score, "right": right, "extra": extra or folder.name}))
        if beside is not None:
            self.elsewhere = beside
            self.scored_by = self.scored_by._replace(test_data=f"{next(self.made):064d}")
        if scorer is not None:
            self.scored_by = self.scored_by._replace(image=scorer)
        data = [
            versions.Dataset("train", "data/train.csv", "0" * 32, "training"),
            versions.Dataset("test", "data/test.csv", self.scored_by.test_data[:32], "testing"),
        ]
        params = {"n_estimators": "100", "seed": "0"}
        return Files(versions.Candidate(file, "train", params, data, self.scored_by), self._score(file))

    def measure(self, file: Path) -> Measurement | Unscorable:
        """Measure the file of another version, as the scorer's container does: on the test data of the newest model."""
        self.measurements.append(file.name)
        if isinstance(self.elsewhere, str):
            return Unscorable(self.elsewhere)
        if self.elsewhere is not None:
            return Measurement(dict.fromkeys(METRICS, self.elsewhere), rows_right(round(self.elsewhere * ROWS)))
        return self._score(file)

    def _score(self, file: Path) -> Measurement | Unscorable:
        made = json.loads(file.read_text())
        if isinstance(made["score"], str):
            return Unscorable(made["score"])
        rows = None if made["right"] is None else rows_right(made["right"])
        return Measurement(dict.fromkeys(METRICS, made["score"]), rows)

    def publish_files(self, files: Files) -> versions.Outcome:
        """See to it that a model has a run, a version and a decision."""
        return self.register(files, self.upload(files))

    def register(self, files: Files, run_id: str) -> versions.Outcome:
        return versions.register(self.settings, files.candidate, run_id, files.measured, self.measure)

    def publish(self, score: float | str, **options: object) -> versions.Outcome:
        """Publish a new model."""
        return self.publish_files(self.files(score, **options))

    def publish_whole(self, files: Files) -> versions.Outcome:
        """Do all that a run of the pipeline does to publish a model."""
        versions.end_abandoned(self.settings)
        run_id = self.upload(files, self.begin())
        self.log(run_id)
        outcome = self.register(files, run_id)
        self.complete(outcome, run_id)
        return outcome

    def begin(self) -> str:
        """Begin a run with live metrics."""
        begun = versions.begin_run(self.settings, "train", {"git_commit": "abc123"})
        versions.log_live(begun, [("loss", step, 1 / (1 + step)) for step in range(3)])
        return begun

    def upload(self, files: Files, begun: str | None = None) -> str:
        return versions.upload(self.settings, files.candidate, begun)

    def log(self, run_id: str) -> None:
        versions.log(run_id, LEFT, TAGS)

    def complete(self, outcome: versions.Outcome, logged_to: str = "") -> None:
        about = cards.About(self.name, "train", "score", "model/model.json", self.gate, "abc123", dirty=False)
        versions.complete(self.settings, outcome, LEFT, TAGS, logged_to, about)

    def state(self) -> State:
        return mlflow.read(self.client, self.name)

    def stages(self) -> dict[int, str]:
        return {version.number: version.stage for version in self.state().versions}

    def runs(self) -> list[object]:
        """Return the runs of this model that somebody has not deleted."""
        experiment = self.client.get_experiment_by_name(self.settings.experiment)
        found = self.client.search_runs([experiment.experiment_id])
        return [run for run in found if run.data.tags.get("registered_model") == self.name]

    def production(self) -> str:
        """Return the digest of the model that the alias production names."""
        state = self.state()
        return state.version(state.aliases["production"]).tags["model_sha256"]

    def check_at_rest(self) -> None:
        """Exactly one version is in production, by stage and by alias, every one is decided on, none is there twice."""
        state = self.state()
        assert records.next_step(state) is None, state
        best = records.champion(state)
        assert [version.number for version in state.versions if version.stage == "Production"] == [best], state
        assert state.aliases["production"] == best, state
        digests = [version.tags["model_sha256"] for version in state.versions if version.ours]
        assert len(digests) == len(set(digests)), state
        assert all(version.decided for version in state.versions if version.ours), state

    # What people and accidents do.

    def put(self, version: int, stage: str) -> None:
        """In the registry's pages: move a version to a stage."""
        self.client.transition_model_version_stage(self.name, str(version), stage)

    def alias(self, version: int | None) -> None:
        """In the registry's pages: move, or delete, the alias production."""
        if version is None:
            self.client.delete_registered_model_alias(self.name, "production")
        else:
            self.client.set_registered_model_alias(self.name, "production", str(version))

    def delete(self, version: int) -> None:
        self.client.delete_model_version(self.name, str(version))

    def untag(self, version: int, tag: str) -> None:
        self.client.delete_model_version_tag(self.name, str(version), tag)

    def tag(self, version: int, tag: str, value: str) -> None:
        self.client.set_model_version_tag(self.name, str(version), tag, value)

    def stranger(self, stage: str = "None") -> None:
        """A version that somebody registered by other means."""
        with contextlib.suppress(MlflowException):  # it is there
            self.client.create_registered_model(self.name)
        made = self.client.create_model_version(self.name, "s3://elsewhere/model")
        if stage != "None":
            self.put(int(made.version), stage)

    def lose(self, version: int, what: str = "model/model.json") -> None:
        """Delete an artifact of a version's run where the server keeps it."""
        run = self.state().version(version).run_id
        self.in_container(f"rm /tmp/artifacts/*/{run}/artifacts/{what}")

    def change_file(self, version: int) -> None:
        """Replace the model's file by another one than was registered."""
        other = self.folder / "other"
        other.mkdir(exist_ok=True)
        (other / "model.json").write_text('{"score": 1.0, "right": null}')
        self.client.log_artifact(self.state().version(version).run_id, str(other / "model.json"), "model")

    def decide(self, version: int, action: str) -> None:
        """`make promote` or `make rollback`."""
        reconcile.decide_by_person(self.client, self.name, "ann", self.state(), version, action, "for a test")
        reconcile.reconcile(self.client, self.name, "ann")

    def set_gate(self, **changes: object) -> None:
        self.gate = replace(self.gate, **changes)
