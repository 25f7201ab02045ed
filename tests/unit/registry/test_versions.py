"""A model's run and version, on a real server."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from scripts.digests import sha256
from scripts.project import UserError
from scripts.registry import cards, datasets, decisions, reconcile, versions
from scripts.registry.logged import Logged
from scripts.registry.mlflow import RegistryError
from scripts.registry.records import LONGEST_TAG

pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage")
TAGS = {"git_commit": "def456", "git_dirty": "true", "dvc_lock_sha256": "1" * 64, "image.train": "train:1"}
LOADER = """
import json
from pathlib import Path


class Doubling:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, data):
        return [self.factor * x for x in data["x"]]


def _load_pyfunc(path):
    return Doubling(json.loads(Path(path).read_text())["factor"])
"""
SIGNATURE = {"inputs": '[{"type": "double", "name": "x"}]', "outputs": '[{"type": "double"}]'}


def artifacts(model, run_id, path=None):
    """The files of a run, by their path below it."""
    found = []
    for entry in model.client.list_artifacts(run_id, path):
        found += artifacts(model, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


def alias(model, name):
    return model.state().aliases.get(name)


# --- publishing


def test_a_run_has_what_is_known_of_the_model(model):
    """The run has parameters, data sets, the digest, the commit and the file, and is finished before it is scored."""
    files = model.files(0.9)
    run = model.client.get_run(model.upload(files))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"n_estimators": "100", "seed": "0"}
    assert run.data.tags["model_sha256"] == sha256(files.candidate.file) == files.digest
    assert run.data.tags["git_commit"] == run.data.tags["mlflow.source.git.commit"] == "abc123"
    assert (run.info.run_name, run.data.tags["mlflow.source.name"]) == (f"{model.name}-{files.digest[:8]}", "train")
    data = {each.dataset.name: json.loads(each.dataset.source) for each in run.inputs.dataset_inputs}
    assert data["train"] == {"path": "data/train.csv", "md5": "0" * 32}
    contexts = {each.dataset.name: each.tags[0].value for each in run.inputs.dataset_inputs}
    assert contexts == {"train": "training", "test": "testing"}
    assert artifacts(model, run.info.run_id) == ["model/model.json"]


def test_a_file_may_be_training_and_test_data(model):
    """A file that both the model's stage and its scorer read is in the run all the same."""
    files = model.files(0.9)
    data = [versions.Dataset("features", "data/x.csv", "1" * 32, context) for context in ("training", "testing")]
    run_id = versions.upload(model.settings, replace(files.candidate, data=data))
    (entry,) = model.client.get_run(run_id).inputs.dataset_inputs
    assert entry.dataset.name == "features"


def test_a_version_says_where_it_came_from_and_what_its_score_depends_on(model):
    """The version names run, content, file, commit, score, scorer and data, and why it is where it is."""
    files = model.files(0.9, right=18)
    outcome = model.publish_files(files)
    version = model.state().version(1)
    assert version.run_id == outcome.run_id
    tags = dict(version.tags)
    record = json.loads(tags.pop("decision_record"))
    assert tags == {
        "model_sha256": files.digest,
        "model_file": "model/model.json",
        "git_commit": "abc123",
        "scorer_image": "stages/score:1",
        "scorer_params": '{"seed":1}',
        "test_data_sha256": "a" * 64,
        "accuracy": "0.9",
        "reason": outcome.reason,
        "decision": "Production",
    }
    assert (record["by"], record["score"], record["artifact"]) == ("ann", 0.9, "decisions/1-judged-version-1.json")
    assert len(version.tags["decision_record"]) < 300
    (rows,) = [path for path in artifacts(model, outcome.run_id) if path.startswith("scores/")]
    assert rows == files.candidate.scored_by.rows_file


def test_a_model_that_cannot_be_scored_is_registered_without_a_score(model):
    """A model without a measurement has a version in Staging, with the reason and no score."""
    outcome = model.publish("evaluate crashed on it")
    assert (outcome.stage, outcome.reason) == ("Staging", "it cannot be scored: evaluate crashed on it")
    assert "accuracy" not in model.state().version(1).tags
    assert model.state().version(1).record["score"] is None


