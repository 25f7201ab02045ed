"""A sweep on real MLflow servers, an old one and the current: trials are runs below the sweep's, and no version."""

import pytest
from mlflow import MlflowClient

from scripts.sweeps import tracking
from tests.dagshub.conftest import image  # noqa: F401
from tests.promotion.conftest import CURRENT, OLD, server_for  # noqa: F401
from tests.sweeps.test_page import found  # noqa: F401

pytestmark = [pytest.mark.docker, pytest.mark.deep]


@pytest.mark.parametrize("version", [OLD, CURRENT])
def test_trials_are_runs_below_the_sweeps(version, server_for, found, monkeypatch):  # noqa: F811
    """Each server has a run for the sweep and one below it for each trial that was run, also after a second sending."""
    server = server_for(version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        sending = tracking.Sending("sweeps", "abc")
        sending.send(found)
        sending.end(found, well=True)
    client = MlflowClient(server.address)
    (experiment,) = client.search_experiments(filter_string="name = 'sweeps'")
    runs = client.search_runs([experiment.experiment_id], f"tags.sweep.id = '{found.id}'")
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    below = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert (len(runs), len(below)) == (4, 3)
    assert parent.data.metrics["cv_accuracy"] == 0.875 and parent.info.status == "FINISHED"
    assert sorted((run.info.run_name, run.info.status) for run in below) == [
        ("trial 1", "FINISHED"), ("trial 2", "FINISHED"), ("trial 3", "FAILED")
    ]  # fmt: skip
    assert {run.data.params["fit.depth"] for run in below} == {"2", "null", "4"}
    assert not client.search_registered_models(filter_string="name LIKE '%sweep%'")
