"""How the local MLflow server is started and waited for. A script stands in for Docker; its servers are real."""

import http.server
import threading

import pytest

from scripts import mlflow_server
from scripts.project import Project, UserError

CREATING = " Container pipeline-mlflow-1  Creating\n"
DOCKER = """\
#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> log
case "$*" in
"container ls --all "*) cat state ;;
"container ls "*) grep -x -e running -e paused state ;;
"compose "*" logs "*) cat printed ;;
"compose "*" up "*)
    echo "$MLFLOW_PORT" >> ports
    if [ -s faults ]; then head -n 1 faults >&2; sed -i 1d faults; exit 1; fi
    echo running > state ;;
esac
true
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A folder with Docker's stand-in, first on the PATH, and what it is to say; it logs what it is asked."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    for name in ("state", "faults", "printed", "log"):
        (folder / name).touch()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("CLONE", "0123")
    monkeypatch.setenv("MLFLOW_PORT", "5000-5020")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing answers there
    monkeypatch.setattr(mlflow_server, "PAUSE", 0)
    return folder


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def server(monkeypatch, docker):
    """A server that refuses its first three calls, as one that comes up."""
    refusals = iter([503] * 3)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(next(refusals, 200))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{running.server_port}")
        yield running
        running.shutdown()


# --- start


def damage(project):
    """Leaves what a damaged database is known by."""
    (project.mlflow / "artifacts" / "1").mkdir(parents=True)
    (project.mlflow / "mlflow.db").write_text("not a database" * 1000)


def test_a_server_that_comes_up_is_left_to_write(docker, project):
    """The files of a server that runs and does not answer yet are changing, which is no sign of damage."""
    (docker / "state").write_text("running\n")
    damage(project)
    assert mlflow_server.start(project)


def test_a_server_that_is_paused_is_waited_for(docker, project, capsys):
    """Docker starts no container that is paused: it is left as it is, and a line says how it goes on."""
    (docker / "state").write_text("paused\n")
    assert mlflow_server.start(project)
    assert " up " not in (docker / "log").read_text() and "docker unpause" in capsys.readouterr().out


def test_no_server_starts_on_a_damaged_database(docker, project):
    """While no server runs its database is checked first."""
    damage(project)
    with pytest.raises(UserError, match="is damaged"):
        mlflow_server.start(project)
    assert " up " not in (docker / "log").read_text()


def test_compose_does_not_read_dotenv(docker, project):
    """Compose would print a value of .env that it cannot parse: it is given an empty file instead."""
    assert mlflow_server.start(project)
    asked = [line for line in (docker / "log").read_text().splitlines() if line.startswith("compose ")]
    assert asked and all(line.startswith("compose --env-file /dev/null ") for line in asked)


@pytest.mark.parametrize(
    "words",
    [
        "Bind for 127.0.0.1:5000 failed: port is already allocated",
        "listen tcp4 127.0.0.1:5020: bind: address already in use",
        'services.mlflow.ports.0: invalid hostPort: "many"',
    ],
)
def test_a_port_that_cannot_be_had_is_named(docker, project, words):
    """If Docker's words are about the port, the sentence says which setting to change."""
    (docker / "faults").write_text(f"{words}\n")
    with pytest.raises(UserError, match=r"expected a free port in 5000-5020 .*: set MLFLOW_PORT in \.env") as caught:
        mlflow_server.start(project)
    assert words in str(caught.value)


def test_ports_that_other_programs_have_are_passed_over(docker, project):
    """If a program outside of Docker has a port of the range, the ports above it are tried, to the last of them."""
    taken = [f"listen tcp4 127.0.0.1:{port}: bind: address already in use" for port in range(5000, 5020)]
    (docker / "faults").write_text("".join(f"{words}\n" for words in taken))
    assert mlflow_server.start(project)
    assert (docker / "ports").read_text().split() == ["5000-5020", *(f"{port}-5020" for port in range(5001, 5021))]


