"""What a server answers: bounded in size, depth and time, whatever it says. The servers are real, on loopback."""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD as ENABLE_DOWNLOAD
from mlflow.environment_variables import MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD as ENABLE_UPLOAD
from mlflow.environment_variables import MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER as RESPECT
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from scripts import bounded, faults, settings
from scripts.project import UserError
from scripts.registry import mlflow, reader
from scripts.registry.mlflow import RegistryError, check_location
from scripts.registry.records import Version

Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Respond], str]]:
    """Starts a server that answers each call as it is told; returns its address, which is that of MLflow."""
    started = []

    def start(respond: Respond) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                try:
                    respond(self)
                except OSError:  # the client has gone
                    self.close_connection = True

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.do_GET()

            do_PUT = do_PATCH = do_DELETE = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        started.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        return address

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def body(content: bytes, **headers: str) -> Respond:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return respond


def endless(piece: bytes, pause: float = 0) -> Respond:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)

    return respond


def endless_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.2)


def dripping_header(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"y")
        time.sleep(0.2)


def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


BOMB = gzip.compress(bytes(200 << 20), 1)
DEEP = b"[" * 200_000 + b"]" * 200_000
MISSHAPEN = {
    "a list": [1],
    "a text": "text",
    "null": None,
    "no model": {},
    "a model that is a list": {"registered_model": []},
    "tags that are a text": {"registered_model": {"tags": "abc"}},
    "tags of numbers": {"registered_model": {"tags": [1, 2]}},
    "aliases that are none": {"registered_model": {"aliases": [{"alias": "x"}]}},
    "an alias of a text": {"registered_model": {"aliases": [{"alias": "x", "version": "abc"}]}},
    "versions that are a number": {"registered_model": {}, "model_versions": 5},
    "versions without a number": {"registered_model": {}, "model_versions": [{"current_stage": "None"}]},
    "a version of a text": {"registered_model": {}, "model_versions": [{"version": "x", "current_stage": "None"}]},
    "a version of a list": {"registered_model": {}, "model_versions": [{"version": [], "current_stage": "None"}]},
    "versions without an end": {
        "registered_model": {},
        "model_versions": [{"version": "1", "current_stage": "None"}],
        "next_page_token": "x",
    },
}
ANSWERS: dict[str, Respond] = {
    "more than is taken": body(bytes(70 << 20)),
    "a bomb": body(BOMB, Content_Encoding="gzip"),
    "a bomb in a bomb": body(gzip.compress(BOMB), Content_Encoding="gzip, gzip"),
    "zeros without end": endless(bytes(1 << 16)),
    "what is not packed": body(b"not packed", Content_Encoding="gzip"),
    "less than it says": body(b"{}", Content_Length="100"),
    "deep JSON": body(DEEP),
    "a page": body(b"<html>hello</html>"),
    "nothing": body(b""),
    "what is no text": body(b"\xff\xfe\x00"),
    "a number too long": body(b'{"registered_model": ' + b"9" * 100_000 + b"}"),
    "itself again and again": elsewhere,
} | {name: body(json.dumps(value).encode()) for name, value in MISSHAPEN.items()}


@pytest.mark.parametrize("respond", ANSWERS.values(), ids=list(ANSWERS))
def test_a_registry_answers(serve: Callable[[Respond], str], monkeypatch: pytest.MonkeyPatch, respond: Respond) -> None:
    """Whatever it answers, reading ends with one of two exceptions, which become a sentence."""
    monkeypatch.setattr(bounded, "PAGES", 20)
    serve(respond)
    with pytest.raises((requests.RequestException, ValueError)):
        reader.read("iris")
    with pytest.raises((requests.RequestException, ValueError)):
        reader.has_run(Version(1, "None", "run", {}))


SLOW = {
    "a byte now and then": endless(b"x", 0.2),
    "headers without end": endless_headers,
    "a header without an end": dripping_header,
}


@pytest.mark.parametrize("respond", SLOW.values(), ids=list(SLOW))
def test_a_registry_does_not_end(
    serve: Callable[[Respond], str], monkeypatch: pytest.MonkeyPatch, respond: Respond
) -> None:
    """A server that always has a little more to say is left after a while."""
    monkeypatch.setattr(bounded, "LONGEST", 2)
    with pytest.raises(requests.RequestException, match=r"timed out|more than|headers"):
        bounded.get(serve(respond), timeout=1)


