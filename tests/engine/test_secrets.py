"""Secrets arrive as they were written, and show nowhere but where they must be."""

import base64
import hashlib
import io
import json
import os
import re
import secrets
import shlex
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scripts.pipeline import build, images
from scripts.pipeline.images import Image
from scripts.project import ROOT, Project
from tests.conftest import ALL, STAGES, Clone, inspecting, stage_in, stages_line, with_probe

MARK = f"mark{secrets.token_hex(8)}"
TOKEN = f"""{MARK} # it's a "token" of $HOME and ${{USER}} `id` $(id) \\ end"""
"""With all that a shell, Docker, Compose, make or a .env reader could take for something else."""
WRITTEN = '"' + TOKEN.replace("\\", "\\\\").replace('"', '\\"') + '"'
SIGNS = [MARK, base64.b64encode(f"me:{TOKEN}".encode()).decode()]
"""What gives the token away: its beginning, which no quoting changes, and what HTTP makes of it."""

# Looks into every process's command line until its input ends.
WATCH = """
import json, os, select, sys
from pathlib import Path
sign, found, seen = os.environ["SIGN"].encode(), set(), set()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if sign in line:
            found.add(line.decode(errors="replace"))
        seen |= {name for name in (b"train", b"evaluate") if b"pipeline.stage=" + name in line}
print(json.dumps([sorted(found), sorted(name.decode() for name in seen)]))
"""


def output_of(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


class Run(NamedTuple):
    """A run with a token: its clone, what it printed, and what was to be seen of it while it lasted."""

    clone: Clone
    printed: str
    containers: list[dict[str, Any]]  # as `docker inspect` shows them
    given_away: list[str]  # command lines of any process of the machine that held the token
    seen: list[str]  # the stages whose command lines were looked at


@pytest.fixture(scope="module")
def run(clone_at: Callable[[str], Clone]) -> Run:
    """The first run of a clone with the token in a .env with CRLF line ends; train asks for the token, and has it."""
    clone = clone_at("secret")
    names = '["MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]'
    clone.edit("dvc.yaml.template", 'stage("train",', f'stage("train", network="mlflow", env={names},')
    text = (clone.path / ".env.example").read_text()
    for name, value in (
        ("MLFLOW_TRACKING_USERNAME", "me"),
        ("MLFLOW_TRACKING_PASSWORD", WRITTEN),
        ("AWS_ACCESS_KEY_ID", "me"),
        ("AWS_SECRET_ACCESS_KEY", WRITTEN),
    ):
        assert f"\n{name}=\n" in text
        text = text.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    (clone.path / ".env").write_bytes(text.replace("\n", "\r\n").encode())
    watch = ["docker", "run", "--rm", "--init", "--interactive", "--pull", "never", "--pid", "host", "--env", "SIGN"]
    watch += ["--network", "none", "--label", Clone(ROOT).label, os.environ["RUNNER_IMAGE"], "python", "-c", WATCH]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(watch, env=os.environ | {"SIGN": MARK}, **pipes) as processes,
        inspecting(clone) as containers,
    ):
        done = clone.make("run", check=False)
        given_away, seen = json.loads(processes.communicate("end\n")[0])
    assert done.returncode == 0, done.stdout
    assert stages_line(done) == ALL
    return Run(clone, done.stdout, containers, given_away, seen)


@pytest.mark.docker
def test_a_token_arrives_unchanged(run: Run) -> None:
    """A token with #, quotes, $, spaces and a CRLF after it is the same in .env, in the runner and in train."""
    digest = "import hashlib, os; print('DIGEST', hashlib.sha256(os.environ[{!r}].encode()).hexdigest())"
    typed = with_probe(run.clone.stages()["train"]["cmd"], digest.format("AWS_SECRET_ACCESS_KEY"))
    typed += f"\npython -c {shlex.quote(digest.format('AWS_SECRET_ACCESS_KEY'))}\n"
    found = re.findall(r"^DIGEST (\w+)", run.clone.make("shell", stdin=typed).stdout, re.M)
    assert found == [hashlib.sha256(TOKEN.encode()).hexdigest()] * 2


@pytest.mark.docker
def test_a_token_is_in_no_command_line(run: Run) -> None:
    """While a run lasts no process of the machine has the token on its command line: `ps` does not show it."""
    assert {"train", "evaluate"} <= set(run.seen), "the watch has not seen the run"
    assert run.given_away == []


