"""Airflow on the real engine: from `make airflow` to a promoted model, seen in a browser, and away again."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.project import ROOT
from tests.conftest import Clone, Make, last_line, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.deep]
ROOM = ROOT / "scripts" / "airflow"
if not (ROOM / "task.sh").exists():
    pytest.skip("there is no scripts/airflow/task.sh", allow_module_level=True)

MOST_MEMORY = 2500 << 20  # bytes
SERVICE = "label=com.docker.compose.service={}"


def container(clone: Clone, service: str) -> str:
    (name,) = clone.docker("container", "ls", "--filter", SERVICE.format(service), "--format", "{{.Names}}")
    return name


def asked(clone: Clone, path: str) -> Any:
    """Return what Airflow's API answers, as its user asks for it from its own container."""
    code = (
        "import json, sys, urllib.request as r\n"
        "login = {'username': 'admin', 'password': json.load(open('/run/airflow/passwords.json'))['admin']}\n"
        "def ask(path, data=None, **h):\n"
        "    body = data and json.dumps(data).encode()\n"
        "    h = {'Content-Type': 'application/json', **h}\n"
        "    return json.load(r.urlopen(r.Request('http://127.0.0.1:8080' + path, body, h)))\n"
        "token = ask('/auth/token', login)['access_token']\n"
        "path = sys.argv[1]\n"
        "print(json.dumps(token if path == 'token' else ask('/api/v2/' + path, Authorization='Bearer ' + token)))\n"
    )
    command = ["docker", "exec", container(clone, "airflow-api"), "python", "-c", code, path]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run_of(done: Make) -> str:
    return re.search(r"^run (\S+): ", done.stdout, re.M)[1]


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Iterator[Clone]:
    """A clone in which Airflow was started; all of it is gone after the tests."""
    clone = clone_at("airflow")
    yield clone
    clone.make("clean-all", YES="1")


@pytest.fixture(scope="module")
def started(clone: Clone) -> Make:
    return clone.make("airflow", timeout=1500)


@pytest.fixture(scope="module")
def ran(clone: Clone, started: Make) -> Make:
    """A run of the commit, to its end."""
    return clone.make("airflow-run", WAIT="1", timeout=1500)


@pytest.fixture(scope="module")
def failed(clone: Clone, ran: Make) -> Make:
    """A run of what is not committed, whose input is bad."""
    clone.edit("params.yaml", "test_size: 0.2", "test_size: 7")
    done = clone.make("airflow-run", WAIT="1", check=False, timeout=1500)
    clone.restore()
    return done


def test_it_says_where_it_is_and_what_it_uses(clone: Clone, started: Make) -> None:
    """The address, the user, the password and the memory are told; all services together use less than 2.5 GB."""
    assert re.search(r"^Airflow: http://127\.0\.0\.1:\d+, user admin, password \S{20,}$", started.stdout, re.M)
    used = int(re.search(r"it uses (\d+) MB of memory", started.stdout)[1]) << 20
    assert 100 << 20 < used < MOST_MEMORY
    assert re.search(r"^ok +Airflow +all of it answers", clone.make("doctor", check=False).stdout, re.M)


def test_airflow_reads_the_dag_as_it_is_drawn(clone: Clone, ran: Make) -> None:
    """Airflow's own reading of the DAG has a task a stage with the edges of the pipeline, and no error."""
    assert asked(clone, "importErrors")["import_errors"] == []
    tasks = {task["task_id"]: task for task in asked(clone, "dags/pipeline/tasks")["tasks"]}
    drawn = json.loads((clone.path / ".local/airflow/drawing/pipeline.json").read_text())["stages"]
    assert set(tasks) == {*drawn, "publish"}
    edges = {(name, task) for name in tasks for task in tasks[name]["downstream_task_ids"]}
    wanted = {(need, name) for name, said in drawn.items() for need in said["needs"]}
    assert edges == wanted | {(name, "publish") for name in drawn}


def test_a_run_ends_with_a_promoted_model(clone: Clone, ran: Make) -> None:
    """The commit runs, a line a change; its model is in production, and nothing was written into this clone."""
    assert last_line(ran) == f"run {run_of(ran)} has ended well: 'make models' shows its model"
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert {"ingest", "preprocess", "train", "evaluate", "publish"} <= {
        line[1] for line in lines if line[2:3] == ["success"]
    }
    assert [version["stage"] for version in clone.registry()] == ["Production"]
    assert not (clone.path / "models").exists() and clone.changes() == []


