"""When the database of the local MLflow server is looked at, told without the engine, which is stood in for."""

import subprocess

import pytest

from scripts import mlflow_database, mlflow_server
from scripts.project import UserError


@pytest.mark.parametrize("up", [True, False], ids=["it comes up", "it is down"])
def test_a_server_that_comes_up_is_left_to_write(monkeypatch, tmp_path, up):
    """The files of a server that runs and does not answer yet are changing and no sign of damage; of none they are."""
    started = []

    def damaged():
        raise UserError("its journal is cut off")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("CLONE", "0123")
    monkeypatch.setattr(mlflow_server, "LOCAL", tmp_path)
    monkeypatch.setattr(mlflow_server, "docker", lambda *arguments: "0123456789ab" if up else "")
    monkeypatch.setattr(mlflow_database, "check", damaged)
    monkeypatch.setattr(
        mlflow_server.subprocess,
        "run",
        lambda command, **options: started.append(command) or subprocess.CompletedProcess(command, 0),
    )
    if up:
        assert mlflow_server.start()
    else:
        with pytest.raises(UserError, match="cut off"):
            mlflow_server.start()
    assert bool(started) == up
