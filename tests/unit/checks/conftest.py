"""Real HTTP servers in this process, with whatever answers a test needs."""

import http.server
import threading
import time
from email.utils import formatdate

import pytest


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
    """Starts a server with the answers it is given; returns its address."""
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
