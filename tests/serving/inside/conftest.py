"""A model that doubles x, and takes note of a text; versions of it on disk, and a server of them."""

import hashlib
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from hypothesis import settings
from model_server.following import Serving
from model_server.journal import Journal
from model_server.server import Limits, Server, create

if not os.environ.get("DEEP"):
    settings.register_profile("the same each time", derandomize=True)
    settings.load_profile("the same each time")
SIGNATURE = {
    "inputs": json.dumps(
        [
            {"type": "double", "name": "x"},
            {"type": "long", "name": "n", "required": False},
            {"type": "string", "name": "word"},
        ]
    )
}
ROW = {"x": 1.5, "n": 3, "word": "one"}


class BadInput(Exception):
    """As the stage kit's."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def predict(model: dict[str, Any], features: pd.DataFrame) -> pd.DataFrame:
    """Return x times the model's factor. Some words make it fail, refuse, end the program, or forget a row."""
    words = set(features["word"])
    if "crash" in words or model.get("broken"):
        raise RuntimeError("/opt/secret/path went wrong")
    if "refuse" in words:
        raise BadInput("the word is 'refuse'; expected another one")
    if "exit" in words:
        sys.exit("enough")
    if "forget" in words:
        features = features.iloc[1:]
    return pd.DataFrame({"prediction": features["x"] * model["factor"], "half": features["x"] / 2})


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The predict.py of a scorer."""
    module = types.ModuleType("predict")
    module.load, module.predict = load, predict
    monkeypatch.setitem(sys.modules, "predict", module)
    return module


@pytest.fixture
def version(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Keep a version of the model below `tmp_path`, and return what is known of it."""

    def make(number: int, **model: Any) -> dict[str, Any]:
        text = json.dumps({"factor": 2} | model)
        digest = hashlib.sha256(text.encode()).hexdigest()
        file = tmp_path / "models" / digest / "model.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        about = {"model": "doubling", "version": number, "sha256": digest, "file": f"models/{digest}/model.json"}
        return about | {"signature": SIGNATURE}

    return make


@pytest.fixture
def want(tmp_path: Path) -> Callable[..., None]:
    """Say what is to serve."""

    def write(current: dict[str, Any] | None, shadow: dict[str, Any] | None = None) -> None:
        told = {"current": current, "shadow": shadow, "registry": {"ok": True, "why": "", "answered": 1.0}}
        (tmp_path / "wanted.json").write_text(json.dumps(told))

    return write


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server of what is wanted, with small limits, that notes each request with its values."""
    (tmp_path / "log").mkdir()
    limits = Limits({"SERVE_BODY_BYTES": "20000", "SERVE_SECONDS": "5"})
    return Server(Serving(tmp_path), limits, Journal(tmp_path / "log", 1, values=True))


@pytest.fixture
def client(server: Server, version: Callable[..., dict[str, Any]], want: Callable[..., None]) -> TestClient:
    """A client of a server in which version 1 serves."""
    want(version(1))
    server.serving.look()
    return TestClient(create(server), raise_server_exceptions=False)