def test_the_same_model_is_published_once(model):
    """A model that was published gives the same answer again, and neither a second run nor a second version."""
    files = model.files(0.9)
    assert model.publish_files(files) == model.publish_files(files)
    assert (model.stages(), len(model.runs())) == ({1: "Production"}, 1)


def test_a_model_published_again_later_changes_nothing(model):
    """A model that was decided on stays where it is, whatever came after it."""
    first = model.files(0.7)
    model.publish_files(first)
    model.publish(0.8)
    outcome = model.publish_files(first)
    assert (outcome.stage, outcome.now) == ("Production", "Archived")
    assert model.stages() == {1: "Archived", 2: "Production"}


def test_a_version_that_is_deleted_meanwhile_is_a_sentence(model, monkeypatch):
    """Somebody deletes the version as it is published: one sentence says so."""
    settled = reconcile.reconcile
    monkeypatch.setattr(versions, "reconcile", lambda *given: model.delete(1) or settled(*given))
    with pytest.raises(RegistryError, match=r"version 1 of .* was deleted while it was published"):
        model.publish(0.9)


# --- what was killed, or begun by another machine


def test_a_run_that_was_begun_is_finished(model):
    """A run that has the model's digest and nothing more is finished and gets the version; no second run is made."""
    files = model.files(0.9)
    experiment = model.client.create_experiment(model.name)
    tags = {"model_sha256": files.digest, "registered_model": model.name}
    begun = model.client.create_run(experiment, tags=tags)
    assert model.publish_files(files).run_id == begun.info.run_id
    (run,) = model.runs()
    assert (run.info.status, run.data.params) == ("FINISHED", {"n_estimators": "100", "seed": "0"})


def test_a_run_from_before_runs_named_their_model_is_taken_over(model):
    """A run that the code before this one began, known by its name alone, is finished; another model's is not."""
    files = model.files(0.9)
    experiment = model.client.create_experiment(model.name)
    tags = {"model_sha256": files.digest}
    model.client.create_run(experiment, tags=tags, run_name=f"other-{files.digest[:8]}")
    old = model.client.create_run(experiment, tags=tags, run_name=f"{model.name}-{files.digest[:8]}")
    assert model.upload(files) == old.info.run_id


def test_a_run_that_another_machine_registered_first_is_deleted(model):
    """Two machines send the same model; the one that registers second has its run deleted and gets the first's."""
    files = model.files(0.9)
    mine = model.upload(files)
    model.client.set_tag(mine, "model_sha256", "hidden")  # another machine looked before this run was there
    theirs = model.upload(files)
    model.client.set_tag(mine, "model_sha256", files.digest)
    assert model.register(files, theirs).run_id == theirs
    assert model.register(files, mine).run_id == theirs
    assert [run.info.run_id for run in model.runs()] == [theirs]
    assert model.register(files, mine).run_id == theirs  # and once more, with a run that is gone
    model.check_at_rest()


def test_a_deleted_run_of_a_version_is_a_sentence(model):
    """The run of a version was deleted in MLflow's pages: one sentence names both and says what brings it back."""
    files = model.files(0.9)
    outcome = model.publish_files(files)
    model.client.delete_run(outcome.run_id)
    said = rf"^the run {outcome.run_id} of version 1 of {model.name} was deleted in MLflow; expected it, .*: in 'make "
    said += rf"shell', call 'mlflow runs restore --run-id {outcome.run_id}', or delete version 1, too"
    for step in (lambda: model.upload(files), lambda: model.complete(outcome)):
        with pytest.raises(RegistryError, match=said):
            step()
    model.client.restore_run(outcome.run_id)
    assert model.publish_whole(files) == outcome


