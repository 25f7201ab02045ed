import json
import logging
import shutil

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import skops_model
from stagekit import sha256, write_json
from stages.train import production, registry, server, train
from stages.train.promotion import Gate

NAME = "iris-classifier"
SCORES = {"test_accuracy": 0.9, "test_f1_macro": 0.89899, "test_log_loss": 3.604365}
"""Of the model that is wrong on one row, surely."""
# MLflow advises against stages, and SQLAlchemy against what MLflow does.
pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage", "ignore:.*noload")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty MLflow database, which takes seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(tmp_path, monkeypatch, database) -> MlflowClient:
    """MLflow's client of an empty registry in tmp_path, which is the working folder and takes the artifacts."""
    shutil.copy(database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setattr(production, "PAUSE", 0)
    return MlflowClient()


@pytest.fixture
def model(tmp_path):
    """Makes a real model that tells all but `wrong` of ten test rows, and its metadata; the seed changes its bytes."""

    def make(wrong: int = 0, seed: int = 0):
        train_frame = pd.DataFrame({"x": [float(x) for x in range(10)] * 20})
        test_frame = train_frame.head(10).assign(species=["a"] * 5 + ["b"] * 5)
        train_frame["species"] = ["a" if x < 5 - wrong else "b" for x in train_frame["x"]]
        folder = tmp_path / f"{wrong}-{seed}"
        args = train.TrainArgs(
            train_csv=folder / "train.csv",
            test_csv=folder / "test.csv",
            model=folder / "model.skops",
            metadata=folder / "model_metadata.json",
            **{"n_estimators": 3, "max_depth": None, "min_samples_leaf": 1, "max_features": 1.0, "seed": seed},
        )
        folder.mkdir(exist_ok=True)
        train_frame.to_csv(args.train_csv, index=False)
        test_frame.to_csv(args.test_csv, index=False)
        forest = train.fit(train_frame, **args.hyperparameters())
        skops_model.save(forest, args.model)
        metadata = train.describe(args, forest, train_frame, test_frame)
        assert metadata["metrics"]["test_accuracy"] == 1 - wrong / 10
        write_json(args.metadata, metadata)
        return args

    return make


@pytest.fixture
def publish(model):
    """Publishes the model that `model` makes."""

    def run(wrong: int = 0, seed: int = 0, min_improvement: float = 0.0) -> registry.Outcome:
        args = model(wrong, seed)
        return registry.publish(
            args.model,
            args.metadata,
            server.Settings("iris", NAME, Gate(min_improvement=min_improvement), "abc123", "ann"),
        )

    return run


def stages(client: MlflowClient) -> dict[str, str]:
    """The stage of each version."""
    return {str(v.version): v.current_stage for v in client.search_model_versions(f"name='{NAME}'")}


def alias(client: MlflowClient, name: str) -> str:
    """The version that has this alias."""
    return str(client.get_model_version_by_alias(NAME, name).version)


def runs(client: MlflowClient) -> list[mlflow.entities.Run]:
    return client.search_runs([client.get_experiment_by_name("iris").experiment_id])


# --- publish


def test_the_first_model_goes_to_production(client, publish):
    """Where there is nothing yet, a model becomes version 1, in production, under the alias production."""
    outcome = publish()
    assert (str(outcome.version), outcome.stage) == ("1", "Production")
    assert stages(client) == {"1": "Production"}
    assert alias(client, "production") == "1"


def test_a_run_holds_what_is_known_of_the_model(client, publish, model):
    """The run has the parameters, the metrics, the data's digests and the commit, and is finished."""
    outcome = publish(wrong=1, seed=5)
    run = client.get_run(outcome.run_id)
    args = model(wrong=1, seed=5)
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in args.hyperparameters().items()}
    assert run.data.metrics == SCORES | {"train_accuracy": 1.0}
    assert run.data.tags["git_commit"] == "abc123"
    assert run.data.tags["model_sha256"] == sha256(args.model)
    datasets = {entry.dataset.name: json.loads(entry.dataset.source)["sha256"] for entry in run.inputs.dataset_inputs}
    assert datasets == {"train": sha256(args.train_csv), "test": sha256(args.test_csv)}


def test_a_version_tells_where_it_came_from(client, publish, model):
    """The version names its run, its content, its accuracy, the test data, the commit and why it is where it is."""
    outcome = publish(wrong=1)
    version = client.get_model_version(NAME, outcome.version)
    assert version.run_id == outcome.run_id
    record = json.loads(version.tags.pop("decision_record"))
    assert version.tags == {
        "model_sha256": sha256(model(wrong=1).model),
        "git_commit": "abc123",
        "test_data_sha256": sha256(model(wrong=1).test_csv),
        "reason": outcome.reason,
        "decision": "Production",
    } | {name: str(value) for name, value in SCORES.items()}
    assert record["by"] == "ann" and record["reason"] == outcome.reason


