"""Every way in which a server fails is said in its own few words, whichever client met it."""

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
def test_requests_errors_are_distinguished(server, words):
    """An error of requests is reported in a few words that name the cause."""
    with pytest.raises((requests.RequestException, ValueError)) as error:
        response = requests.get(server, timeout=5)
        response.raise_for_status()
        response.json()
    assert words in faults.reason(error.value)


@pytest.mark.parametrize(("server", "words"), CASES, indirect=["server"])
def test_httpx_errors_are_distinguished(server, words):
    """An error of httpx, which DagsHub's client uses, is reported in the same words."""
    with pytest.raises((httpx.HTTPError, ValueError)) as error:
        response = httpx.get(server, timeout=5)
        response.raise_for_status()
        response.json()
    assert words in faults.reason(error.value)


@pytest.mark.parametrize(("server", "words"), CASES, indirect=["server"])
def test_mlflows_errors_are_distinguished(server, words, monkeypatch):
    """An error of MLflow's client is reported in the same words."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as error:
        MlflowClient(server).search_experiments()
    assert words in faults.reason(error.value)


def test_a_closed_port_is_reported():
    """A port on which nothing listens is reported as a refused connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(requests.ConnectionError) as error:
        requests.get(f"http://127.0.0.1:{port}", timeout=5)
    assert "connection refused" in faults.reason(error.value)


def test_tls_with_a_plain_server_is_reported():
    """https to a server that speaks plain http is not reported as a certificate that is not trusted."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as plain:
        threading.Thread(target=plain.handle_request, daemon=True).start()
        with pytest.raises(requests.ConnectionError) as error:
            requests.get(f"https://127.0.0.1:{plain.server_port}", timeout=5)
    assert "does not speak TLS" in faults.reason(error.value)


def test_a_silent_server_is_reported(monkeypatch):
    """A server that takes the connection and never answers is reported as giving no answer in time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(requests.Timeout) as error:
            requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
    assert "no answer in time" in faults.reason(error.value)


def test_an_unknown_error_keeps_its_words():
    """An error that is not in the table is reported in its own words, on one line."""
    assert faults.reason(ValueError("the moon\nis full")) == "the moon is full"
