"""The process beside a run notes when its containers start and end, and what they use."""

import json
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.project import ROOT
from scripts.report import watch

ONE = "a1" * 32
LABELS = {"pipeline.stage": "fit"}


class Engine(socketserver.ThreadingUnixStreamServer):
    """Docker's socket: one container starts; it ends when `end` is set."""

    daemon_threads = True

    def __init__(self, path):
        self.asked, self.end, self.stats = [], threading.Event(), {"usage": 500, "stats": {"inactive_file": 100}}
        super().__init__(path, Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/events"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.event("start", 1)
            self.server.end.wait(20)
            self.event("die", 2)
            self.wfile.write(b"0\r\n\r\n")
            return
        found = {"memory_stats": self.server.stats, "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}}}
        self.answer(json.dumps(found).encode())

    def event(self, action, seconds):
        actor = {"ID": ONE, "Attributes": LABELS}
        line = json.dumps({"Action": action, "Actor": actor, "timeNano": seconds * 10**9}).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "here"

    def log_message(self, *_):
        pass


@pytest.fixture
def engine(tmp_path):
    with Engine(str(tmp_path / "socket")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.end.set()
        server.shutdown()


def noted(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def until(seen, seconds=10):
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_container_from_its_start_to_its_end(engine, tmp_path):
    """It is noted by its stage with the engine's own times; between the two, what it uses, as Docker counts it."""
    file = tmp_path / "events"
    watched = watch.Watch("c10e", str(file), engine.server_address)
    follower = threading.Thread(target=watched.follow, daemon=True)
    follower.start()
    until(lambda: noted(file))
    watched.look()
    engine.end.set()
    follower.join(10)
    facts = noted(file)
    assert time.time() - 20 < facts[1].pop("at") <= time.time()
    assert facts == [
        {"kind": "container starts", "stage": "fit", "container": ONE[:12], "at": 1.0},
        {"kind": "uses", "stage": "fit", "container": ONE[:12], "memory": 400, "cpu": 1.5},
        {"kind": "container ends", "stage": "fit", "container": ONE[:12], "at": 2.0},
    ]
    (filters,) = parse_qs(urlsplit(engine.asked[0]).query)["filters"]
    assert "pipeline.clone=c10e" in filters
    watched.look()
    assert len(noted(file)) == 3


@pytest.mark.parametrize("stats", [{}, {"usage": 0}])
def test_a_container_that_has_just_ended(engine, tmp_path, stats):
    """One of which the engine knows nothing more is not noted with zeros."""
    file = tmp_path / "events"
    watched = watch.Watch("c10e", str(file), engine.server_address)
    engine.stats = stats
    threading.Thread(target=watched.follow, daemon=True).start()
    until(lambda: noted(file))
    watched.look()
    assert [fact["kind"] for fact in noted(file)] == ["container starts"]


def test_it_ends_with_its_run(tmp_path):
    """Without an engine it says nothing; it ends as soon as its standard input does."""
    program = ROOT / "scripts" / "report" / "watch.py"
    command = [sys.executable, "-ISB", str(program), "c10e", str(tmp_path / "events")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        said, _ = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, b"")