def busy(status: int, after: str) -> Respond:
    """Answer that this server is busy, and when to come back."""

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Retry-After", after)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return respond


def _repository() -> ArtifactRepository:
    return get_artifact_repository("mlflow-artifacts:/1/a/artifacts")


CALLS: dict[str, Callable[[str], object]] = {
    "read": lambda address: MlflowClient().get_run("a"),
    "write": lambda address: MlflowClient().log_metric("a", "loss", 0.5),
    "upload": lambda address: _repository().log_artifact(__file__),
    "download": lambda address: _repository()._download_file("x", "/dev/null"),
    "look up": lambda address: reader.look_up("iris"),
    "fetch": lambda address: bounded.get(address, timeout=5).raise_for_status(),
}
AFTER = {
    "a day": "86400",
    "a year's end": "Fri, 31 Dec 2027 23:59:59 GMT",
    "long ago": "Fri, 31 Dec 1999 23:59:59 GMT",
    "negative": "-5",
    "no number": "soon",
    "a float": "1e9",
    "nothing": "",
}


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_a_server_says_when_to_come_back(
    serve: Callable[[Respond], str], monkeypatch: pytest.MonkeyPatch, status: int, call: Callable[[str], object]
) -> None:
    """Whatever it says of when to come back, it is asked a few times within seconds, and then its status is told."""
    for name, value in (settings.PATIENCE | {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    for after in AFTER.values():
        asked: list[str] = []
        answer = busy(status, after)

        def count(handler: http.server.BaseHTTPRequestHandler, answer: Respond = answer, asked: list = asked) -> None:
            asked.append(handler.path)
            answer(handler)

        began = time.monotonic()
        with pytest.raises((RegistryError, requests.RequestException, UserError)) as told, mlflow.server_errors():
            call(serve(count))
        words = told.value if not isinstance(told.value, requests.RequestException) else faults.reason(told.value)
        assert f"{status}: " in str(words), after
        assert time.monotonic() - began < 10 and 1 <= len(asked) <= 3, after


def test_a_bucket_that_says_when_to_come_back_is_not_asked() -> None:
    """Large files go through the server, too: what it hands on to a bucket would wait as long as that bucket says."""
    given = {name for name, value in settings.PATIENCE.items() if value == "false"}
    assert {ENABLE_UPLOAD.name, ENABLE_DOWNLOAD.name, RESPECT.name} <= given


def test_a_password_stays_with_its_server(serve: Callable[[Respond], str]) -> None:
    """A redirect to another host gets no user and no password."""
    seen = []

    def look(handler: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Authorization"))
        body(b"{}")(handler)

    other = serve(look).replace("127.0.0.1", "localhost")

    def send(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", other)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    bounded.get(serve(send), auth=("me", "sekrit"), timeout=5)
    assert seen == [None]


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts://other:8000",
        "mlflow-artifacts://other:8000/1/x/artifacts",
        "mlflow-artifacts://mlflow.other/1",
        "mlflow-artifacts://mlflow@other/1",
        "mlflow-artifacts://mlflow:5001/1",
        "http://mlflow/api/2.0/mlflow-artifacts/artifacts/1",
        "mlflow-artifacts://other:8000@evil/1",
        "http://other/api/2.0/mlflow-artifacts/artifacts/1",
        "https://mlflow.evil/1",
        "file:///etc",
        "/etc/passwd",
        "../../etc",
        "C:\\Windows",
        "",
        "http://[",
        "ftp://other/x",
        "sftp://other/x",
        "runs:/abc/model",
        "models:/other/1",
        "dbfs:/x",
        "hdfs://other/x",
    ],
)
def test_artifacts_that_are_kept_elsewhere(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """Only the tracking server itself, and buckets, which have credentials of their own, are sent anything."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    with pytest.raises(RegistryError, match="the MLflow server http://mlflow:5000 keeps artifacts at"):
        check_location(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts:/1/x/artifacts",
        "mlflow-artifacts://mlflow:5000/1",
        "mlflow-artifacts://mlflow/1",
        "http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1",
        "s3://bucket/1",
        "gs://bucket/1",
    ],
)
def test_artifacts_that_are_kept_there(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """The server in use, and buckets, are where artifacts may be."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    check_location(uri)