def test_the_same_model_is_published_once(client, publish):
    """A model that was published gives the same answer again, and neither a second run nor a second version."""
    assert publish() == publish()
    assert stages(client) == {"1": "Production"}
    assert len(runs(client)) == 1


def test_a_better_model_replaces_production(client, publish):
    """A better model goes to production with the alias, and the old one is archived."""
    publish(wrong=2)
    assert publish(wrong=1).stage == "Production"
    assert stages(client) == {"1": "Archived", "2": "Production"}
    assert alias(client, "production") == "2"


@pytest.mark.parametrize(
    ("wrong", "seed"), [pytest.param(1, 7, id="as good, other bytes"), pytest.param(2, 0, id="worse")]
)
def test_a_model_that_is_not_better_goes_to_staging(client, publish, wrong, seed):
    """A model that is not better goes to staging with its alias, and production stays as it was."""
    publish(wrong=1)
    outcome = publish(wrong=wrong, seed=seed)
    assert (outcome.stage, stages(client)) == ("Staging", {"1": "Production", "2": "Staging"})
    assert (alias(client, "production"), alias(client, "staging")) == ("1", "2")


def test_the_alias_staging_is_the_newest(client, publish):
    """Of two models in staging, the alias is with the one that came last."""
    for wrong in (0, 1, 2):
        publish(wrong=wrong)
    assert alias(client, "staging") == "3"


@pytest.mark.parametrize(("min_improvement", "stage"), [(0.05, "Production"), (0.25, "Staging"), (0.1, "Staging")])
def test_the_minimum_improvement_is_respected(client, publish, min_improvement, stage):
    """A model that is better by 0.1 goes to production only where less than that is asked for."""
    publish(wrong=3)
    assert publish(wrong=2, min_improvement=min_improvement).stage == stage
    assert stages(client)["2"] == stage


def test_an_old_model_published_again_changes_nothing(client, publish):
    """A model that was decided on stays where it is, whatever came after it."""
    for wrong in (2, 1, 2):
        publish(wrong=wrong)
    assert stages(client) == {"1": "Archived", "2": "Production"}
    assert alias(client, "production") == "2"


def test_a_version_without_a_decision_is_judged_again(client, publish):
    """A version whose decision was not recorded is judged by what is in production now."""
    publish(wrong=1)
    assert publish(wrong=2).stage == "Staging"
    client.delete_model_version_tag(NAME, "2", "decision")
    client.transition_model_version_stage(NAME, "1", "Archived")
    assert publish(wrong=2).stage == "Production"
    assert stages(client) == {"1": "Archived", "2": "Production"}
    assert alias(client, "production") == "2"


def test_a_version_with_a_decision_is_never_judged_again(client, publish):
    """What someone took out of production by hand stays out, and nothing that was decided on takes its place."""
    publish(wrong=1)
    publish(wrong=2)
    client.transition_model_version_stage(NAME, "1", "Archived")
    publish(wrong=2)
    assert stages(client) == {"1": "Archived", "2": "Staging"}
    assert publish(wrong=3).stage == "Production"


def test_a_run_that_was_begun_is_finished(client, publish, model):
    """A run that has the model's digest and nothing more is finished and gets the version; no second run is made."""
    experiment = client.create_experiment("iris")
    begun = client.create_run(experiment, tags={"model_sha256": sha256(model().model)})
    assert publish().run_id == begun.info.run_id
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_accuracy"] == 1.0
    assert stages(client) == {"1": "Production"}


@pytest.fixture(params=["before", "after"])
def killed(request, publish, monkeypatch):
    """Publishes a model and is killed right before, or right after, the first call of that name of MLflow's client."""

    def run(call: str, wrong: int) -> None:
        original = getattr(MlflowClient, call)

        def kill(*arguments, **options):
            if request.param == "after":
                original(*arguments, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MlflowClient, call, kill)
            publish(wrong=wrong)

    return run


@pytest.mark.parametrize(
    "call",
    [
        "create_experiment",
        "create_run",
        "log_batch",
        "log_inputs",
        "log_artifacts",
        "set_terminated",
        "create_registered_model",
        "create_model_version",
        "set_model_version_tag",
        "transition_model_version_stage",
        "set_registered_model_alias",
    ],
)
def test_what_was_killed_is_finished_by_the_next_call(client, publish, killed, call):
    """Killed beside any change, publish called again ends as if it had not been: one run, one version, production."""
    killed(call, wrong=1)
    assert publish(wrong=1).stage == "Production"
    assert stages(client) == {"1": "Production"}
    assert alias(client, "production") == "1"
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == 2
    assert run.data.metrics == SCORES | {"train_accuracy": 1.0}


