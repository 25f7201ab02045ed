"""A sweep in MLflow: one run for it and one below for each trial, on a stand-in that keeps what it is told."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests

from scripts.sweeps import study, tracking
from tests.sweeps.test_page import found  # noqa: F401


class Server(BaseHTTPRequestHandler):
    """MLflow's REST API, as far as it is used."""

    runs, experiments, fails = {}, {}, False

    def do_GET(self):
        name = re.search(r"experiment_name=(\w+)", self.path)
        if name and name[1] in self.experiments:
            return self.answer({"experiment": {"experiment_id": self.experiments[name[1]]}})
        if name:
            return self.answer({"error_code": "RESOURCE_DOES_NOT_EXIST"}, 404)
        return self.answer({"experiments": []})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.path.rpartition("2.0/mlflow/")[2]
        if self.fails:
            return self.answer({}, 500)
        if call == "experiments/create":
            self.experiments[body["name"]] = str(len(self.experiments) + 1)
            return self.answer({"experiment_id": self.experiments[body["name"]]})
        if call == "runs/create":
            info = {"run_id": f"r{len(self.runs)}", "status": "RUNNING"}
            self.runs[info["run_id"]] = {"info": info, "data": {"tags": body["tags"], "params": {}, "metrics": {}}}
            return self.answer({"run": self.runs[info["run_id"]]})
        if call == "runs/search":
            wanted = re.fullmatch(r"tags.sweep.id = '(\w+)'", body["filter"])[1]
            has = [r for r in self.runs.values() if {"key": "sweep.id", "value": wanted} in r["data"]["tags"]]
            return self.answer({"runs": has})
        run = self.runs[body["run_id"]]
        if call == "runs/update":
            run["info"]["status"] = body["status"]
        else:
            assert call == "runs/log-batch"
            run["data"]["params"] |= {each["key"]: each["value"] for each in body["params"]}
            run["data"]["metrics"] |= {each["key"]: each["value"] for each in body["metrics"]}
        return self.answer({})

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    kind = type("Fresh", (Server,), {"runs": {}, "experiments": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{serving.server_port}")
        yield kind
        serving.shutdown()
        thread.join()


def tags(run):
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def test_a_trial_is_a_run_below_the_sweeps(server, found):  # noqa: F811
    """The sweep's run has the best score; each trial that was run has its values, its metrics and how it ended."""
    sending = tracking.Sending("e", "abc")
    sending.send(found)
    sending.end(found, well=True)
    parent, *children = server.runs.values()
    assert parent["data"]["metrics"] == {
        "cv_accuracy": 0.875, "best_trial": 2, "trials_ended": 3, "trials_failed": 1
    }  # fmt: skip
    assert [run["info"]["status"] for run in (parent, *children)] == ["FINISHED"] * 3 + ["FAILED"]
    assert {tags(run)["mlflow.parentRunId"] for run in children} == {"r0"} and "mlflow.parentRunId" not in tags(parent)
    assert children[0]["data"]["params"] == {"fit.depth": "2", "fit.rate": "0.001", "split.share": "0.2"}
    assert children[1]["data"]["metrics"] == {"cv_accuracy": 0.875}
    assert tags(children[2])["mlflow.note.content"] == "it <b>broke</b>"


def test_what_is_there_is_not_sent_again(server, found):  # noqa: F811
    """A sweep that goes on adds what is missing: a run that was begun and not finished is begun anew."""
    for _ in range(2):
        tracking.Sending("e", "abc").send(found)
    assert len(server.runs) == 4
    server.runs["r2"]["info"]["status"] = "RUNNING"
    tracking.Sending("e", "abc").send(found)
    assert len(server.runs) == 5 and tags(server.runs["r4"])["sweep.trial"] == "2"


@pytest.mark.parametrize("fails", [False, True])
def test_a_server_that_fails_stops_no_sweep(server, found, project, monkeypatch, fails):  # noqa: F811
    """What could not be sent is a note at the end; and the next call sends it."""
    server.fails = fails
    monkeypatch.setattr(tracking, "LOOKS", 0.01)
    study.save(found, project)
    pipeline = SimpleNamespace(models=[SimpleNamespace(experiment="e")])
    with tracking.Tracker(project, pipeline, found) as tracker:
        pass
    assert found.tracked is not fails
    if fails:
        assert re.search(r"not all of the sweep is in MLflow \(.*500.*\); 'make sweep' adds it", tracker.notes[0])
        with pytest.raises(requests.RequestException):
            tracking.Sending("e", "abc").send(found)


def test_a_pipeline_without_a_model_is_in_no_experiment(found, project):  # noqa: F811
    """Where there is no model there is no experiment, and nothing is asked of a server."""
    with tracking.Tracker(project, SimpleNamespace(models=[]), found) as tracker:
        pass
    assert tracker.notes == []