def test_a_run_that_is_gone_for_good_is_not_said_to_come_back(model, monkeypatch):
    """A run that was deleted and cleared from the trash cannot be restored: its version is to be deleted as well."""
    files = model.files(0.9)
    outcome = model.publish_files(files)
    with monkeypatch.context() as patch:
        patch.setattr(versions, "run_of", lambda client, version: None)
        with pytest.raises(RegistryError, match=r"was deleted in MLflow for good, .*: delete version 1, too") as told:
            model.upload(files)
    assert "restore" not in str(told.value) and "\n" not in str(told.value)
    model.delete(1)
    model.client.delete_run(outcome.run_id)
    model.publish_whole(files)
    assert model.stages() == {2: "Production"}


# --- live metrics


def points(model, run_id, name="loss"):
    return [(point.step, point.value) for point in model.client.get_metric_history(run_id, name)]


def test_live_metrics_are_seen_before_the_model_is_there(model):
    """While the stage runs, its run is RUNNING, tells the stage, and has the points so far, in as many calls as due."""
    run_id = versions.begin_run(model.settings, "train", {"git_commit": "abc123"})
    versions.log_live(run_id, [("loss", step, 1 / (1 + step)) for step in range(1001)] + [("a?b", 0, 1.0)])
    run = model.client.get_run(run_id)
    assert (run.info.status, run.data.tags["live_stage"]) == ("RUNNING", "train")
    assert run.data.tags["pipeline_clone"] == "0123456789ab"
    assert run.data.metrics == {"loss": 1 / 1001, "a_b": 1.0}
    assert len(points(model, run_id)) == 1001


def test_the_run_with_live_metrics_becomes_the_models(model):
    """A run that was begun for live metrics gets the model, its name and its digest; it keeps the curve."""
    files, begun = model.files(0.9), model.begin()
    assert model.upload(files, begun) == begun
    (run,) = model.runs()
    assert (run.info.status, run.data.tags["model_sha256"]) == ("FINISHED", files.digest)
    assert run.info.run_name == f"{model.name}-{files.digest[:8]}"
    assert points(model, begun) == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    assert model.upload(files, begun) == begun  # again, with what it returned


def test_live_metrics_of_a_known_model_are_deleted(model):
    """A stage that made a model again that has a run leaves no second one."""
    files = model.files(0.9)
    first = model.upload(files)
    assert model.upload(files, model.begin()) == first
    assert [run.info.run_id for run in model.runs()] == [first]


def test_a_begun_run_that_somebody_deleted_is_replaced(model):
    """A run with live metrics that is deleted while the stage runs does not keep the model from being published."""
    files, begun = model.files(0.9), model.begin()
    model.client.delete_run(begun)
    assert model.upload(files, begun) != begun


def test_abandoned_runs_are_ended(model, monkeypatch):
    """What a killed run of this clone left running is marked as killed; another clone's, and what ended, is not."""
    versions.end_abandoned(model.settings)  # there is no experiment yet
    mine, ended = model.begin(), model.begin()
    versions.end_run(ended, "FAILED")
    monkeypatch.setenv("CLONE", "another")
    others = model.begin()
    monkeypatch.setenv("CLONE", "0123456789ab")
    versions.end_abandoned(model.settings)
    status = {run.info.run_id: run.info.status for run in model.runs()}
    assert status == {mine: "KILLED", ended: "FAILED", others: "RUNNING"}


