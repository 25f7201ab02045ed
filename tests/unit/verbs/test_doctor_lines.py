"""What single checks of `make doctor` say, against real HTTP servers in this process."""

import http.server
import re
import threading
import time
from email.utils import formatdate

import pytest

from scripts.pipeline import images
from scripts.verbs import doctor

HOST = "Invalid Host header - possible DNS rebinding attack detected"
UNKNOWN = '{"error_code": "RESOURCE_DOES_NOT_EXIST"}'


class Server(http.server.BaseHTTPRequestHandler):
    """Answers each path that begins as one of `answers` with its status and body; its clock is `late` seconds late."""

    answers: dict[str, tuple[int, str]]
    late = 0

    def do_GET(self):
        known = [answer for path, answer in self.answers.items() if self.path.startswith(path)]
        status, body = known[0] if known else (404, "<html>not found</html>")
        self.send_response_only(status)
        self.send_header("Date", formatdate(time.time() - self.late, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts a server with the answers it is given; its address."""
    running = []

    def start(answers, late=0):
        handler = type("Handler", (Server,), {"answers": answers, "late": late})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def bad(checks):
    """The lines that are not good, by name."""
    return {check.name: str(check) for check in checks if not check.good}


# --- MLflow

API = "/api/2.0/mlflow"
HEALTHY = {f"{API}/experiments/search": (200, "{}"), f"{API}/registered-models": (404, UNKNOWN)}


def mlflow(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return list(doctor.mlflow())


def test_what_a_server_knows_is_told(serve, monkeypatch):
    """A server that has no such model knows the call; one that has no such address does not."""
    found = {check.name: check.found for check in mlflow(monkeypatch, serve(HEALTHY))}
    assert found["registry"] == "supports stages, aliases"


def test_a_server_without_a_registry_is_bad(serve, monkeypatch):
    """A server that knows neither stages nor aliases cannot say what is in production."""
    only_runs = {f"{API}/experiments/search": (200, "{}")}
    assert "supports none; expected stages or aliases" in bad(mlflow(monkeypatch, serve(only_runs)))["registry"]


@pytest.mark.parametrize("late", [-3600, 3600])
def test_a_wrong_clock_is_bad(serve, monkeypatch, late):
    """Clocks that differ by more than S3 forgives have a bad line that says by how much."""
    line = bad(mlflow(monkeypatch, serve(HEALTHY, late)))["clock"]
    assert (
        3590
        < int(re.fullmatch(r"BAD +clock +(\d+) s apart from 127\.0\.0\.1's; expected under 300 s.*", line)[1])
        < 3610
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, "<html>welcome</html>"), "a page and not with data"),
        ((401, ""), "401: it does not accept this user name and token; expected a user and a token"),
        ((403, ""), "403: this user may not do that there; expected a user and a token"),
        ((403, HOST), "name it in its --allowed-hosts; expected the server at that address"),
        ((404, ""), "may not see it; expected it there, and for this user: correct MLFLOW_TRACKING_URI in .env"),
        ((429, ""), "429: too many requests, try again later; expected an answer"),
        ((500, ""), "500: it has a fault of its own, try again later; expected an answer"),
    ],
)
def test_what_is_wrong_with_mlflow_is_told_apart(serve, monkeypatch, answer, told):
    """Each way in which MLflow can fail has its own words, and what to do about it."""
    assert told in bad(mlflow(monkeypatch, serve({f"{API}/experiments": answer})))["MLflow"]


# --- DagsHub

USER = {"/api/v1/user": (200, '{"login": "ann"}')}


def dagshub(monkeypatch, host):
    monkeypatch.setenv("DAGSHUB_TOKEN", "a-token")
    monkeypatch.setenv("DAGSHUB_USER_NAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{host}/team/iris.mlflow")
    return bad(doctor.dagshub())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, "<html>welcome</html>"), "a page and not with data"),
        ((401, "{}"), "401: it does not accept"),
        ((404, "{}"), "404: there is no such address"),
        ((503, "{}"), "503: it has a fault of its own"),
    ],
)
def test_what_is_wrong_with_dagshub_is_told_apart(serve, monkeypatch, answer, told):
    """A host that is no DagsHub, a token that it refuses and a fault of its own are not taken for each other."""
    found = dagshub(monkeypatch, serve({"/api/v1/user": answer}))
    assert found.keys() == {"DagsHub"} and told in found["DagsHub"] and "a-token" not in found["DagsHub"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((404, "{}"), "404: there is no such address, or this user may not see it"),
        ((500, "{}"), "500: it has a fault of its own"),
        ((200, '{"permissions": {"push": false}}'), "team/iris, which ann may only read"),
    ],
)
def test_what_is_wrong_with_the_repository_is_told_apart(serve, monkeypatch, answer, told):
    """A repository that is missing, one that may only be read and a fault are not taken for each other."""
    found = dagshub(monkeypatch, serve(USER | {"/api/v1/repos/team/iris": answer}))
    assert found.keys() == {"repository"} and told in found["repository"]


# --- this machine


@pytest.fixture
def given(monkeypatch):
    """Sets the limits of all stages, the first one's by name."""
    stages = images.stage_names()

    def give(limit, value):
        for stage in stages:
            for name, usual in {"MEMORY": "2g", "CPUS": "1", "PIDS": "256", "TIMEOUT": "12h"}.items():
                monkeypatch.setenv(f"{stage.upper()}_{name}", usual)
        monkeypatch.setenv(f"{stages[0].upper()}_{limit}", value)
        return [(check.good, str(check)) for check in doctor.limits(4 << 30, 2)]

    return give


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("MEMORY", "2g"),
        ("MEMORY", "512MiB"),
        ("MEMORY", "4294967296"),
        ("CPUS", "0.5"),
        ("PIDS", "1"),
        ("TIMEOUT", "0"),
    ],
)
def test_a_limit_that_docker_takes_has_no_line(given, limit, value):
    """A limit within the machine's means is nothing to speak of."""
    assert given(limit, value) == []


@pytest.mark.parametrize(
    ("limit", "value", "good", "told"),
    [
        ("MEMORY", "2x", False, "MEMORY is 2x; expected one like 2g"),
        ("CPUS", "two", False, "CPUS is two; expected one like 1.5"),
        ("CPUS", "3", False, "CPUS is 3; expected at most 2"),
        ("PIDS", "1.5", False, "PIDS is 1.5; expected one like 256"),
        ("TIMEOUT", "soon", False, "TIMEOUT is soon; expected one like 12h"),
        ("MEMORY", "8g", None, "MEMORY is 8g, more than the machine's 4 GiB"),
    ],
)
def test_a_wrong_limit_is_told(given, limit, value, good, told):
    """A limit that Docker would refuse is bad; one that the machine cannot keep is noted."""
    ((found, line),) = given(limit, value)
    assert found is good and told in line


def test_too_little_room_is_bad(monkeypatch):
    """Where less is free than images need, the lines say how much is, for the clone and for Docker's images."""
    assert all(check.good for check in doctor.disk())
    monkeypatch.setattr(doctor, "FREE_DISK", 1 << 40)
    assert [check.good for check in doctor.disk()] == [False, False]
    assert "Docker's images" in str(list(doctor.disk())[1])
