"""The server: MLflow's routes for the version that is in production. `python -m model_server`

It reads what serves from a folder (see following.py). Its port is the door's (see door.py) or, in an image of its own,
one of its container. There is no MLflow in it, and it has no credentials.
"""

import asyncio
import gc
import importlib
import importlib.util
import json
import logging
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from . import door, rows
from .following import SAMPLE, Serving
from .journal import Journal
from .line import Full, Line
from .metrics import Metrics
from .model import Model, Unusable, read_sample, sentence
from .openapi import describe

JSON, CSV = "application/json", "text/csv"
SMALL = 1 << 16  # bytes of a body that is read between two others; a larger one is read in a thread
ASSETS = Path(importlib.util.find_spec("fastapi_offline").origin).parent / "static"  # found, not imported
log = logging.getLogger("serving")


class Refused(Exception):
    """An answer other than 200: its status, MLflow's word for that, and one sentence."""

    def __init__(self, status: int, word: str, text: str) -> None:
        super().__init__(text)
        self.status, self.word = status, word


class Limits:
    """Of a request: `body` in bytes, `seconds` until it is answered."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.body = int(environ.get("SERVE_BODY_BYTES") or 8 << 20)
        self.seconds = float(environ.get("SERVE_SECONDS") or 10)


class Server:
    """The routes, what serves, and the line of requests."""

    def __init__(self, serving: Serving, limits: Limits, journal: Journal) -> None:
        self.serving, self.limits, self.journal = serving, limits, journal
        self.metrics = Metrics(serving)
        self.line = Line(lambda: self._shadow if serving.shadow else None)

    def model(self) -> Model:
        """Return the model that serves at this moment. Raise Refused if there is none."""
        if self.serving.current is None:
            why = self.serving.refused.get("current", "none has been loaded yet")
            raise Refused(503, "TEMPORARILY_UNAVAILABLE", f"no version serves ({why}); expected one: try again soon")
        return self.serving.current

    async def invocations(self, request: Request) -> Response:
        began, model, features, found, status = time.perf_counter(), None, None, None, 200
        try:
            async with asyncio.timeout(self.limits.seconds):
                model = self.model()
                features = await self._features(request, model)
                found = await self.line.predict(model, features)
            answer = Response(_predictions(found, everything="all" in request.query_params), media_type=JSON)
            self.metrics.rows.labels(model.version).inc(len(features))
        except TimeoutError:
            answer = _answer(
                Refused(504, "DEADLINE_EXCEEDED", f"no answer within {self.limits.seconds:g} s; expected fewer rows")
            )
        except Full:
            answer = _answer(Refused(503, "RESOURCE_EXHAUSTED", "too many rows wait already; expected patience"))
            answer.headers["Retry-After"] = "1"
        except rows.BadRows as error:
            answer = _answer(Refused(400, "BAD_REQUEST", str(error)))
        except Refused as error:
            answer = _answer(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:  # of the model: its rows are as the signature says
            log.exception("the model failed")
            why = str(error) if isinstance(error, Unusable) else type(error).__name__
            answer = _answer(Refused(500, "INTERNAL_ERROR", f"the model failed on these rows ({why})"))
        status = answer.status_code
        if model:
            answer.headers["X-Model-Version"] = str(model.version)
            answer.headers["X-Model-Sha256"] = model.sha256
        seconds = time.perf_counter() - began
        version = model.version if model else 0
        self.metrics.requests.labels(status, version).inc()
        self.metrics.seconds.observe(seconds)
        self.journal.note(features, found, status=status, version=version, seconds=round(seconds, 6))
        return answer

    async def _features(self, request: Request, model: Model) -> pd.DataFrame:
        kind, _, parameters = request.headers.get("content-type", "").partition(";")
        kind = kind.strip().lower()
        if kind not in (JSON, CSV):
            text = f"the content type is {rows.shown(kind)}; expected {JSON} or {CSV}"
            raise Refused(415, "UNSUPPORTED_MEDIA_TYPE", text)
        charset = parameters.lower().partition("charset=")[2].strip(' "') or "utf-8"
        if charset not in ("utf-8", "utf8", "us-ascii"):
            raise Refused(415, "UNSUPPORTED_MEDIA_TYPE", f"the charset is {rows.shown(charset)}; expected utf-8")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "UNSUPPORTED_MEDIA_TYPE", "the body is packed; expected it as it is")
        body = await self._body(request)
        read = partial(rows.from_json if kind == JSON else rows.from_csv, body, model.columns)
        features = read() if len(body) <= SMALL else await asyncio.to_thread(read)
        if not len(features):
            raise rows.BadRows("there are no rows; expected at least one")
        return features

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self.limits.body:
                text = f"the body has more than {self.limits.body} bytes; expected less: send fewer rows at once"
                raise Refused(413, "REQUEST_TOO_LARGE", text)
        return bytes(body)

    def _shadow(self, model: Model, features: pd.DataFrame, answer: pd.DataFrame) -> None:
        """Predict the same with the version in the shadow, and note how often it says something else."""
        shadow = self.serving.shadow
        if shadow is None or shadow.sha256 == model.sha256:
            return
        try:
            if shadow.columns is not None:
                features = features[[column.name for column in shadow.columns]]
            found = shadow.predict(features)
            differ = sum(map(_differ, answer.iloc[:, 0].tolist(), found.iloc[:, 0].tolist()))
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            self.metrics.failed.labels(shadow.version).inc()
            self.journal.note(features, shadow=shadow.version, failed=sentence(error))
            return
        self.journal.note(features, found, version=model.version, shadow=shadow.version, differ=differ)
        self.metrics.shadow_rows.labels(shadow.version).inc(len(features))
        self.metrics.differ.labels(shadow.version).inc(differ)

    # --- what else can be asked

    async def ping(self, _: Request) -> Response:
        return Response(json.dumps({"status": "serving", "version": self.model().version}) + "\n", media_type=JSON)

    async def version(self, _: Request) -> Response:
        serving, now = self.serving, self.serving.current
        told = {
            "model": now.name if now else None,
            "version": now.version if now else None,
            "sha256": now.sha256 if now else None,
            "since": serving.since or None,
            "shadow": serving.shadow.version if serving.shadow else None,
            "refused": serving.refused,
            "registry": serving.registry,
        }
        return JSONResponse(told)

    async def prometheus(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def docs(self, _: Request) -> Response:
        return await asyncio.to_thread(_page, self.serving.current.name if self.serving.current else "no model yet")

    async def openapi(self, _: Request) -> Response:
        now = self.serving.current
        example = now.features(read_sample(self.serving.folder / SAMPLE)) if now else None
        return JSONResponse(describe(now, example, self.limits.body))


def _page(title: str) -> Response:
    """Return FastAPI's page of an OpenAPI document. Its import takes as long as a quarter of the server's start."""
    from fastapi.openapi.docs import get_swagger_ui_html

    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url="static/swagger-ui-bundle.js",
        swagger_css_url="static/swagger-ui.css",
        swagger_favicon_url="static/favicon.png",
    )


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return not (math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (one != one and other != other))
    return one != other


def _predictions(found: pd.DataFrame, *, everything: bool) -> bytes:
    """Return MLflow's form of the answer: the first column, or with `everything` an object a row."""
    listed = found.to_dict("records") if everything else found.iloc[:, 0].tolist()
    try:
        text = json.dumps({"predictions": listed}, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps({"predictions": _finite(listed)}, default=str)
    return text.encode()


def _finite(value: Any) -> Any:
    """Return a value with null for each number in it that JSON has not."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _answer(refused: Refused) -> JSONResponse:
    return JSONResponse({"error_code": refused.word, "message": str(refused)}, refused.status)


async def _refused(_: Request, error: Exception) -> Response:
    return _answer(error)


async def _no_route(request: Request, error: Exception) -> Response:
    known = "POST /invocations, GET /ping /health /version /metrics /docs"
    what = "such address" if error.status_code == 404 else f"{request.method} here"
    answer = _answer(Refused(error.status_code, "NOT_FOUND", f"there is no {what}; expected {known}"))
    answer.headers.update(error.headers or {})
    return answer


def create(server: Server) -> Starlette:
    """Return the application with all routes."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(server.serving.follow())
        yield
        following.cancel()

    looks: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/ping": server.ping, "/health": server.ping, "/version": server.version, "/metrics": server.prometheus,
        "/openapi.json": server.openapi, "/docs": server.docs, "/": server.docs,
    }  # fmt: skip
    routes = [
        Route("/invocations", server.invocations, methods=["POST"]),
        *(Route(path, function, methods=["GET"]) for path, function in looks.items()),
        Mount("/static", StaticFiles(directory=ASSETS)),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: _refused, HTTPException: _no_route}, lifespan=lifespan)


def check_program() -> None:
    """End if the scorer's predict.py, or a library of its, cannot be imported: a second try in one process is none."""
    try:
        importlib.import_module("predict")
    except Exception as error:
        log.exception("predict.py cannot be imported")
        sys.exit(
            f"predict.py cannot be imported ({type(error).__name__}: {sentence(error)}); expected it to be: mend it"
        )


def main(environ: dict[str, str]) -> None:
    logging.basicConfig(format="%(asctime)s serving: %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    check_program()
    gc.freeze()  # what is imported stays
    gc.enable()
    serving = Serving(Path(environ.get("SERVE_STATE", "/state")))
    share = float(environ.get("SERVE_LOG") or 0)
    journal = Journal(Path("/log"), share, values=environ.get("LOG_INPUTS") == "1")
    serving.look()
    app = create(Server(serving, Limits(environ), journal))
    options = {"http": "httptools", "log_level": "warning", "access_log": False, "server_header": False}
    times = {"timeout_keep_alive": 65, "timeout_graceful_shutdown": 5}  # seconds
    config = uvicorn.Config(app, host="0.0.0.0", port=door.PORT, **options, **times)
    uvicorn.Server(config).run([door.get()] if environ.get("SERVE_DOOR") else None)
