"""What `make doctor` says of an MLflow server."""

import json
import re

import pytest

from scripts.checks.mlflow import artifacts, mlflow
from scripts.project import Project

API = "/api/2.0/mlflow"
HOST = "Invalid Host header - possible DNS rebinding attack detected"
UNKNOWN = '{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
OLD = "mlflow-artifacts:/1"


def newest(location):
    """The answer of a server whose newest experiment keeps its artifacts there."""
    return {f"{API}/experiments/search": (200, json.dumps({"experiments": [{"artifact_location": location}]}))}


HEALTHY = newest(OLD) | {f"{API}/registered-models": (404, UNKNOWN)}


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """The lines about the server at an address, for a project without a pipeline."""

    def call(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return list(mlflow(Project(tmp_path)))

    return call


@pytest.fixture
def bad(lines):
    """Those lines that are not good, by name."""
    return lambda uri: {check.name: str(check) for check in lines(uri) if not check.good}


def test_what_a_server_knows_is_reported(serve, lines):
    """A server without such a model knows the call; a server without such an address does not."""
    found = {check.name: check.found for check in lines(serve(HEALTHY))}
    assert found["registry"] == "supports stages, aliases"


def test_a_server_without_a_registry_is_bad(serve, bad):
    """A server that knows neither stages nor aliases cannot say what is in production."""
    assert "supports none; expected stages or aliases" in bad(serve(newest(OLD)))["registry"]


@pytest.mark.parametrize("late", [-3600, 3600])
def test_a_wrong_clock_is_bad(serve, bad, late):
    """Clocks that differ by more than S3 allows have a bad line that says by how much."""
    found = re.fullmatch(
        r"BAD +clock +(\d+) s apart from 127\.0\.0\.1's; expected under 300 s.*", bad(serve(HEALTHY, late))["clock"]
    )
    assert 3590 < int(found[1]) < 3610


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, "<html>welcome</html>"), "a page and not with data"),
        ((200, "[]"), "something else than an MLflow server"),
        ((401, ""), "401: it does not accept this user name and token; expected a user and a token"),
        ((403, ""), "403: this user may not do that there; expected a user and a token"),
        ((403, HOST), "name it in its --allowed-hosts; expected the server at that address"),
        ((404, ""), "may not see it; expected it there, and for this user: correct MLFLOW_TRACKING_URI in .env"),
        ((429, ""), "429: too many requests, try again later; expected an answer"),
        ((500, ""), "500: the server failed, try again later; expected an answer"),
    ],
)
def test_each_failure_has_its_own_words(serve, bad, answer, words):
    """Each way in which MLflow can fail is said in words of its own, with what to do about it."""
    assert words in bad(serve({f"{API}/experiments": answer}))["MLflow"]


@pytest.mark.parametrize("location", ["/srv/mlruns/1", "./mlruns/1", "file:///srv/mlruns/1", "C:\\mlruns\\1"])
def test_artifacts_in_a_folder_are_bad(serve, bad, location):
    """A server that hands out a plain path lets each client write to its own disk: it says how to start it instead."""
    line = bad(serve(HEALTHY | newest(location)))["artifacts"]
    assert location in line and "--artifacts-destination" in line


@pytest.mark.parametrize("location", [OLD, "s3://bucket/1", "mlflow-artifacts://127.0.0.1/1", "wasbs://a@b.net/1"])
def test_artifacts_on_the_server_or_in_a_bucket_are_good(serve, bad, location):
    """What the server or a bucket keeps can be read again by anyone."""
    assert bad(serve(HEALTHY | newest(location))) == {}


def test_artifacts_on_another_server_are_bad(serve, bad):
    """An artifact location with another host would be sent the tracking server's user and token."""
    assert "other.test would get" in bad(serve(HEALTHY | newest("mlflow-artifacts://other.test/1")))["artifacts"]


def test_a_server_cannot_write_to_the_terminal():
    """Control characters in what a server answers are not printed."""
    (line,) = artifacts([{"artifact_location": "s3://\x1b[2Jbucket"}], "http://mlflow.test")
    assert str(line).isprintable()
