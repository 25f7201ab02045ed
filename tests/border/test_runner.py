"""What the runner itself may do: as little as its verb needs; and what a word on its command line can do: nothing."""

import json
import os
import re
import subprocess
from collections.abc import Callable

import pytest

from scripts.project import ROOT
from tests.conftest import Clone, Make, last_line

pytestmark = [pytest.mark.docker]

LOOK = r"""
import json, os
def can(path, mode):
    try:
        with open(path, mode):
            return True
    except OSError:
        return False
def can_add(folder):
    try:
        os.close(os.open(f"{folder}/.probe", os.O_CREAT | os.O_WRONLY))
        os.remove(f"{folder}/.probe")
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("LOOK", json.dumps({
    "socket": os.path.exists("/var/run/docker.sock"),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "new": int(status["NoNewPrivs"]),
    "files": {path: can(path, "ab") for path in ("Makefile", "docker-compose.yml", "Dockerfile.runner",
              "dvc.yaml.template", ".git/config", "scripts/__main__.py", "stages/README.md",
              ".devcontainer/devcontainer.json", "params.yaml")},
    "folders": {path: can_add(path) for path in ("scripts", "scripts/host", "stages", "stages/base", ".git/hooks",
                ".devcontainer", ".local")},
    "secrets": sorted(name for name in os.environ if "sekrit" in os.environ[name]),
}))
"""
SECRETS = {
    "MLFLOW_TRACKING_URI": "http://mlflow.invalid:9",
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": "sekrit1",
    "AWS_SECRET_ACCESS_KEY": "sekrit2",
    "AWS_SESSION_TOKEN": "sekrit3",
}


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    return clone_at("border-runner")


def look(clone: Clone, verb: str) -> dict:
    """Return what a program sees and may do in the runner of `exec` or `shell`."""
    (clone.path / "look.py").write_text(LOOK)
    environ = {key: value for key, value in os.environ.items() if key != "PWD"} | SECRETS
    words = ["exec", "python", "look.py"] if verb == "exec" else ["shell"]
    done = subprocess.run(
        ["sh", "scripts/host/runner.sh", *words], cwd=clone.path, env=environ, capture_output=True, text=True,
        input="python look.py\n",
    )  # fmt: skip
    (clone.path / "look.py").unlink()
    found = re.search(r"LOOK (.*)", done.stdout)
    assert found, done.stdout + done.stderr
    return json.loads(found[1])


def test_a_verb_that_runs_no_stage(clone: Clone) -> None:
    """It has no socket, no capability and no secret, and can change neither code nor what git would run."""
    found = look(clone, "exec")
    assert (found["socket"], found["capabilities"], found["new"], found["secrets"]) == (False, 0, 1, [])
    assert [path for path, may in found["files"].items() if may] == ["params.yaml"]
    assert [path for path, may in found["folders"].items() if may] == [".local"]


def test_the_shell(clone: Clone) -> None:
    """`make shell` is a person's: it has the socket and the secrets, may edit, and still has no capability."""
    found = look(clone, "shell")
    assert (found["socket"], found["capabilities"], found["new"]) == (True, 0, 1)
    assert {"MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} <= set(found["secrets"])
    assert all(found["files"].values()) and all(found["folders"].values())


CODE = {"dvc.yaml.template", "scripts", "stages", ".git/hooks", "Makefile"}
EDITS = {"fmt": CODE, "lock": CODE, "shell": CODE, "rename": {"dvc.yaml.template"}}
EDITS |= {verb: {"dvc.yaml.template", "stages"} for verb in ("new_stage", "start")}
"""What of the code each verb may write; any other one nothing."""


def run_verbs() -> list[str]:
    """Return the verbs of scripts/verbs/, as runner.sh gets them."""
    return sorted(path.stem for path in (ROOT / "scripts" / "verbs").glob("*.py") if path.stem != "__init__")


STARTS_CONTAINERS = {
    "bench", "build", "compare", "debug", "devcontainer", "doctor", "lineage", "models", "notebook", "promote",
    "publish", "push_images", "reproduce", "rollback", "run", "shell", "test", "test_stage", "ui",
}  # fmt: skip


@pytest.mark.parametrize("verb", run_verbs())
def test_who_gets_what(clone: Clone, verb: str, tmp_path) -> None:
    """Each verb gets the socket of Docker only if it starts containers, and may write only what it is there for."""
    fake = tmp_path / "docker"
    fake.write_text(
        '#!/bin/sh\ncase $1 in run) for word; do printf "%s\\n" "$word"; done ;; '
        'info) echo "Docker x" ;; inspect) printf "a\\na\\nb\\nb\\n"; [ $# = 7 ] || echo c ;; '
        "context) echo unix:///var/run/docker.sock ;; esac\n"
    )
    fake.chmod(0o755)
    environ = {key: value for key, value in os.environ.items() if key != "PWD"} | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}"
    }
    command = ["sh", "scripts/host/runner.sh", verb]
    (clone.path / ".local").mkdir(mode=0o700, exist_ok=True)  # as in a clone that is ready
    words = subprocess.run(command, cwd=clone.path, env=environ, capture_output=True, text=True).stdout.splitlines()
    assert verb in words
    assert any("dst=/var/run/docker.sock" in word for word in words) == (verb in STARTS_CONTAINERS)
    readonly = {path for path in CODE if any(word.endswith(f"dst={clone.path}/{path},readonly") for word in words)}
    assert readonly == CODE - EDITS.get(verb, set())