def test_an_upload_that_was_killed_is_ended(model, monkeypatch):
    """A run that was to hold a model does not look as if it went on, also if the next model is another one."""
    monkeypatch.setattr(versions, "_send_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.upload(model.files(0.9))
    versions.end_abandoned(model.settings)
    assert [run.info.status for run in model.runs()] == ["KILLED"]


# --- what exists only after the stages


def complete(model, outcome, tags=TAGS, **logged):
    found = Logged(**{"params": {}, "metrics": {}, "steps": [], "artifacts": {}} | logged)
    versions.complete(model.settings, outcome, found, tags)


def test_the_run_gets_what_the_stages_left(model, tmp_path):
    """Parameters, metrics, curves, files and folders are in the run; tags in run and version."""
    outcome = model.publish(0.9)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "roc.png").write_bytes(b"png")
    files = {
        "evaluation/metrics.json": b"{}",
        "pictures": tmp_path / "pictures",
        "a/b/c": tmp_path / "pictures/roc.png",
    }
    steps = [("loss", step, 1.0) for step in range(2500)]
    params = {f"name{number}": str(number) for number in range(250)}
    complete(model, outcome, params=params, metrics={"accuracy": 0.9, "f1": 0.8}, steps=steps, artifacts=files)
    run, version = model.client.get_run(outcome.run_id), model.state().version(1)
    assert run.data.params == params | {"n_estimators": "100", "seed": "0"}
    assert run.data.metrics == {"accuracy": 0.9, "f1": 0.8, "loss": 1.0}
    assert len(points(model, outcome.run_id)) == 2500
    assert {*artifacts(model, outcome.run_id)} >= {"evaluation/metrics.json", "pictures/roc.png", "a/b/c"}
    assert TAGS.items() <= run.data.tags.items()
    assert {name: version.tags[name] for name in ("git_commit", "git_dirty", "dvc_lock_sha256")} == {
        name: TAGS[name] for name in ("git_commit", "git_dirty", "dvc_lock_sha256")
    }


def test_the_receipt_is_the_last_call(model, monkeypatch):
    """The version's tag that says that all is there is the last change of all."""
    outcome, changes, send = model.publish(0.9), [], requests.Session.send

    def seen(session, request, **options):
        changes.append(str(request.body) if request.method != "GET" else "")
        return send(session, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "send", seen)
        model.complete(outcome)
    assert "dvc_lock_sha256" in [change for change in changes if change][-1]


def test_completing_again_adds_nothing(model):
    """What the run has, it is not given again: neither live metrics nor what a killed publication logged."""
    files = model.files(0.9)
    outcome = model.publish_whole(files)
    model.complete(outcome)
    assert points(model, outcome.run_id) == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    assert points(model, outcome.run_id, "accuracy") == [(0, 0.5)]


def test_another_scoring_of_the_same_model_is_shown(model):
    """The last value of a metric that was measured again counts; a parameter that changed is told by a tag."""
    outcome = model.publish(0.9)
    complete(model, outcome, params={"repeats": "10"}, metrics={"accuracy": 0.9}, steps=[("loss", 5, 0.1)])
    complete(model, outcome, params={"repeats": "20"}, metrics={"accuracy": 0.8, "loss": 0.2})
    run = model.client.get_run(outcome.run_id)
    assert run.data.metrics == {"accuracy": 0.8, "loss": 0.2}
    assert run.data.params["repeats"] == "10"
    assert json.loads(run.data.tags["params_changed_since"]) == {"repeats": "20"}
    complete(model, outcome, params={"repeats": "10"}, metrics={"accuracy": 0.8})
    assert model.client.get_run(outcome.run_id).data.tags["params_changed_since"] == "{}"


def test_a_parameter_written_as_python_has_it_has_not_changed(model):
    """Earlier versions of the pipeline logged None and True for what is null and true now."""
    outcome = model.publish(0.9)
    complete(model, outcome, params={"depth": "None", "sure": "True"})
    complete(model, outcome, params={"depth": "null", "sure": "true"})
    assert "params_changed_since" not in model.client.get_run(outcome.run_id).data.tags


def test_names_and_values_that_servers_refuse_are_made_to_fit(model):
    """Long values are cut with an ellipsis, refused characters replaced, and names that become equal stay apart."""
    outcome = model.publish(0.9)
    params = {"long": "x" * 10_000, "p@1": "one", "p:1": "two", "p?1": "three", "": "none"}
    complete(model, outcome, params=params, metrics={"recall@5": 0.5, "../up": 1.0, "nan": float("nan")})
    run = model.client.get_run(outcome.run_id)
    assert run.data.params["long"] == "x" * 499 + "…"
    assert {"p_1", "p_1_2", "p_1_3", "_"} < run.data.params.keys()
    assert {run.data.params[name] for name in ("p_1", "p_1_2", "p_1_3")} == {"one", "two", "three"}
    assert {"recall_5", "_/up", "nan"} == run.data.metrics.keys()
    complete(model, outcome, params=params, metrics={"nan": float("nan")})
    assert len(points(model, outcome.run_id, "nan")) == 1