@pytest.mark.docker
def test_a_token_is_in_no_containers_description(run: Run) -> None:
    """What `docker inspect` shows of a run's containers has the token as a variable of the stage that asks for it."""
    labels = [container["Config"]["Labels"] for container in run.containers]
    assert {stage_in(container) for container in run.containers} >= {*STAGES}
    assert any(label.get("pipeline.role") == "runner" for label in labels)
    assert any(label.get("com.docker.compose.service") == "mlflow" for label in labels)
    holders = set()
    for container in run.containers:
        config = container["Config"]
        if holds(json.dumps(config["Env"])):
            holders.add(stage_in(container))
        assert not holds(json.dumps(container | {"Config": config | {"Env": []}})), config["Cmd"]
    assert holders == {"train"}


@pytest.mark.docker
def test_a_token_is_in_no_image(run: Run) -> None:
    """No image that a run used has the token in its history or in its description."""
    used = {container["Image"] for container in run.containers}
    assert len(used) >= 5
    for image in used:
        assert not holds(output_of("docker", "history", "--no-trunc", image))
        assert not holds(output_of("docker", "image", "inspect", image))


@pytest.mark.docker
def test_a_token_is_in_no_file_but_dotenv(run: Run) -> None:
    """Neither outputs, logs, MLflow's database and artifacts, caches nor git have the token; .env has it."""
    clone = run.clone
    files = [path for path in clone.path.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path.relative_to(clone.path).as_posix() for path in files}
    assert {"dvc.yaml", "dvc.lock", ".local/logs/run.log", ".local/mlflow/mlflow.db"} <= names
    assert any(name.startswith(".local/mlflow/artifacts/") for name in names)
    holders = {path.relative_to(clone.path).as_posix() for path in files if holds(path.read_bytes().decode("latin-1"))}
    assert ".env" in holders
    assert holders <= {".env", ".dvc/config.local"}


@pytest.mark.docker
def test_a_token_is_not_printed(run: Run) -> None:
    """A run prints no part of the token, and neither do `make status` and `make ui`."""
    assert not holds(run.printed)
    assert not holds(run.clone.make("status", "ui").stdout)


def holds(text: str) -> bool:
    return any(sign in text for sign in SIGNS)


# --- What builds need: a package index with a password, a proxy with one ---------------------------------------------

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
PASSWORD = f"pw{secrets.token_hex(8)}"
PROBE = f"probe{secrets.token_hex(4)}"
"""A package that no cache knows."""

INDEX = """
import base64, io, json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

name, wheel, password = os.environ["NAME"], base64.b64decode(os.environ["WHEEL"]), os.environ["PASSWORD"]
file = f"{name}-1-py3-none-any.whl"

class Index(BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers.get("Authorization") == "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
        page = {f"/simple/{name}/": f"<a href='/{file}'>{file}</a>".encode(), f"/{file}": wheel}.get(self.path)
        self.send_response(401 if not allowed else 404 if page is None else 200)
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/zip")
        self.send_header("WWW-Authenticate", "Basic realm=index")
        self.end_headers()
        if allowed and page and self.command == "GET":
            self.wfile.write(page)

    do_HEAD = do_GET

HTTPServer(("", 8000), Index).serve_forever()
"""