WORDS = {
    "a function of make's": "$(shell touch bad)",
    "a variable of make's": "$(RUNNER)$(error all is lost)",
    "a command of the shell's": "`touch bad`",
    "quotes": "\"; touch bad; '",
    "a line break": "a\ntouch bad",
    "an option": "--help -rf",
}


@pytest.fixture(scope="module")
def published(clone: Clone) -> Clone:
    clone.make("run")
    return clone


@pytest.mark.parametrize("name", ["WHY", "VERSION", "MODEL"])
@pytest.mark.parametrize("why", WORDS.values(), ids=list(WORDS))
def test_a_reason_is_a_text(published: Clone, name: str, why: str) -> None:
    """`make promote WHY=...` takes what was typed, a name or a number too, and runs none of it."""
    done = published.make("promote", *({"VERSION=1"} if name == "WHY" else ()), f"{name}={why}", check=False)
    assert "Traceback" not in done.stdout and "all is lost" not in done.stdout.replace(why, "")
    assert not (published.path / "bad").exists()


@pytest.mark.parametrize("memory", ["lots", "4g --privileged", "$(touch bad)", "-1", "g"])
def test_a_limit_of_the_runner_that_is_none(clone: Clone, memory: str) -> None:
    """RUNNER_MEMORY, in .env or in the environment, is a size or is refused: it becomes no option of Docker."""
    dotenv = clone.path / ".env"
    clone.make("setup-env")
    before = dotenv.read_text()
    dotenv.write_text(f"{before}RUNNER_MEMORY={memory}\n")
    in_the_file = clone.make("dag", check=False)
    dotenv.write_text(before)
    for done in (in_the_file, clone.make("dag", check=False, RUNNER_MEMORY=memory)):
        assert last_line(done) == f"error: RUNNER_MEMORY is {memory}; expected one like 4g: correct it in .env"
    assert not (clone.path / "bad").exists()


def test_a_second_reader_of_the_settings(published: Clone) -> None:
    """A value that Compose could not parse is nobody's but ours: the server starts, and no secret is printed."""
    dotenv = published.path / ".env"
    before = dotenv.read_text()
    dotenv.write_text(before + "AWS_SECRET_ACCESS_KEY=x${sekrit-1\n")
    try:
        done = published.make("down", "ui", check=False)
    finally:
        dotenv.write_text(before)
    assert done.returncode == 0, done.stdout
    assert "sekrit" not in done.stdout


def answers(clone: Clone, code: str) -> str:
    return re.search(r"CODE (.*)", clone.python(f"import os, requests\n{code}"))[1]


PATHS = (
    "/",
    "/health",
    "/version",
    "/api/2.0/mlflow/experiments/search?max_results=1",
    "/graphql",
    "/ajax-api/2.0/mlflow/x",
    "/get-artifact?path=x&run_uuid=y",
    "/api/2.0/mlflow-artifacts/artifacts/1",
    "/static-files/index.html",
    "/%2e%2e/",
)


def test_the_local_server_asks_for_a_password(published: Clone) -> None:
    """Each address answers 401 without it or with another one, and lets those in who have it."""
    code = (
        f"paths = {PATHS!r}\n"
        "url = os.environ['MLFLOW_TRACKING_URI']\n"
        "right = os.environ['MLFLOW_TRACKING_PASSWORD']\n"
        "codes = {requests.get(url + path, auth=auth, headers=headers).status_code for path in paths\n"
        "         for auth, headers in ((None, {}), (('a', 'b'), {}), (('a', ''), {}),\n"
        "                               (None, {'Cookie': 'mlflow-x=' + right}),\n"
        "                               (None, {'Authorization': 'Basic !!!'}),\n"
        "                               (None, {'Authorization': 'Bearer ' + right}))}\n"
        "search = url + paths[3]\n"
        "session = requests.Session()\n"
        "link = session.get(url + '/?password=' + right)\n"
        "print('CODE', sorted(codes), requests.get(search, auth=('any', right)).status_code, link.status_code,\n"
        "      right in link.url, session.get(search).status_code, requests.get(url + '/?password=no').status_code)\n"
    )
    assert answers(published, code) == "[401] 200 200 False 200 401"


def test_the_link_of_make_ui(published: Clone) -> None:
    """`make ui` prints a link that logs in, and what a program needs; a run whose output is kept does not."""
    said: Make = published.make("ui")
    password = (published.path / ".local" / "mlflow-password").read_text()
    assert f"/?password={password}" in said.stdout
    assert re.search(rf"password {re.escape(password)}$", said.stdout, re.M)
    assert password not in published.make("run").stdout
    assert (published.path / ".local").stat().st_mode & 0o777 == 0o700
    assert (published.path / ".local" / "mlflow-password").stat().st_mode & 0o777 == 0o600


def test_the_local_server_is_sealed(published: Clone) -> None:
    """Its container has no capability, cannot write but where its data is, and has limits of memory and log."""
    (name,) = published.docker("container", "ls", "--format", "{{.Names}}", "--filter", "name=mlflow")
    found = json.loads(subprocess.check_output(["docker", "container", "inspect", name], text=True))[0]["HostConfig"]
    assert found["CapDrop"] == ["ALL"] and found["ReadonlyRootfs"] and found["Memory"] == 4 << 30
    assert found["LogConfig"] == {"Type": "local", "Config": {"max-file": "2", "max-size": "10m"}}