def test_bad_input_fails_at_once_with_its_sentence(clone: Clone, failed: Make) -> None:
    """What is not committed travels; the stage that refuses it runs once, and its sentence is the last line."""
    assert failed.returncode == 2
    assert re.fullmatch(r"error: preprocess: .*7.*; expected .*", last_line(failed)), last_line(failed)
    found = asked(clone, f"dags/pipeline/dagRuns/{run_of(failed)}/taskInstances")["task_instances"]
    tries = {task["task_id"]: (task["state"], task["try_number"]) for task in found}
    assert tries["preprocess"] == ("failed", 1)
    assert tries["train"][0] == tries["publish"][0] == "upstream_failed"


def test_two_commits_at_once_do_not_disturb_each_other(
    clone: Clone, ran: Make, failed: Make, clone_at: Callable[[str], Clone]
) -> None:
    """Of two commits that run at the same time, each gets the dvc.lock that `make run` gives it elsewhere."""
    elsewhere, runs = clone_at("elsewhere"), {}
    for seed in (59, 60):
        clone.edit("params.yaml", f"seed: {seed - 1}", f"seed: {seed}")
        clone.git("commit", "--all", "--quiet", "--message", f"seed {seed}")
        runs[seed] = run_of(clone.make("airflow-run"))
    state = "dags/pipeline/dagRuns/{}"
    assert [asked(clone, state.format(run))["state"] for run in runs.values()] == ["running", "running"]
    for seed, run in runs.items():
        wait_until(lambda run=run: asked(clone, state.format(run))["state"] in ("success", "failed"), "its end", 1200)
        elsewhere.edit("params.yaml", f"seed: {seed - 1}", f"seed: {seed}")
        elsewhere.make("run")
        made = clone.path / ".local" / "airflow" / run / "dvc.lock"
        assert made.read_bytes() == (elsewhere.path / "dvc.lock").read_bytes()


@pytest.fixture(scope="module")
def pages(clone: Clone, ran: Make, failed: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what a browser shows of Airflow's pages; their pictures are in .local/test-output."""
    name = f"stages/clone-{clone.label.partition('=')[2]}:test-browser"
    build = ["docker", "buildx", "build", "--quiet", "--pull=false", "--tag", name]
    build += ["--build-arg", f"PYTHON_IMAGE={os.environ['PYTHON_IMAGE']}"]
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        build += ["--build-arg", variable]
    pip = tmp_path_factory.mktemp("pip") / "pip.conf"
    pip.write_text(f"[global]\nindex-url = {os.environ['PIP_INDEX_URL']}\n" if "PIP_INDEX_URL" in os.environ else "")
    build += ["--secret", f"id=pip.conf,src={pip}"]
    subprocess.run([*build, str(ROOT / "tests" / "browser")], check=True, capture_output=True)
    at, cookies = "http://127.0.0.1:8080/dags/pipeline", {"_token": asked(clone, "token")}
    wanted = {
        "airflow-grid": {"url": at, "texts": ["ingest", "train", "publish"], "cookies": cookies},
        "airflow-log": {"url": f"{at}/runs/{run_of(ran)}/tasks/train", "texts": ["train_accuracy="]},
        "airflow-failed": {"url": f"{at}/runs/{run_of(failed)}/tasks/preprocess", "texts": ["expected", "Failed"]},
    }
    output = Path(os.environ["TEST_OUTPUT"])
    command = ["docker", "run", "--rm", "--interactive", "--label", clone.label]
    command += ["--network", f"container:{container(clone, 'airflow-api')}"]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={output},dst={output}"]
    given = json.dumps(wanted)
    done = subprocess.run([*command, name, str(output)], input=given, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def test_the_grid_shows_a_row_a_task(pages: dict[str, dict[str, Any]]) -> None:
    """A person sees each stage and the last task."""
    rows = pages["airflow-grid"]["text"].splitlines()
    assert [row for row in rows if row in {"ingest", "preprocess", "train", "evaluate", "publish"}][:1] == ["ingest"]
    assert {"ingest", "preprocess", "train", "evaluate", "publish"} <= set(rows)


def test_a_tasks_log_has_the_stages_own_lines(pages: dict[str, dict[str, Any]]) -> None:
    """A person reads what the stage printed, and why another one failed."""
    assert re.search(r"train +\| train_accuracy=", pages["airflow-log"]["text"])
    assert re.search(r"AirflowFailException: .*expected", pages["airflow-failed"]["text"])


def test_down_leaves_nothing_running(clone: Clone, pages: dict[str, dict[str, Any]]) -> None:
    """`make down` stops all of it; what it knows stays, and a second `make airflow` finds it."""
    runs = asked(clone, "dags/pipeline/dagRuns")["total_entries"]
    began = time.monotonic()
    clone.make("down")
    assert clone.docker("container", "ls", "--all", "--quiet") == []
    assert time.monotonic() - began < 120
    assert re.search(r"^ok +Airflow +stopped", clone.make("doctor", check=False).stdout, re.M)
    clone.make("airflow", timeout=1500)
    assert asked(clone, "dags/pipeline/dagRuns")["total_entries"] == runs
