"""`make dagshub-connect`, against a real HTTP server that notes what it is asked (DagsHub itself is not asked)."""

import http.server
import json
import subprocess
import threading

import pytest

from scripts.project import UserError
from scripts.verbs import dagshub_connect


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server in DagsHub's place, the calls that it got, and a clone whose .env names it."""
    calls = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer({"login": "ann", "id": 7})

        def do_POST(self):
            self.answer({"html_url": "https://hub.test/ann/iris"})

        def answer(self, body):
            length = int(self.headers.get("Content-Length") or 0)
            calls.append((self.command, self.path, self.headers["Authorization"], self.rfile.read(length).decode()))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.chdir(tmp_path)
        for command in (["init", "--quiet"], ["remote", "add", "origin", "git@github.com:ann/iris-code.git"]):
            subprocess.run(["git", *command], check=True)
        monkeypatch.setenv("DAGSHUB_TOKEN", "s3cr3t")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}/ann/iris.mlflow")
        yield calls
        server.shutdown()


def test_it_asks_for_a_mirror(hub, capsys):
    """With YES=1 a mirror of origin is asked for, by the token's owner, under the name that .env has."""
    dagshub_connect.main(["1"])
    method, path, authorization, body = hub[-1]
    assert (method, path, authorization) == ("POST", "/api/v1/repos/migrate", "Bearer s3cr3t")
    assert json.loads(body) == {
        "clone_addr": "https://github.com/ann/iris-code.git", "repo_name": "iris", "uid": 7, "mirror": True,
    }  # fmt: skip
    assert "s3cr3t" not in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["", "n", "no"])
def test_it_does_nothing_without_a_yes(hub, monkeypatch, answer):
    """Any answer but yes does nothing."""
    monkeypatch.setattr("builtins.input", lambda _: answer)
    with pytest.raises(UserError, match="nothing was done"):
        dagshub_connect.main([""])
    assert [call[0] for call in hub] == ["GET"]


def test_it_goes_on_after_a_yes(hub, monkeypatch):
    """The answer y does it."""
    monkeypatch.setattr("builtins.input", lambda _: "y")
    dagshub_connect.main([""])
    assert hub[-1][0] == "POST"


def test_another_owner_is_refused(hub, monkeypatch):
    """A repository that is not the token owner's is refused before anything is asked for."""
    uri = dagshub_connect.os.environ["MLFLOW_TRACKING_URI"].replace("/ann/", "/team/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="team/iris, but the token is ann's"):
        dagshub_connect.main(["1"])
    assert [call[0] for call in hub] == ["GET"]


def test_without_a_token_it_says_so(hub, monkeypatch):
    """Without a token nothing is asked."""
    monkeypatch.delenv("DAGSHUB_TOKEN")
    with pytest.raises(UserError, match="DAGSHUB_TOKEN is empty"):
        dagshub_connect.main(["1"])
    assert hub == []


@pytest.mark.parametrize(
    "origin",
    [
        "git@github.com:o/r.git", "https://github.com/o/r", "https://github.com/o/r.git", "ssh://git@github.com/o/r.git",
        "https://user:password@github.com/o/r.git",
    ],
)  # fmt: skip
def test_every_way_to_write_a_github_remote(origin):
    """Each usual form of a GitHub remote gives its https address, without a password."""
    assert dagshub_connect.github_address(origin) == "https://github.com/o/r.git"


@pytest.mark.parametrize(
    "origin", ["", "git@gitlab.com:o/r.git", "/srv/git/r.git", "https://token@example.com/o/r.git"]
)
def test_a_remote_elsewhere_is_refused(origin):
    """A remote that is not GitHub's is refused, without what stands in its address."""
    with pytest.raises(UserError, match=r"expected github\.com") as error:
        dagshub_connect.github_address(origin)
    assert "token" not in str(error.value)
