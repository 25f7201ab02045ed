"""The local MLflow server's password: what gets through to the app behind it, and what is answered instead."""

import importlib.util
from base64 import b64encode

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from scripts.project import ROOT

RIGHT = "right"


def load():
    """Return the module, which lies outside of any package: it runs in the server's container."""
    spec = importlib.util.spec_from_file_location("password", ROOT / "scripts" / "mlflow_app" / "password.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


password = load()


@pytest.fixture
def client():
    """A browser before the password, with an app behind it."""

    async def here(request):
        return PlainTextResponse(f"here {request.url.path}")

    async def talk(socket):
        await socket.accept()
        await socket.close()

    routes = [Route("/{path:path}", here, methods=["GET", "POST"]), WebSocketRoute("/socket", talk)]
    return TestClient(password.Guard(Starlette(routes=routes), RIGHT, "mlflow-0123"))


def basic(text):
    return {"Authorization": f"Basic {b64encode(text).decode()}"}


def test_a_page_that_asks_who_is_there_is_told_nobody(client):
    """MLflow's pages ask for the user, of which only its `basic-auth` tells: the answer is that there is none."""
    asked = client.get("/ajax-api/2.0/mlflow/users/current", headers=basic(b"me:right"))
    assert (asked.status_code, asked.json()) == (200, {"user": None, "is_basic_auth": False})
    assert client.get("/ajax-api/2.0/mlflow/users/current").status_code == 401


@pytest.mark.parametrize("user", [b"me", b"", b"a b"])
def test_the_password_lets_in(client, user):
    """Basic authentication with the right password, and any user name, gets through."""
    assert client.get("/api/x", headers=basic(user + b":right")).text == "here /api/x"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(b"me:wrong"),
        basic(b"me:"),
        basic(b"right"),
        basic(b"right:"),
        basic(b"me:right "),
        basic(b"me:right:right"),
        basic(b"\xff:\xff"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer right"},
        {"Authorization": "right"},
        {"Cookie": "mlflow-0123=wrong"},
        {"Cookie": "mlflow-4567=right"},
        {"Cookie": "mlflow-0123="},
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/api/x", "/?password=wrong", "/?password="])
def test_nothing_else_lets_in(client, headers, path):
    """Any other answer is 401: for a program with a sentence, for a browser with a page that has a form."""
    asked = client.get(path, headers=headers)
    assert (asked.status_code, asked.headers["WWW-Authenticate"]) == (401, 'Basic realm="MLflow"')
    assert "'make ui' in its clone prints it" in asked.text
    shown = client.get(path, headers=headers | {"Accept": "text/html"})
    assert shown.status_code == 401 and '<input type="password"' in shown.text
    assert client.post(path, headers=headers).status_code == 401


def test_the_link_logs_a_browser_in(client):
    """The link of `make ui` leaves a cookie that no script can read, and leads to an address without the password."""
    answer = client.get("/?password=right", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "mlflow-0123=right" in cookie and "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert client.get("/api/x").text == "here /api/x"


def test_a_browser_shows_what_it_was_led_to(client):
    """It gets the cookie with a page that leads on without the password, and keeps MLflow's assistant closed."""
    answer = client.get("/?password=right", headers={"Accept": "text/html,*/*"})
    assert (
        answer.status_code == 200 and "right" not in answer.text and "mlflow-0123=right" in answer.headers["Set-Cookie"]
    )
    assert "location.replace(location.pathname + location.hash)" in answer.text and "assistant" in answer.text
    assert client.get("/api/x").text == "here /api/x"


def test_a_socket_needs_the_password_too(client):
    """A web socket without it is closed before it is accepted."""
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket"):
        pass
    with client.websocket_connect("/socket", headers=basic(b"me:right")):
        pass


def test_an_empty_password_is_none(monkeypatch):
    """A server that was started by something else than make does not start without a password."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    with pytest.raises(SystemExit, match="expected the server's password: start it with make"):
        password.create_app()