def test_what_the_stages_left_is_in_the_run_before_there_is_a_version(model):
    """All that a server could refuse, it is given before a version is registered."""
    files = model.files(0.9)
    run_id = model.upload(files)
    model.log(run_id)
    run = model.client.get_run(run_id)
    assert run.data.metrics == {"accuracy": 0.5, "loss": 1 / 3} and run.data.params["preprocess.seed"] == "3"
    assert "pipeline/dvc.lock" in artifacts(model, run_id)
    assert model.client.search_registered_models(f"name='{model.name}'") == []
    outcome = model.register(files, run_id)
    model.complete(outcome, run_id)
    assert model.state().version(1).tags["dvc_lock_sha256"] == "1" * 64


def test_what_was_logged_is_not_sent_again(model, monkeypatch):
    """The receipt of a version whose run has all is three tags; of another machine's run it is preceded by all."""
    files = model.files(0.9)
    run_id = model.upload(files)
    model.log(run_id)
    outcome, sent, log = model.register(files, run_id), [], versions._log
    monkeypatch.setattr(versions, "_log", lambda client, run, *rest: (sent.append(run), log(client, run, *rest)))
    model.complete(outcome, run_id)
    assert sent == []
    model.complete(outcome, "the run of a twin")
    assert sent == [run_id]


def test_a_run_that_another_machine_replaced_gets_nothing(model):
    """A run that was deleted as a twin is logged to by nobody, and that is no failure."""
    run_id = model.upload(model.files(0.9))
    model.client.delete_run(run_id)
    model.log(run_id)
    assert "accuracy" not in model.client.get_run(run_id).data.metrics


@pytest.mark.parametrize("letter", ["n", "\U0001d4b3"])
def test_many_metrics_with_long_names_come_in_several_calls(model, monkeypatch, letter):
    """No call is larger than servers, and the proxies before them, take, however long the names are."""
    outcome, sizes, send = model.publish(0.9), [], requests.Session.send
    monkeypatch.setattr(
        requests.Session, "send", lambda *a, **o: (sizes.append(len(a[1].body or b"")), send(*a, **o))[1]
    )
    names = [f"{number:03}{letter * 247}" for number in range(1000)]
    complete(model, outcome, metrics=dict.fromkeys(names, 0.5))
    assert max(sizes) < 1_000_000
    assert len(model.client.get_run(outcome.run_id).data.metrics) == 1000


