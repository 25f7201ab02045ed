"""Who runs it: root, an ordinary user with a strict umask, and each kind of Docker engine."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.conftest import ALL, NOTHING, OUTPUTS, Clone, Make, owner_of, stages_line

ANA = 4321
"""A user of the group that may use Docker; BOB, of the same host, is not in it."""
BOB = 4322
COMPARED = (*OUTPUTS, "dvc.yaml", "dvc.lock")
"""What is the same whoever runs."""
TWO_USERS = f"""
for user in ana:{ANA} bob:{BOB}; do
    name=${{user%:*}} uid=${{user#*:}}
    echo "$name:x:$uid:$uid::/home/$name:/bin/sh" >> /etc/passwd
    echo "$name:x:$uid:" >> /etc/group
    install -d -m 700 -o $uid -g $uid /home/$name
done
echo "engine:x:$(stat -c %g /var/run/docker.sock):ana" >> /etc/group
"""


@dataclass(frozen=True)
class Host:
    """A machine with two users, ana and bob: a container with the engine's socket and these folders at their paths."""

    folders: tuple[Path, ...]

    def sh(self, script: str, user: str = "root", check: bool = True) -> Make:
        """Run `script` as `user`, with umask 077 unless that is root, with nothing of ours but the Python image."""
        if user != "root":
            become = f"setpriv --reuid {user} --regid {user} --init-groups env HOME=/home/{user} USER={user}"
            script = f"exec {become} sh -c {shlex.quote('umask 077; ' + script)}"
        done = subprocess.run(
            [
                *("docker", "run", "--rm", "--init", "--interactive", "--pull", "never", "--user", "0:0"),
                *("--label", Clone(ROOT).label, "--network", "none", "--env", "PYTHON_IMAGE"),
                *("--mount", f"type=bind,src={os.environ['RUNNER_SOCKET']},dst=/var/run/docker.sock"),
                *(word for path in self.folders for word in ("--mount", f"type=bind,src={path},dst={path}")),
                *("--workdir", str(self.folders[0]), os.environ["RUNNER_IMAGE"], "sh", "-c", TWO_USERS + script),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script} ended {done.returncode}:\n{done.stdout}"
        return done

    def strangers(self, uid: int) -> list[str]:
        """Return what below the folders does not belong to the user and the group `uid`."""
        places = " ".join(shlex.quote(str(path)) for path in self.folders)
        return self.sh(f"find {places} ! -uid {uid} -o ! -gid {uid}").stdout.splitlines()


@pytest.fixture(scope="module")
def host_of_ana(started: tuple[Clone, Make]) -> Iterator[Callable[..., Host]]:
    """Give clones to ana, as if she had made them with umask 077, and take them back at the end."""
    hosts = []
    uid, gid = owner_of(ROOT)

    def give(*folders: Path) -> Host:
        host = Host(folders)
        hosts.append(host)
        host.sh(f"chown -R {ANA}:{ANA} {shlex.join(map(str, folders))}; chmod -R go= {shlex.join(map(str, folders))}")
        return host

    yield give
    for host in hosts:
        host.sh(f"chown -R {uid}:{gid} {shlex.join(map(str, host.folders))}")


# --- ana, of Docker's group, with umask 077 --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_by_ana(clone_at: Callable[[str], Clone], host_of_ana: Callable[..., Host]) -> tuple[Host, Make, dict[str, str]]:
    """Ana's host with her clone, what her first `make run` printed, and her outputs' digests after it."""
    host = host_of_ana(clone_at("ana").path)
    done = host.sh("make run", "ana")
    return host, done, digests(host.sh(f"sha256sum {' '.join(COMPARED)}").stdout)


def digests(printed: str) -> dict[str, str]:
    """Return the digests that sha256sum printed, by file."""
    return {name: digest for digest, name in map(str.split, printed.splitlines())}


@pytest.mark.docker
def test_a_user_gets_what_root_gets(run_by_ana: tuple[Host, Make, dict[str, str]], started: tuple[Clone, Make]) -> None:
    """`make run` by an ordinary user with umask 077 gives the same bytes, dvc.lock's too, and registers the model."""
    host, done, found = run_by_ana
    assert stages_line(done) == ALL
    assert "iris-classifier version 1, published now" in done.stdout
    theirs = subprocess.run(["sha256sum", *COMPARED], cwd=started[0].path, capture_output=True, text=True, check=True)
    assert found == digests(theirs.stdout)
    assert host.sh("git status --porcelain", "ana").stdout == "?? dvc.lock\n"


@pytest.mark.docker
def test_a_users_files_are_the_users(run_by_ana: tuple[Host, Make, dict[str, str]]) -> None:
    """After a run by an ordinary user every file below the clone is that user's, and no one else may read .env."""
    host = run_by_ana[0]
    assert host.strangers(ANA) == []
    assert host.sh("stat -c %a .env").stdout.strip() == "600"


@pytest.mark.docker
def test_a_users_second_run_does_nothing(run_by_ana: tuple[Host, Make, dict[str, str]]) -> None:
    """A second `make run` by the same user finds nothing to do."""
    assert stages_line(run_by_ana[0].sh("make run", "ana")) == NOTHING


@pytest.mark.docker
def test_a_user_cleans_up(run_by_ana: tuple[Host, Make, dict[str, str]]) -> None:
    """`make clean-all` by an ordinary user leaves no container, no network and no .local of the clone."""
    host = run_by_ana[0]
    clone = Clone(host.folders[0])
    assert clone.docker("container", "ls", "--all", "--quiet")
    host.sh("make clean-all YES=1", "ana")
    assert not clone.docker("container", "ls", "--all", "--quiet")
    assert not clone.docker("network", "ls", "--quiet")
    assert host.sh("ls -A").stdout.splitlines().count(".local") == 0


# --- root, in a clone of somebody else's -----------------------------------------------------------------------------


@pytest.mark.docker
def test_root_in_a_users_clone_leaves_the_users_files(
    clone_at: Callable[[str], Clone], host_of_ana: Callable[..., Host]
) -> None:
    """Root may run in another user's clone and worktree, which git then distrusts: all files are still that user's."""
    clone = clone_at("anas")
    worktree = clone.path.parent / "anas worktree"
    clone.git("worktree", "add", "--quiet", "--detach", str(worktree))
    host = host_of_ana(clone.path, worktree)
    assert "dubious ownership" in host.sh("git status", check=False).stdout
    for folder in host.folders:
        host.sh(f"cd '{folder}' && MLFLOW_TRACKING_URI=http://mlflow:9 make run-ingest status && test -s {OUTPUTS[0]}")
    assert host.strangers(ANA) == []


# --- bob, whom the engine does not answer ----------------------------------------------------------------------------


@pytest.mark.docker
def test_a_user_outside_dockers_group_is_told_what_to_do(clone_at: Callable[[str], Clone]) -> None:
    """If the engine's socket is closed to a user, one sentence names the group and the command; nothing is made."""
    clone = clone_at("bob")
    subprocess.run(["chmod", "-R", "go=rwX", str(clone.path)], check=True)
    host = Host((clone.path,))
    done = host.sh("make run", "bob", check=False)
    assert done.returncode == 2
    assert re.fullmatch(
        "error: the Docker engine at /var/run/docker.sock does not answer to the user bob; expected a member of its "
        r"group \w+: run 'sudo usermod -aG docker bob', log in again and repeat, or start the engine if it is stopped",
        one_sentence(done.stdout),
    )
    assert clone.git("status", "--porcelain", "--ignored") == ""


# --- Kinds of engines ------------------------------------------------------------------------------------------------


def one_sentence(printed: str) -> str:
    """Return the one line that a refused make printed besides make's own."""
    (line,) = [line for line in printed.splitlines() if not line.startswith("make: ***")]
    return line


@pytest.fixture
def runner(tmp_path: Path) -> Callable[..., tuple[Make, list[str]]]:
    """Call scripts/host/runner.sh with a `docker` of ours: how it ended, and the command lines that reached docker."""
    programs = {
        "docker": f'printf "%s\\n" "$*" >> {shlex.quote(str(tmp_path))}/log\n'
        'case $1 in info) echo "$ENGINE"; [ -n "$ENGINE" ] ;; version) [ -n "${ENGINE## *}" ] ;;\n'
        'context) echo "$CONTEXT" ;; run) [ ! -e .local/nonce ] || cat .local/nonce ;; esac\n',
        "id": 'case $1 in -un) echo me ;; *) echo "${FAKE_UID:-1000}" ;; esac\n',
        "sudo": "exit 0\n",
        "dockerd": "exit 0\n",
        "apt-get": "echo apt-get was called; exit 1\n",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text("#!/bin/sh\n" + text)
        (tmp_path / name).chmod(0o755)

    def call(engine: str, context: str = "unix:///var/run/docker.sock", **variables: str) -> tuple[Make, list[str]]:
        kept = {name: value for name, value in os.environ.items() if name not in ("RUNNER_SOCKET", "DOCKER_HOST")}
        done = subprocess.run(
            ["sh", "scripts/host/runner.sh", "doctor"],
            cwd=ROOT,
            env=kept
            | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON_IMAGE": "python", "ENGINE": engine}
            | {"CONTEXT": context, "TMPDIR": str(tmp_path)}
            | variables,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        log = tmp_path / "log"
        return done, log.read_text().splitlines() if log.exists() else []

    return call


def started_with(lines: list[str]) -> str:
    """Return the `docker run` of the runner that reached docker, after the one that looks for the clone."""
    (line,) = [line for line in lines if line.startswith("run ") and not line.endswith("/seen/nonce")]
    return line


NO_ENGINE = ["", " [] default"]
"""What `docker info` prints if none answers; with the second, Docker's client 26.1 ends with 0."""
PLAIN = "Debian GNU/Linux 13 (trixie) [name=seccomp,profile=builtin name=cgroupns]"


def test_a_plain_engine_runs_as_the_owner(runner: Callable[..., tuple[Make, list[str]]]) -> None:
    """With an ordinary engine the runner is the clone's owner, in the group of the socket that the context names."""
    line = started_with(runner(PLAIN)[1])
    uid, gid = owner_of(ROOT)
    assert f"--user {uid}:{gid} " in line
    assert f"--group-add {Path('/var/run/docker.sock').stat().st_gid} " in line
    assert "type=bind,src=/var/run/docker.sock,dst=/var/run/docker.sock" in line


def test_the_default_context_is_not_asked_about(runner: Callable[..., tuple[Make, list[str]]]) -> None:
    """Where the engine says that Docker's default context is in use, its socket is known, and one question is saved."""
    lines = runner(f"{PLAIN} default", "unix:///nowhere.sock")[1]
    assert "type=bind,src=/var/run/docker.sock,dst=/var/run/docker.sock" in started_with(lines)
    assert "context" not in {line.split()[0] for line in lines}


def test_rootless_docker_runs_as_its_root(runner: Callable[..., tuple[Make, list[str]]]) -> None:
    """With rootless Docker the runner is root, which there is the user, and has the user's own socket."""
    rootless = "Ubuntu 24.04 [name=seccomp,profile=builtin name=rootless name=cgroupns]"
    line = started_with(runner(rootless, "unix:///run/user/1000/docker.sock")[1])
    assert "--user 0:0 " in line and "--group-add 0 " in line
    assert "type=bind,src=/run/user/1000/docker.sock,dst=/var/run/docker.sock" in line


def test_docker_desktop_has_its_socket_at_the_usual_place(runner: Callable[..., tuple[Make, list[str]]]) -> None:
    """With Docker Desktop the runner has the virtual machine's socket, which is root's, and is the clone's owner."""
    line = started_with(runner("Docker Desktop [name=seccomp,profile=unconfined]", "unix:///Users/me/run/d.sock")[1])
    uid, gid = owner_of(ROOT)
    assert f"--user {uid}:{gid} " in line and "--group-add 0 " in line
    assert "type=bind,src=/var/run/docker.sock,dst=/var/run/docker.sock" in line


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:2376", "ssh://me@host.invalid"])
@pytest.mark.parametrize("how", ["DOCKER_HOST", "context"])
def test_an_engine_elsewhere_is_refused(runner: Callable[..., tuple[Make, list[str]]], address: str, how: str) -> None:
    """An engine on another machine, which cannot mount the clone, is refused in one sentence that names it."""
    done, lines = runner(PLAIN, DOCKER_HOST=address) if how == "DOCKER_HOST" else runner(PLAIN, address)
    assert done.returncode == 1
    assert one_sentence(done.stdout) == (
        f"error: the Docker engine is at {address}; expected one on this machine (unix://...), which can mount this "
        "folder: unset DOCKER_HOST or choose another docker context"
    )
    assert {line.split()[0] for line in lines} <= {"info", "context"}


@pytest.mark.parametrize("engine", NO_ENGINE)
@pytest.mark.parametrize("address", ["tcp://192.0.2.1:2376", "ssh://me@host.invalid"])
def test_an_engine_elsewhere_that_is_away_is_named(
    runner: Callable[..., tuple[Make, list[str]]], address: str, engine: str
) -> None:
    """If DOCKER_HOST does not answer, one sentence says so; no engine is installed beside it."""
    done, _ = runner(engine, DOCKER_HOST=address)
    assert done.returncode == 1
    assert one_sentence(done.stdout) == (
        f"error: no Docker engine answers at DOCKER_HOST={address}; expected one: start it, or unset DOCKER_HOST"
    )


@pytest.mark.parametrize("engine", NO_ENGINE)
def test_an_engine_that_answers_only_to_root_is_told_apart(
    runner: Callable[..., tuple[Make, list[str]]], engine: str
) -> None:
    """If the engine runs and answers root alone, the last line says how to join its group."""
    done, _ = runner(engine)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "error: the Docker engine runs, but answers only to root: run 'sudo usermod -aG docker me', log in again and "
        "repeat"
    )
