"""A stand-in for an MLflow server, for verbs that only read: versions of models, and runs with artifacts."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest


class Registry:
    """What the server has. `folder` holds the artifacts of each run, by its id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: dict[str, list[dict]] = {}
        self.metrics: dict[str, dict[str, float]] = {}
        self.aliases: dict[str, dict[str, int]] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def add(self, model: str, *, stage: str = "Staging", metrics: dict[str, float] | None = None, **tags: str) -> Path:
        """Add a version with a run; return the folder of the run's artifacts."""
        versions = self.versions.setdefault(model, [])
        run = f"{model}-{len(versions) + 1}".replace(" ", "-")
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        number = str(len(versions) + 1)
        versions.append({"name": model, "version": number, "current_stage": stage, "run_id": run, "tags": listed})
        self.metrics[run] = metrics or {}
        (self.folder / run).mkdir(parents=True)
        return self.folder / run

    def answer(self, call: str, query: dict[str, str]) -> dict | None:
        if call == "registered-models/get" and query["name"] in self.versions:
            aliases = self.aliases.get(query["name"], {})
            listed = [{"alias": alias, "version": str(number)} for alias, number in aliases.items()]
            tags = [{"key": key, "value": value} for key, value in self.tags.get(query["name"], {}).items()]
            return {"registered_model": {"name": query["name"], "aliases": listed, "tags": tags}}
        if call == "model-versions/search":
            return {"model_versions": self.versions[query["filter"].split("'")[1]]}
        if call == "runs/get" and query["run_id"] in self.metrics:
            run = query["run_id"]
            info = {"run_id": run, "run_uuid": run, "artifact_uri": (self.folder / run).as_uri(), "status": "FINISHED"}
            listed = [{"key": key, "value": value, "step": 0} for key, value in self.metrics[run].items()]
            return {"run": {"info": info, "data": {"metrics": listed}}}
        return None


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Start a server, in this process; MLFLOW_TRACKING_URI names it."""
    found = Registry(tmp_path / "artifacts")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            answer = found.answer(address.path.removeprefix("/api/2.0/mlflow/"), query)
            body = json.dumps(answer or {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("no_proxy", "*")
        # The artifacts are in a folder here; a server that says so is refused.
        monkeypatch.setattr("scripts.registry.mlflow.check_location", lambda uri: None)
        yield found
        server.shutdown()
