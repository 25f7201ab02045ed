import http.server
import socket
import threading

import httpx
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from scripts import faults


@pytest.fixture
def server(request):
    """A real HTTP server that gives `request.param` = (status, body, content length) to every request."""
    status, body, length = request.param

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


CASES = [
    ((401, b"who are you?", None), "401"),
    ((403, b"no", None), "403: this user"),
    ((403, b"Invalid Host header - possible DNS rebinding attack detected", None), "--allowed-hosts"),
    ((404, b"<html>not found</html>", None), "404"),
    ((429, b"", None), "429"),
    ((500, b"", None), "500"),
    ((502, b"<html>bad gateway</html>", None), "502"),
    ((507, b"", None), "no room left"),
    ((200, b"<html><body>welcome</body></html>", None), "page and not with data"),
    ((200, b'{"experi', 100), "broke the connection off"),
]


@pytest.mark.parametrize(("server", "words"), CASES, indirect=["server"])
def test_requests_faults_are_told_apart(server, words):
    """What requests raises for a fault of a server is told in a few words that name the fault."""
    with pytest.raises((requests.RequestException, ValueError)) as error:
        response = requests.get(server, timeout=5)
        response.raise_for_status()
        response.json()
    assert words in faults.reason(error.value)


@pytest.mark.parametrize(("server", "words"), CASES, indirect=["server"])
def test_httpx_faults_are_told_apart(server, words):
    """What httpx, which DagsHub's client uses, raises for a fault of a server is told in the same words."""
    with pytest.raises((httpx.HTTPError, ValueError)) as error:
        response = httpx.get(server, timeout=5)
        response.raise_for_status()
        response.json()
    assert words in faults.reason(error.value)


@pytest.mark.parametrize(("server", "words"), CASES, indirect=["server"])
def test_mlflows_faults_are_told_apart(server, words, monkeypatch):
    """What MLflow's client raises for a fault of a server is told in the same words."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as error:
        MlflowClient(server).search_experiments()
    assert words in faults.reason(error.value)


def test_a_closed_port_is_told():
    """A port on which nothing listens is told as a refused connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(requests.ConnectionError) as error:
        requests.get(f"http://127.0.0.1:{port}", timeout=5)
    assert "connection refused" in faults.reason(error.value)


def test_tls_with_a_plain_server_is_told():
    """https to a server that speaks plain http is told as that, and not as a certificate that is not trusted."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as plain:
        threading.Thread(target=plain.handle_request, daemon=True).start()
        with pytest.raises(requests.ConnectionError) as error:
            requests.get(f"https://127.0.0.1:{plain.server_port}", timeout=5)
    assert "does not speak TLS" in faults.reason(error.value)


def test_a_silent_server_is_told(monkeypatch):
    """A server that takes the connection and never answers is told as one without an answer in time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(requests.Timeout) as error:
            requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
    assert "no answer in time" in faults.reason(error.value)


def test_an_unknown_fault_is_told_as_it_is():
    """A fault that has no words of its own is told in the words that came, on one line."""
    assert faults.reason(ValueError("the moon\nis full")) == "the moon is full"
