"""What people delete in the registry: it mends itself where nothing is lost, or the sentence has the way out."""

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import pytest

from scripts.registry import versions
from scripts.registry.mlflow import RegistryError
from tests.promotion.conftest import CURRENT, OLD
from tests.promotion.model import Files, Model

pytestmark = [pytest.mark.docker, pytest.mark.filterwarnings("ignore:.*transition_model_version_stage")]
P, S, A = "Production", "Staging", "Archived"


class History(NamedTuple):
    """Two models, of which the second one is in production, and what became of them when they were published."""

    model: Model
    files: list[Files]
    outcomes: list[versions.Outcome]

    @property
    def run(self) -> str:
        """The run of the version in production."""
        return self.outcomes[1].run_id

    @property
    def experiment(self) -> str:
        return self.model.client.get_experiment_by_name(self.model.name).experiment_id

    def publish_again(self) -> versions.Outcome:
        """Do what a run does that finds the model in production on disk, and no receipt of it."""
        return self.model.publish_whole(self.files[1])

    def is_right(self, stages: dict[int, str]) -> None:
        """Publish again; the versions are in these stages, and the model at hand has a run that anybody can see."""
        outcome = self.publish_again()
        assert self.model.stages() == stages
        self.model.check_at_rest()
        version = self.model.state().version(int(outcome.version))
        assert version.tags["dvc_lock_sha256"] == "1" * 64
        run = self.model.client.get_run(version.run_id)
        assert (run.info.lifecycle_stage, run.info.status) == ("active", "FINISHED")


@pytest.fixture
def history(model: Model) -> History:
    files = [model.files(0.8), model.files(0.9)]
    return History(model, files, [model.publish_whole(each) for each in files])


def for_good(history: History) -> None:
    """Delete the run, and empty the trash."""
    history.model.client.delete_run(history.run)
    history.model.in_container(
        f"MLFLOW_TRACKING_URI={history.model.client.tracking_uri} mlflow gc --backend-store-uri "
        f"sqlite:////tmp/mlflow.db --run-ids {history.run}"
    )


def untag(*tags: str) -> Callable[[History], object]:
    return lambda history: [history.model.untag(2, tag) for tag in tags]


ON_SERVERS = pytest.mark.parametrize(
    "server",
    [pytest.param(CURRENT, id="current-mlflow"), pytest.param(OLD, id="mlflow-2.7.1", marks=pytest.mark.deep)],
    indirect=True,
)
MENDED: dict[str, tuple[Callable[[History], object], dict[int, str]]] = {
    "the version in production": (lambda history: history.model.delete(2), {1: A, 3: P}),
    "both versions": (lambda history: (history.model.delete(1), history.model.delete(2)), {3: P}),
    "the registered model": (lambda history: history.model.client.delete_registered_model(history.model.name), {1: P}),
    "the run of another version": (
        lambda history: history.model.client.delete_run(history.outcomes[0].run_id),
        {1: A, 2: P},
    ),
    "the alias": (lambda history: history.model.alias(None), {1: A, 2: P}),
    "the record of its pipeline": (lambda history: history.model.lose(2, "pipeline/dvc.lock"), {1: A, 2: P}),
    "its receipt": (untag("dvc_lock_sha256"), {1: A, 2: P}),
    "its decision": (untag("decision", "decision_record"), {1: A, 2: P}),
    "its digest": (untag("model_sha256"), {1: A, 2: P, 3: S}),
    "what its score depends on": (untag("scorer_image", "accuracy"), {1: A, 2: P}),
    "what was applied last": (
        lambda history: history.model.client.delete_registered_model_tag(history.model.name, "production_turn"),
        {1: A, 2: P},
    ),
}


BY_DEFAULT = ("the version in production", "the registered model", "its digest")


@ON_SERVERS
@pytest.mark.parametrize(
    ("delete", "stages"),
    [
        pytest.param(*each, id=name.replace(" ", "-"), marks=[] if name in BY_DEFAULT else pytest.mark.deep)
        for name, each in MENDED.items()
    ],
)
def test_what_can_be_made_again_is(
    history: History, delete: Callable[[History], object], stages: dict[int, str]
) -> None:
    """A version, an alias, a tag or the model itself that is gone keeps no run from publishing."""
    delete(history)
    history.is_right(stages)


RUN, EXPERIMENT = "delete_run", "delete_experiment"


def told(history: History) -> str:
    """Return the sentence with which publishing again ends."""
    with pytest.raises(RegistryError) as error:
        history.publish_again()
    assert "\n" not in str(error.value) and "did not do what was asked" not in str(error.value)
    return str(error.value)


def call(sentence: str) -> None:
    """Call the command that a sentence names, as `make shell` does."""
    done = subprocess.run(shlex.split(re.search(r"'(mlflow .*?)'", sentence)[1]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", [RUN, EXPERIMENT])
def test_what_is_in_the_trash_is_restored_by_the_command_that_is_told(history: History, what: str) -> None:
    """A deleted run of a version, and a deleted experiment, are back after the command of the sentence."""
    getattr(history.model.client, what)({RUN: history.run, EXPERIMENT: history.experiment}[what])
    sentence = told(history)
    assert "was deleted in MLflow" in sentence and "in 'make shell', call 'mlflow " in sentence
    call(sentence)
    history.is_right({1: A, 2: P})


def test_a_deleted_experiment_may_be_left_for_another_one(history: History) -> None:
    """As the sentence says, another name in params.yaml does as well; what was published stays."""
    history.model.client.delete_experiment(history.experiment)
    assert "or name another experiment in params.yaml" in told(history)
    history.model.experiment = f"{history.model.name}-other"
    assert history.model.publish_whole(history.model.files(0.95)).stage == P
    history.model.check_at_rest()


@pytest.mark.parametrize("delete_for_good", [False, True], ids=["in the trash", "for good"])
def test_a_version_without_its_run_may_be_deleted_too(history: History, delete_for_good: bool) -> None:
    """As the sentence says, the version goes as well, and the model becomes a new one, in production."""
    if delete_for_good:
        for_good(history)
    else:
        history.model.client.delete_run(history.run)
    sentence = told(history)
    assert "delete version 2, too, on the model's page ('make ui' says where)" in sentence
    assert ("restore" in sentence) is not delete_for_good
    history.model.delete(2)
    history.is_right({1: A, 3: P})


def test_a_champion_without_its_file_is_replaced_by_hand(history: History) -> None:
    """A model that cannot be compared, since the file in production is gone, waits for the command that is told."""
    history.model.lose(2)
    outcome = history.model.publish(0.95, scorer="stages/score:2")
    assert outcome.stage == S
    assert "version 2 cannot be scored: its file is gone; 'make promote VERSION=' puts any" in outcome.reason
    history.model.decide(int(outcome.version), "promote")
    assert history.model.publish(0.97, scorer="stages/score:2").stage == P
    history.model.check_at_rest()