@pytest.mark.parametrize("call", ["transition_model_version_stage", "set_registered_model_alias"])
def test_a_replacement_that_was_killed_is_finished(client, publish, killed, call):
    """Killed while it replaces the model in production, publish called again replaces it."""
    publish(wrong=2)
    killed(call, wrong=1)
    assert publish(wrong=1).stage == "Production"
    assert stages(client) == {"1": "Archived", "2": "Production"}
    assert alias(client, "production") == "2"


def test_versions_come_oldest_first(client):
    """The versions of a model are listed by their number, the lowest first, and those of no model are none."""
    client.create_registered_model(NAME)
    for _ in range(11):
        client.create_model_version(NAME, "mlflow-artifacts:/elsewhere")
    assert [int(version.version) for version in server.versions(client, NAME)] == list(range(1, 12))
    assert server.versions(client, "another") == []


# --- the artifact


def test_the_registered_file_is_the_file_given(client, publish, model, tmp_path):
    """The version's model.skops is byte by byte the file that DVC tracks."""
    publish()
    path = mlflow.artifacts.download_artifacts(f"models:/{NAME}@production", dst_path=str(tmp_path / "got"))
    assert (tmp_path / "got" / "model.skops").read_bytes() == model().model.read_bytes(), path
    assert [file.name for file in (tmp_path / "got").rglob("*.pkl")] == []


def test_the_registered_model_predicts(client, publish, model):
    """MLflow loads the version in production by its alias, and it predicts what the model predicts."""
    publish(wrong=2)
    publish(wrong=1)
    features = pd.DataFrame({"x": [0.0, 3.0, 4.0, 9.0]})
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@production")
    assert list(loaded.predict(features)) == list(skops_model.load(model(wrong=1).model).predict(features))
    assert loaded.metadata.get_input_schema().input_names() == ["x"]
    with pytest.raises(MlflowException):
        loaded.predict(pd.DataFrame({"y": [0.0]}))


# --- what is not as it should be


def test_a_server_that_is_away_is_one_line(client, publish, monkeypatch):
    """An unreachable server is a RegistryError of one line that names it, and nothing is promoted."""
    local = mlflow.get_tracking_uri()
    publish(wrong=2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(server.RegistryError, match=r"http://127\.0\.0\.1:9 ") as error:
        publish(wrong=1)
    assert "\n" not in str(error.value)
    assert stages(MlflowClient(local)) == {"1": "Production"}


def test_a_server_that_fails_leaves_the_log_as_it_was(client, publish, monkeypatch):
    """MLflow's own log is as loud after a failure as it was before."""
    monkeypatch.setattr(logging.getLogger("mlflow"), "level", logging.INFO)
    client.delete_experiment(client.create_experiment("iris"))
    with pytest.raises(server.RegistryError):
        publish()
    assert logging.getLogger("mlflow").level == logging.INFO


def test_a_refusal_of_the_server_is_one_line(client, publish):
    """An experiment that was deleted on the server is a RegistryError, not a crash."""
    client.delete_experiment(client.create_experiment("iris"))
    with pytest.raises(server.RegistryError) as error:
        publish()
    assert "\n" not in str(error.value)


def test_a_version_put_into_production_by_hand_stays_there(client, publish):
    """A version that someone put into production before it was judged stays there and is decided."""
    publish(wrong=1)
    publish(wrong=2)
    for tag in ("decision", "reason"):
        client.delete_model_version_tag(NAME, "2", tag)
    client.transition_model_version_stage(NAME, "2", "Production", archive_existing_versions=True)
    assert publish(wrong=2).stage == "Production"
    assert stages(client) == {"1": "Archived", "2": "Production"}


def test_a_stranger_in_production_stays_there(client, publish):
    """Where the version in production is not ours and cannot be scored, it stays, and the new one says why."""
    client.create_registered_model(NAME)
    client.create_model_version(NAME, "mlflow-artifacts:/elsewhere")
    client.transition_model_version_stage(NAME, "1", "Production")
    outcome = publish()
    assert outcome.stage == "Staging"
    assert "version 1 cannot be scored: its run is gone" in outcome.reason
    assert stages(client) == {"1": "Production", "2": "Staging"}


# --- settings


def test_settings_come_from_the_environment():
    """REGISTRY and GIT_COMMIT, as make sets them, are the settings."""
    environ = {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "REGISTRY": json.dumps({"experiment": "e", "model": "m", "gate": {"min_improvement": 0.1}, "who": "ann"}),
        "GIT_COMMIT": "abc",
    }
    assert server.Settings.from_environment(environ) == server.Settings(
        "e", "m", Gate(min_improvement=0.1), "abc", "ann"
    )


@pytest.mark.parametrize("missing", ["MLFLOW_TRACKING_URI", "REGISTRY"])
def test_missing_settings_are_said(missing):
    """Without a server or its settings, nothing is published, and the line names what is missing."""
    environ = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "REGISTRY": "{}"}
    with pytest.raises(server.RegistryError, match=missing):
        server.Settings.from_environment({name: environ[name] for name in environ if name != missing})