ODD_NAMES = ["a#b", "a?b", "50%.bin", "a%41b", "a\\b", "a\u202eb", "a\nb"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("place", ["", "deep"])
def test_a_file_of_a_model_with_a_name_that_servers_change_is_refused(model, tmp_path, name, place):
    """Of a folder with a file whose name would not arrive as it is, nothing is sent, and the sentence has the name."""
    folder = tmp_path / "weights"
    (folder / place).mkdir(parents=True)
    (folder / place / name).write_text("weights")
    with pytest.raises(
        UserError, match=r"^the model has the file .*/weights/.*, a name that no MLflow server takes"
    ) as told:
        versions.upload(model.settings, replace(model.files(0.9).candidate, file=folder))
    assert str(told.value).isprintable()
    assert model.client.get_experiment_by_name(model.name) is None


# --- the folder model/


@pytest.fixture
def loadable(model, tmp_path):
    """Make a candidate with a loader and a signature; its model multiplies by `factor`."""

    def make(factor, loader=LOADER, signature=SIGNATURE, score=0.9, example=None):
        files = model.files(score)
        files.candidate.file.write_text(json.dumps({"factor": factor}))
        (tmp_path / "loader.py").write_text(loader)
        (tmp_path / "signature.json").write_text(signature if isinstance(signature, str) else json.dumps(signature))
        given = {"loader": tmp_path / "loader.py", "signature": tmp_path / "signature.json", "example": example}
        candidate = replace(files.candidate, **given, requirements=["numpy==2.5.5"])
        return files._replace(candidate=candidate)

    return make


def test_mlflow_loads_the_model_by_its_loader(model, loadable):
    """mlflow.pyfunc loads each version by number and alias, with its own loader; the file is the one that was sent."""
    model.publish_files(loadable(2))
    model.publish_files(loadable(3, score=0.95, loader=LOADER.replace("self.factor * x", "self.factor * x + 1")))
    frame = {"x": [1.0, 2.0]}
    first, second = (mlflow.pyfunc.load_model(f"models:/{model.name}/{number}") for number in (1, 2))
    assert (first.predict(frame), second.predict(frame)) == ([2.0, 4.0], [4.0, 7.0])
    assert first.metadata.get_input_schema().input_names() == ["x"]
    assert mlflow.pyfunc.load_model(f"models:/{model.name}@production").predict(frame) == [4.0, 7.0]
    with pytest.raises(MlflowException):
        first.predict({"y": [0.0]})


def test_requirements_are_those_given_and_mlflow(model, loadable, tmp_path):
    """The packages are those of the model's stage, in requirements.txt, conda.yaml and python_env.yaml, and MLflow."""
    run_id = model.publish_files(loadable(2)).run_id
    (loader,) = [path for path in artifacts(model, run_id, "model") if path.startswith("model/code/")]
    assert loader.startswith("model/code/loader_")
    names = ["MLmodel", "conda.yaml", "model.json", "python_env.yaml", "requirements.txt"]
    assert artifacts(model, run_id, "model") == sorted([f"model/{name}" for name in names] + [loader])
    text = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="model/requirements.txt")).read_text()
    assert text.splitlines() == [f"mlflow=={mlflow.__version__}", "numpy==2.5.5"]


@pytest.mark.parametrize(
    "text",
    ["", "hello", "[]", "{}", "null", "5", '{"inputs": 5}', '{"inputs": "[]x"}', '{"inputs": "[{}]"}',
     '{"inputs": "[{\\"type\\": \\"no such\\"}]"}', '{"inputs": "' + "[" * 50_000 + '"}'],
)  # fmt: skip
def test_a_signature_that_is_none_is_one_sentence(model, loadable, text):
    """What a stage wrote instead of a signature is refused, in a sentence with the file, before anything is sent."""
    with pytest.raises(UserError, match=r"signature\.json (is no|has)") as error:
        model.publish_files(loadable(2, signature=text))
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert model.client.get_experiment_by_name(model.name) is None


def test_a_model_may_be_a_folder(model, tmp_path):
    """A folder is sent whole, known by the digest of its contents, and read back before production."""
    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    for number in range(3):
        (folder / "deep" / f"{number}.bin").write_text(str(number))
    candidate = replace(model.files(0.9).candidate, file=folder)
    outcome = versions.register(
        model.settings, candidate, versions.upload(model.settings, candidate), model.files(0.9).measured, model.measure
    )
    assert outcome.stage == "Production"
    assert artifacts(model, outcome.run_id, "model") == [f"model/weights/deep/{number}.bin" for number in range(3)]
    assert model.state().version(1).tags["model_file"] == "model/weights"
    assert model.state().version(1).tags["model_sha256"] == sha256(folder)


def test_a_models_files_are_sent_from_where_they_are(tmp_path, monkeypatch):
    """A model of a gigabyte is not copied before it is sent, neither a file nor a folder of files."""
    file, deep = tmp_path / "m.bin", tmp_path / "weights" / "deep" / "0.bin"
    deep.parent.mkdir(parents=True)
    for path in (file, deep):
        path.write_text(path.name)
    same = []

    def send_folder(run: str, folder: Path) -> None:
        same.append((folder / "model" / "m.bin").samefile(file))
        same.append((folder / "model" / "weights" / "deep" / "0.bin").samefile(deep))

    monkeypatch.setattr(versions, "send_folder", send_folder)
    versions._log_files("run", {"model/m.bin": file, "model/weights": tmp_path / "weights"})
    assert same == [True, True] and file.read_text() == "m.bin" and deep.read_text() == "0.bin"


