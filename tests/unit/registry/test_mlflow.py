import errno
import logging
import os
import re
from types import SimpleNamespace

import pytest
import requests
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, NoCredentialsError
from mlflow.exceptions import MlflowException

from scripts.project import UserError
from scripts.registry import mlflow
from scripts.registry.mlflow import RegistryError
from scripts.registry.records import Unclear


@pytest.fixture(autouse=True)
def uri(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MlflowException("API request failed with error code 401 != 200"), "401: it does not accept this user name"),
        (requests.ConnectionError("Connection refused"), "connection refused: is it running?"),
        (ImportError("No module named 'azure'"), "No module named 'azure'"),
        (MlflowException("a page\nof\nwords"), "a page of words"),
        (NoCredentialsError(), "Unable to locate credentials"),
        (
            ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "PutObject"),
            "(403) when calling the PutObject",
        ),
        (S3UploadFailedError("Failed to upload x:\nAccess Denied"), "Failed to upload x: Access Denied"),
        (OSError(errno.EFBIG, "File too large"), "File too large"),
    ],
)
def test_a_fault_of_the_server_is_one_line(error, told):
    """Whatever MLflow's client raises becomes one line that names the server and the reason."""
    with pytest.raises(RegistryError) as raised, mlflow.server_errors():
        raise error
    assert str(raised.value).startswith("the MLflow server http://server:5000 did not do what was asked (")
    assert told in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "models/m"),
            "models/m cannot be read or written: Permission",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "models/m"),
            "models/m cannot be read or written: No such file",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "a file of this clone cannot be read or written: No space left",
        ),
    ],
)
def test_a_fault_of_this_machine_is_not_the_servers(error, told):
    """What a file here, or a disk that is full, is the reason for, no server is blamed for."""
    with pytest.raises(RegistryError, match=f"^{told}") as raised, mlflow.server_errors():
        raise error
    assert "server" not in str(raised.value)


def test_what_only_a_person_can_say_is_a_fault_too():
    """A registry that only a person can set right ends a publication with what is found and what to do."""
    with pytest.raises(RegistryError, match="versions 1 and 2 are both in production"), mlflow.server_errors():
        raise Unclear("versions 1 and 2 are both in production")


@pytest.mark.parametrize(
    "error", [FileNotFoundError("docker"), requests.Timeout("the engine"), UserError("no engine"), KeyboardInterrupt()]
)
def test_other_faults_are_not_the_servers(error):
    """What a function that works without the server raises passes as it is, whatever kind of error it is."""

    def broken(argument, *, option):
        assert (argument, option) == (1, 2)
        raise error

    with pytest.raises(type(error)) as raised, mlflow.server_errors():
        mlflow.not_the_servers(broken)(1, option=2)
    assert raised.value is error


def test_mlflows_log_is_as_loud_after_as_before(monkeypatch):
    """MLflow's own log is silent within, and as loud as it was after a failure."""
    monkeypatch.setattr(logging.getLogger("mlflow"), "level", logging.INFO)
    with pytest.raises(ValueError), mlflow.quiet():
        assert logging.getLogger("mlflow").level == logging.ERROR
        raise ValueError
    assert logging.getLogger("mlflow").level == logging.INFO


@pytest.mark.parametrize("location", ["/srv/mlflow", "file:///srv/mlflow", "file:/srv/mlflow", "C:/srv/mlflow"])
def test_a_server_that_leaves_artifacts_to_us_is_refused(location):
    """A location that is a folder is this container's own, gone with it: that is told, with the option to set."""
    said = r"keeps artifacts at /srv/mlflow, which is a folder of this container; expected .* --serve-artifacts"
    with pytest.raises(RegistryError, match=said):
        mlflow.check_location(location)


@pytest.mark.parametrize(
    "location", ["mlflow-artifacts:/1/a", "mlflow-artifacts://server:5000/1", "s3://bucket/1", "gs://b"]
)
def test_a_server_that_takes_artifacts_is_not_refused(location):
    """Artifacts that the server or an object store takes may be sent."""
    mlflow.check_location(location)