def wheel() -> bytes:
    """A wheel of the package, with one empty module."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{PROBE}.py", "")
        archive.writestr(f"{PROBE}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {PROBE}\nVersion: 1\n")
        archive.writestr(f"{PROBE}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{PROBE}-1.dist-info/RECORD", "")
    return buffer.getvalue()


WHEEL = wheel()


@pytest.fixture
def index() -> Iterator[str]:
    """The address of a package index in a container of this machine that has one package and asks for a password."""
    container = subprocess.run(
        [
            *("docker", "run", "--rm", "--init", "--detach", "--pull", "never", "--label", Clone(ROOT).label),
            *("--env", "NAME", "--env", "WHEEL", "--env", "PASSWORD"),
            *(os.environ["RUNNER_IMAGE"], "python", "-c", INDEX),
        ],
        env=os.environ | {"NAME": PROBE, "WHEEL": base64.b64encode(WHEEL).decode(), "PASSWORD": PASSWORD},
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout.strip()  # fmt: skip
    address = output_of("docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip()
    yield f"http://me:{PASSWORD}@{address}:8000/simple"
    subprocess.run(["docker", "container", "rm", "--force", container], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.docker
def test_the_password_of_a_package_index_stays_in_no_image(run: Run, index: str) -> None:
    """A build that needs the password of PIP_INDEX_URL gets it, and neither image nor log nor file keeps it."""
    clone = run.clone
    probe = clone.path / "stages" / PROBE
    probe.mkdir()
    (probe / "requirements.txt").write_text(f"{PROBE}==1 --hash=sha256:{hashlib.sha256(WHEEL).hexdigest()}\n")
    (probe / f"{PROBE}.py").write_text(f"import {PROBE}\n")
    nothing = dict.fromkeys(("PIP_EXTRA_INDEX_URL", "NO_PROXY", "no_proxy", *PROXIES), "")
    printed = clone.make("build", PIP_INDEX_URL=index, **nothing).stdout
    assert f"built stages/{PROBE}:" in printed
    image = images.load(clone.path / "stages")[PROBE].tag
    assert f"{PROBE}==1" in output_of("docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", image,
                                      "/app/requirements.txt")  # fmt: skip
    said = (
        printed + output_of("docker", "history", "--no-trunc", image) + output_of("docker", "image", "inspect", image)
    )
    assert PASSWORD not in said
    holders = [path for path in clone.path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert holders == []


def test_a_stages_build_names_secrets_and_shows_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command that builds a stage's image names the proxies and the index's file, and has no password of them."""
    monkeypatch.setenv("PIP_INDEX_URL", f"https://me:{PASSWORD}@index.invalid/simple")
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://me:{PASSWORD}@proxy.invalid:3128")
    monkeypatch.setenv("CLONE", "0123456789ab")
    commands, files = [], []

    def instead(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (secret,) = [word.partition("src=")[2] for word in command if word.startswith("id=uv.toml,")]
        files.append(Path(secret).read_text())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(build.subprocess, "run", instead)
    base, stage = (Image(name, f"stages/{name}:0123456789ab", {}) for name in ("base", "a-stage"))
    build.build(stage, base, Project(tmp_path))
    (command,) = commands
    assert PASSWORD not in " ".join(command)
    assert set(PROXIES) <= {word.partition("=")[0] for word in command}
    assert PASSWORD in files[0]


def test_the_runners_build_names_secrets_and_shows_none(tmp_path: Path) -> None:
    """The command that builds the runner's image names the index and the proxies, and has no password of them."""
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", *PROXIES)
    log = tmp_path / "log"
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\necho "$*" >> {shlex.quote(str(log))}\n'
        'case "$1 $2" in info*) echo linux ;; "image inspect") exit 1 ;; '
        "run*) [ ! -e .local/nonce ] || cat .local/nonce ;; esac\n"
    )
    (tmp_path / "docker").chmod(0o755)
    environ = os.environ | dict.fromkeys(names, f"https://me:{PASSWORD}@host.invalid")
    environ |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON_IMAGE": "python", "RUNNER_SOCKET": "/run/d.sock"}
    subprocess.run(["sh", "scripts/host/runner.sh", "status"], cwd=ROOT, env=environ, check=True, capture_output=True)
    called = log.read_text()
    (line,) = [line for line in called.splitlines() if line.startswith("build ")]
    assert set(names) <= set(line.split())
    assert "--target" not in line  # so the last stage, which has none of it in its history
    assert PASSWORD not in called


def test_the_runners_image_is_not_given_the_index() -> None:
    """The last stage of Dockerfile.runner, which alone is kept, takes no argument: no history can hold one."""
    text = (ROOT / "Dockerfile.runner").read_text()
    assert "ARG PIP_INDEX_URL" in text
    last = re.split(r"^FROM ", text, flags=re.M)[-1]
    assert "ARG " not in last


@pytest.mark.docker
def test_the_runners_history_has_no_index() -> None:
    """The history of the runner's image has no value of a package index."""
    history = output_of("docker", "history", "--no-trunc", os.environ["RUNNER_IMAGE"])
    assert "apt-get" in history
    assert not re.search(r"PIP_(EXTRA_)?INDEX_URL=|PIP_TRUSTED_HOST=", history)