@pytest.mark.parametrize("words", ["no space left on device", "failed to create shim task: transport endpoint"])
def test_other_failures_do_not_look_like_a_port(docker, project, words):
    """If Docker's words are about something else, no port is mentioned."""
    (docker / "faults").write_text(f"{words}\n")
    with pytest.raises(UserError, match=f"could not be started: {words}; expected Docker to start it") as caught:
        mlflow_server.start(project)
    assert "MLFLOW_PORT" not in str(caught.value)


def test_a_busy_docker_is_asked_again(docker, project):
    """What is only a bad moment of the engine, or another command that starts the server too, is tried again."""
    (docker / "faults").write_text(
        "context deadline exceeded\n"
        'Conflict. The container name "/pipeline-mlflow-1" is already in use by container "0123".\n'
    )
    assert mlflow_server.start(project)


# --- wait


def test_a_server_that_lives_is_waited_for(docker, server, monkeypatch, capsys):
    """While its container runs the server is waited for, and what is waited for is said."""
    monkeypatch.setattr(mlflow_server, "LOOKS", 0)
    monkeypatch.setattr(mlflow_server, "FIRST_NOTE", 0)
    (docker / "state").write_text("running\n")
    mlflow_server.wait()
    assert capsys.readouterr().out.startswith("waiting for the local MLflow server, which is still starting (")


@pytest.mark.parametrize("state", ["exited", "dead", "restarting", ""])
def test_a_server_that_has_ended_is_given_up(docker, monkeypatch, state):
    """As soon as its container has ended, or restarts again and again, the sentence has its last words."""
    monkeypatch.setattr(mlflow_server, "LOOKS", 0)
    (docker / "state").write_text(f"{state}\n" if state else "")
    (docker / "printed").write_text("\x1b[2KERROR: no room\r\n")
    with pytest.raises(UserError, match=r"ended before it answered: ERROR: no room; expected .*make down ui"):
        mlflow_server.wait()


def test_a_database_of_another_version_is_upgraded_once(docker, monkeypatch, project):
    """A server that ends since an older MLflow made its database is started again once that is upgraded."""
    monkeypatch.setattr(mlflow_server, "LOOKS", 0)
    (docker / "state").write_text("exited\n")
    (docker / "printed").write_text("Detected out-of-date database schema (found version a, but expected b).\n")
    upgraded = []

    def upgrade(_):
        upgraded.append((docker / "log").read_text().count(" up "))
        (docker / "faults").write_text("no such thing\n")

    monkeypatch.setattr("scripts.mlflow_database.upgrade", upgrade)
    with pytest.raises(UserError, match="could not be started: no such thing"):
        mlflow_server.wait(project)
    assert upgraded == [0]


def test_a_server_that_is_replaced_is_waited_for(docker, server, monkeypatch):
    """While Docker replaces the container there are two, of which one has ended."""
    monkeypatch.setattr(mlflow_server, "LOOKS", 0)
    (docker / "state").write_text("exited\ncreated\n")
    mlflow_server.wait()


def test_a_server_that_never_answers_is_given_up_at_last(docker, monkeypatch):
    """Even a container that runs is not waited for without end."""
    monkeypatch.setattr(mlflow_server, "PATIENCE", 0)
    (docker / "state").write_text("running\n")
    with pytest.raises(UserError, match="did not answer within 0 s: it printed nothing; expected"):
        mlflow_server.wait()


# --- the copy of its database


def test_only_the_local_servers_database_is_copied(docker, project, monkeypatch):
    """With another server there is nothing of ours to copy."""
    damage(project)
    mlflow_server.back_up(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.settings.LOCAL_MLFLOW)
    with pytest.raises(UserError, match="is damaged"):
        mlflow_server.back_up(project)


def test_a_copy_that_cannot_be_made_fails_no_run(project, monkeypatch, capsys):
    """A run that ended well stays one if its database cannot be copied: a note says so."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.settings.LOCAL_MLFLOW)
    (project.mlflow / "mlflow.db").mkdir(parents=True)
    mlflow_server.back_up(project)
    assert capsys.readouterr().out.startswith("note: MLflow's database was not backed up (")