@pytest.mark.parametrize(
    ("location", "told"), [("mlflow-artifacts://elsewhere/1", "which is another server"), ("s3://[", "is no address")]
)
def test_a_server_that_sends_artifacts_elsewhere_is_refused(location, told):
    """A location at another host, which would get the server's user and token, is told by its name."""
    with pytest.raises(RegistryError, match=rf"keeps artifacts at '?{re.escape(location)}'?, .*{told}"):
        mlflow.check_location(location)


def test_versions_come_oldest_first(model):
    """The versions of a model are listed by their number, the lowest first, and those of no model are none."""
    model.client.create_registered_model(model.name)
    for _ in range(11):
        model.client.create_model_version(model.name, "s3://elsewhere/model")
    assert [version.number for version in mlflow.versions(model.name)] == list(range(1, 12))
    assert mlflow.versions("another") == []


@pytest.mark.parametrize("answer", [[], {"model_versions": 5}, {"model_versions": [{"version": "one"}]}])
def test_versions_that_are_none_are_told(model, monkeypatch, answer):
    """A server that lists something else than versions is told by its name."""
    monkeypatch.setattr(mlflow, "_page", lambda query: answer)
    with pytest.raises(RegistryError, match="lists versions that are none"):
        mlflow.versions(model.name)


def test_a_folder_is_sent_whole(model, tmp_path):
    """Each file below a folder becomes an artifact by its path there."""
    paths = ["a.txt", "deep/b.txt", "deep/er/c.txt"]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(path)
    run = model.client.get_run(model.begin())
    mlflow.send_folder(run, tmp_path, "there")
    for path in paths:
        assert mlflow.artifact(run, f"there/{path}", tmp_path / "back").read_text() == path


def test_a_file_that_is_refused_ends_the_sending_of_a_folder(tmp_path, monkeypatch):
    """What the server says of the first file is raised, and no other one is begun but those that were on their way."""
    for number in range(100):
        (tmp_path / f"{number:03}").touch()
    sent = []

    class Full:
        def log_artifact(self, file, place):
            sent.append(file)
            raise MlflowException("the disk is full")

    monkeypatch.setattr(mlflow, "get_artifact_repository", lambda uri: Full())
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri="x"))
    with pytest.raises(MlflowException, match="the disk is full"):
        mlflow.send_folder(run, tmp_path)
    assert len(sent) <= mlflow.SENT_AT_ONCE


def test_whether_a_model_is_a_prompt_is_asked_once(model, monkeypatch):
    """A prompt's name is refused; a model's is asked for once, however often the model is changed."""
    model.publish(0.9)
    model.client.register_prompt("a-prompt", "Say {{ this }}")
    client, asked = mlflow.Client(), []
    get = client.get_registered_model
    monkeypatch.setattr(client, "get_registered_model", lambda name: asked.append(name) or get(name))
    for _ in range(2):
        client.set_model_version_tag(model.name, "1", "a", "b")
        with pytest.raises(MlflowException, match="not found"):
            client.set_registered_model_alias("a-prompt", "a", "1")
    assert asked == [model.name, "a-prompt", "a-prompt"]


def test_an_artifact_that_is_not_there_is_none(model):
    """A file, a folder, and what is neither, each as the server has it; a version of no run has no run."""
    outcome = model.publish(0.9)
    version, run = model.state().version(1), model.client.get_run(outcome.run_id)
    assert mlflow.run_of(model.client, version).info.run_id == outcome.run_id
    assert mlflow.artifact(run, "model/model.json", model.folder).read_text()
    assert mlflow.artifact(run, "model", model.folder).is_dir()
    assert mlflow.artifact(run, "model/none.json", model.folder) is None
    assert mlflow.artifact(run, "none", model.folder) is None
    assert mlflow.run_of(model.client, version._replace(run_id="")) is None
    assert mlflow.run_of(model.client, version._replace(run_id="0" * 32)) is None
    assert os.environ["MLFLOW_TRACKING_URI"] != "http://server:5000"
