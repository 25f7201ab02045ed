"""MLflow's server behind one password: the app that docker-compose.yml starts, in the server's container.

It is a plugin of MLflow's (`mlflow server --app-name`). MLflow's own `basic-auth` keeps users and their rights in a
second database, and spends a tenth of a second on the password at each call; the server of a clone has one user.
"""

import hmac
import os
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.websockets import WebSocketClose

QUERY = "password"
"""What a link that logs in ends with: `/?password=...`. The browser gets a cookie for it."""
PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>MLflow: password</title>
<body style="font-family: sans-serif; margin: 15vh auto; max-width: 34em; line-height: 1.5">
<h1 style="font-size: 1.4em">This MLflow server has a password</h1>
<p>In the clone that it belongs to, <code>make ui</code> prints a link that logs in, and the password:</p>
<form><input type="password" name="password" autofocus aria-label="password"> <button>Log in</button></form>
"""
LOGGED_IN = """\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>MLflow</title>
<script>
// In each browser MLflow once opens its assistant, which takes a third of the page and answers only who calls from
// within the server's container. Its button stays.
try { localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"); } catch {}
location.replace(location.pathname + location.hash);
</script>
"""
WHO = "/ajax-api/2.0/mlflow/users/current"
"""What each page of MLflow asks first, of `basic-auth`. Without an answer the browser's console tells of an error."""
NO_USERS = {"user": None, "is_basic_auth": False}
SENTENCE = "this MLflow server has a password; expected it by basic authentication: 'make ui' in its clone prints it\n"

Message = MutableMapping[str, Any]
Receive, Send = Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI app that lets only those through to `app` who know the password: by basic authentication or by cookie.

    Any user name will do. Cookies are shared by all ports of a host, so the cookie's name is the clone's own.
    """

    def __init__(self, app: App, password: str, cookie: str) -> None:
        self.app, self.password, self.cookie = app, password, cookie

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_known(HTTPConnection(scope)):
            app = JSONResponse(NO_USERS) if scope.get("path") == WHO else self.app
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await self._answer(Request(scope))(scope, receive, send)

    def _is_known(self, who: HTTPConnection) -> bool:
        return self._is_right(who.cookies.get(self.cookie)) or self._is_right(_basic(who.headers.get("Authorization")))

    def _is_right(self, password: str | None) -> bool:
        return password is not None and hmac.compare_digest(password.encode(), self.password.encode())

    def _answer(self, request: Request) -> Response:
        if request.method == "GET" and self._is_right(request.query_params.get(QUERY)):
            response: Response = RedirectResponse(request.url.path, HTTPStatus.SEE_OTHER)
            if _is_browser(request):
                response = HTMLResponse(LOGGED_IN, headers={"Cache-Control": "no-store"})
            response.set_cookie(self.cookie, self.password, httponly=True, samesite="lax", max_age=90 * 24 * 3600)
            return response
        if _is_browser(request):
            return HTMLResponse(PAGE, HTTPStatus.UNAUTHORIZED)
        asked = {"WWW-Authenticate": 'Basic realm="MLflow"'}
        return PlainTextResponse(SENTENCE, HTTPStatus.UNAUTHORIZED, headers=asked)


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _basic(header: str | None) -> str | None:
    """Return the password of an `Authorization: Basic` header; None if there is none."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def create_app() -> Guard:
    """Return MLflow's app behind the password; called once in each worker of the server."""
    password = os.environ["MLFLOW_TRACKING_PASSWORD"]
    if not password:
        sys.exit("MLFLOW_TRACKING_PASSWORD is empty; expected the server's password: start it with make")
    from mlflow.server.fastapi_app import app

    return Guard(app, password, f"mlflow-{os.environ['CLONE']}")