@pytest.mark.parametrize("name", ["model", "data", "MLmodel", "my model (1)+=@-.bin"])
def test_a_file_may_have_any_name(model, tmp_path, name):
    """Whatever a model's file is called, it is sent, found again and read back."""
    files = model.files(0.9)
    other = files.candidate.file.rename(tmp_path / name)
    assert model.publish_files(files._replace(candidate=replace(files.candidate, file=other))).stage == "Production"


def test_a_file_named_like_mlflows_own_keeps_apart(model, loadable, tmp_path):
    """A model's file with a name that MLflow's folder uses lies where it overwrites nothing."""
    files = loadable(2)
    other = files.candidate.file.rename(tmp_path / "requirements.txt")
    files = files._replace(candidate=replace(files.candidate, file=other))
    run_id = model.publish_files(files).run_id
    assert {"model/data/requirements.txt", "model/requirements.txt"} <= {*artifacts(model, run_id, "model")}
    assert "loader" not in sys.modules


# --- what is not as it should be


def test_a_server_that_is_away_is_one_line(model, monkeypatch):
    """An unreachable server is a RegistryError of one line that names it, whatever is asked of it."""
    outcome, files = model.publish(0.9), model.files(0.95)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for call in (
        lambda: model.begin(),
        lambda: versions.log_live("run", [("loss", 0, 1.0)]),
        lambda: versions.end_run("run", "FAILED"),
        lambda: versions.end_abandoned(model.settings),
        lambda: model.upload(files),
        lambda: model.register(files, outcome.run_id),
        lambda: model.complete(outcome),
    ):
        with pytest.raises(RegistryError, match=r"http://127\.0\.0\.1:9 ") as error:
            call()
        assert "\n" not in str(error.value)


def test_a_deleted_experiment_is_a_sentence_with_the_way_out(model):
    """A deleted experiment keeps its name and takes no runs: the sentence says what brings it back, and that does."""
    experiment = model.client.create_experiment(model.name)
    model.client.delete_experiment(experiment)
    said = rf"^the experiment {model.name} was deleted in MLflow, .* --experiment-id {experiment}', or name another"
    for step in (model.begin, lambda: model.publish(0.9)):
        with pytest.raises(RegistryError, match=said) as told:
            step()
        assert "\n" not in str(told.value) and "did not do what was asked" not in str(told.value)
    model.client.restore_experiment(experiment)
    assert model.publish(0.9).stage == "Production"


def test_a_deleted_experiment_that_the_server_does_not_show_is_the_same_sentence(model, monkeypatch):
    """Some servers show no deleted experiment, and refuse a new one of its name all the same."""
    model.client.delete_experiment(model.client.create_experiment(model.name))
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *_: None)
    with pytest.raises(RegistryError, match=rf"^the experiment {model.name} was deleted in MLflow"):
        model.publish(0.9)


def test_a_version_that_is_deleted_as_it_is_promoted_is_a_sentence(model):
    """Of a version that somebody deletes between `make models` and `make promote`, one sentence says so."""
    model.publish(0.8)
    model.publish(0.9)
    model.delete(1)
    with pytest.raises(UserError, match=rf"^version 1 of {model.name} was deleted meanwhile; expected one of those of"):
        decisions.put(model.client, model.name, "ann", 1, "promote", "")
    model.check_at_rest()


@pytest.mark.parametrize("letter", ["\U0001d4b3", "\udcff"])
def test_a_persons_reason_fits_into_a_record(model, letter):
    """The longest reason that is taken fits into a tag of any server, whatever its letters; a longer one is refused."""
    model.publish(0.8)
    model.publish(0.9)
    with pytest.raises(UserError, match=r"^WHY has 301 characters; expected at most 300: shorten it$"):
        decisions.put(model.client, model.name, "ann", 1, "promote", letter * 301)
    decisions.put(model.client, model.name, "ann", 1, "promote", letter * 300)
    assert len(model.state().version(1).tags["promotion_3"]) <= LONGEST_TAG
    assert model.stages()[1] == "Production"


def test_a_file_here_is_not_the_servers_fault(model):
    """What cannot be read on this machine is said as such: no server is blamed for it."""
    files = model.files(0.9)
    gone = replace(files.candidate, file=files.candidate.file.with_name("gone"))
    gone.__dict__["digest"] = files.digest
    with pytest.raises(RegistryError, match=r"/gone cannot be read or written: No such file or directory$"):
        versions.upload(model.settings, gone)


# --- what people read


def test_people_find_author_source_and_descriptions(model):
    """A run says by whom and from which repository it is; run and model are described, but over nobody's own words."""
    settings = replace(model.settings, repository="https://github.com/me/iris", branch="work")
    files = model.files(0.9)
    run_id = versions.upload(settings, files.candidate)
    outcome = model.register(files, run_id)
    about = cards.About(model.name, "train", "score", "model/model.json", model.gate, "abc123", dirty=False)

    def texts():
        versions.complete(settings, outcome, Logged({}, {}, [], {}), TAGS, run_id, about)
        tags = model.client.get_run(run_id).data.tags
        return tags, tags["mlflow.note.content"], model.client.get_registered_model(model.name).description

    tags, note, card = texts()
    assert (tags["mlflow.user"], tags["mlflow.source.type"]) == ("ann", "PROJECT")
    assert tags["mlflow.source.name"] == "https://github.com/me/iris#stages/train"
    assert tags["mlflow.source.git.branch"] == "work"
    assert "**Decision when it came**: Production: no version was in production" in note and "**Limits**" in card
    about = replace(about, metrics={"accuracy": 0.5})
    tags, note, card = texts()
    assert "| accuracy | 0.5 |" in note and "its accuracy is 0.5" in card
    model.client.set_tag(run_id, "mlflow.note.content", "mine")
    model.client.update_registered_model(model.name, f"{card} And mine.")
    about = replace(about, metrics={"accuracy": 0.7})
    assert texts()[1:] == ("mine", f"{card} And mine.")


def test_a_data_set_is_opened_by_mlflow(model, tmp_path):
    """mlflow.data.get_source opens what a data set's source names, and its columns are there."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,x\n")
    data = datasets.Dataset("x", "data/x.csv", "1" * 32, "training", datasets.look(path), ("local", str(path)))
    run_id = versions.upload(model.settings, replace(model.files(0.9).candidate, data=[data]))
    (entry,) = model.client.get_run(run_id).inputs.dataset_inputs
    assert Path(mlflow.data.get_source(entry).load()).read_text() == "a,b\n1,x\n"
    assert [column["name"] for column in json.loads(entry.dataset.schema)["mlflow_colspec"]] == ["a", "b"]
    assert json.loads(entry.dataset.profile) == {"path": "data/x.csv", "md5": "1" * 32, "num_rows": 1}


def test_a_model_has_an_example_and_its_size(model, loadable):
    """MLflow finds the example row, the model takes it, and the size is that of all its files."""
    outcome = model.publish_files(loadable(3, example={"x": 2.5}))
    loaded = mlflow.pyfunc.load_model(f"models:/{model.name}/{outcome.version}")
    assert loaded.predict(loaded.input_example) == [7.5]
    sizes = [entry.file_size for entry in files_below(model, outcome.run_id, "model") if entry.path != "model/MLmodel"]
    assert loaded.metadata.model_size_bytes == sum(sizes)


def files_below(model, run_id, path):
    """Yield what the server says of each file of a run below a path."""
    for entry in model.client.list_artifacts(run_id, path):
        yield from files_below(model, run_id, entry.path) if entry.is_dir else [entry]
