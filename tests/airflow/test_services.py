"""Airflow's services: what each may do, who gets a password, and what is said to a person."""

import json
import re
import stat

import pytest
import requests
import yaml

from scripts import settings
from scripts.project import ROOT, Project, UserError

services = pytest.importorskip("scripts.airflow.services")
api = pytest.importorskip("scripts.airflow.api")
drawing = pytest.importorskip("scripts.airflow.drawing")
following = pytest.importorskip("scripts.airflow.following")
keys = pytest.importorskip("scripts.airflow.keys")

ROOM = ROOT / "scripts" / "airflow"
COMPOSE = yaml.safe_load((ROOM / "docker-compose.yml").read_text())
ALL = COMPOSE["services"]
WORKER = ALL["airflow-worker"]
SECRET = re.compile(r"PASSWORD|KEY|SECRET|BROKER_URL|RESULT_BACKEND|SQL_ALCHEMY_CONN")


def sources(service):
    return [mount["source"] if isinstance(mount, dict) else mount for mount in service.get("volumes", [])]


def test_the_services_are_those_that_are_waited_for():
    """Each service of the file is one that `make airflow` starts and names, and no other."""
    assert set(ALL) == set(services.NAMES)


@pytest.mark.parametrize("name", ALL)
def test_a_service_may_do_no_more_than_it_must(name):
    """Each service has a read-only file system, no capabilities, a limit of memory, and this clone's label, by which
    `make down` finds it."""
    service = ALL[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service["mem_limit"] and service["pull_policy"] == "never"
    assert service["labels"] == {"pipeline.clone": "${CLONE:?}"}
    assert service["user"] not in ("", "root", "0")
    assert "healthcheck" in service or name == "airflow-migrate"


def test_the_worker_alone_has_the_clone_and_dockers_socket():
    """No other service sees the clone or Docker, and the worker does not see the database."""
    for name, service in ALL.items():
        has = any("CLONE_PATH" in source or "SOCKET" in source for source in sources(service))
        assert has == (name == "airflow-worker"), name
    assert "AIRFLOW_DATABASE" not in json.dumps(WORKER)
    assert {name for name, service in ALL.items() if service.get("group_add")} == {"airflow-worker"}


def test_only_the_pages_have_a_port():
    """The API server listens on 127.0.0.1; nothing else has a port, until .env names an address for other machines."""
    assert {name: service["ports"] for name, service in ALL.items() if service.get("ports")} == {
        "airflow-api": ["127.0.0.1:${AIRFLOW_PORT:?}:8080"]
    }
    assert "ports" not in json.dumps(services.extra({}, joined=False))


@pytest.mark.parametrize(
    ("joined", "published"),
    [
        (False, {"airflow-api": ["10.0.0.1:8080:8080"], "airflow-broker": ["10.0.0.1:6379:6379"]}),
        (True, {"airflow-worker": ["10.0.0.1:8793:8793"]}),
    ],
)
def test_an_address_is_for_other_machines(joined, published):
    """With AIRFLOW_ADDRESS the broker and the API server, or a worker's log, are there, and nothing else."""
    found = services.extra({"AIRFLOW_ADDRESS": "10.0.0.1"}, joined=joined)["services"]
    assert {name: said["ports"] for name, said in found.items() if "ports" in said} == published


def test_what_dvc_uses_outside_of_the_clone_is_in_the_worker_too():
    """A runner gets the mounts that its caller sees: the worker has them at the same paths."""
    found = services.extra({"RUNNER_MOUNTS": "/srv/data:/mnt/b"}, joined=False)["services"]["airflow-worker"]
    assert [(each["source"], each["target"]) for each in found["volumes"]] == [
        ("/srv/data", "/srv/data"),
        ("/mnt/b", "/mnt/b"),
    ]


def test_a_secret_goes_by_name_alone():
    """No password, key or address with one stands in the file, in a command line, or in the file that is added."""
    for name, service in ALL.items():
        assert not SECRET.search(json.dumps(service.get("command", ""))), name
        for variable, value in service.get("environment", {}).items():
            own = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"}
            if SECRET.search(variable) and variable not in own and "none.db" not in value:
                assert value == "" or re.fullmatch(r"\$\{AIRFLOW_[A-Z_]+:\?\}", value), (name, variable)
    added = services.extra({"HTTPS_PROXY": "http://me:secret@proxy"}, joined=False)
    assert "secret" not in json.dumps(added) and "HTTPS_PROXY" in json.dumps(added)


def test_every_setting_is_read():
    """The room's env.example offers nothing that has no effect."""
    text = "".join(path.read_text() for path in [*ROOM.rglob("*.py"), ROOM / "docker-compose.yml"])
    names = settings.read_dotenv(ROOM / "env.example")
    assert names and [name for name in names if name not in text] == []


# --- keys


def test_keys_are_made_once_and_are_their_owners(tmp_path):
    """Each clone has passwords of its own, which stay; nobody else may read them."""
    one, two = Project(tmp_path / "one"), Project(tmp_path / "two")
    for project in (one, two):
        project.local.mkdir(parents=True)
    first = keys.load(one)
    assert keys.load(one) == first and set(first) == set(keys.NAMES)
    assert not set(first.values()) & set(keys.load(two).values())
    folder = one.local / "airflow"
    for file in (folder / "keys.json", folder / "users" / "passwords.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads((folder / "users" / "passwords.json").read_text()) == {"admin": first["password"]}


def test_a_worker_elsewhere_gets_four_lines():
    """They name this machine's address, hold no password of the database, and are what .env may have."""
    environ = {
        "AIRFLOW_BROKER_URL": "redis://:pw@airflow-broker:6379/0",
        "AIRFLOW_RESULT_BACKEND": "redis://:pw@airflow-broker:6379/1",
        "AIRFLOW_API_URL": "http://airflow-api:8080/execution/",
        "AIRFLOW_KEY": "k",
        "AIRFLOW_DATABASE_PASSWORD": "db",
    }
    assert services.worker_lines(environ, "10.0.0.1").splitlines() == [
        "AIRFLOW_BROKER_URL=redis://:pw@10.0.0.1:6379/0",
        "AIRFLOW_RESULT_BACKEND=redis://:pw@10.0.0.1:6379/1",
        "AIRFLOW_API_URL=http://10.0.0.1:8080/execution/",
        "AIRFLOW_KEY=k",
    ]
    assert set(services.SETTINGS) <= settings.read_dotenv(ROOM / "env.example").keys()


@pytest.mark.parametrize("lacking", services.SETTINGS)
def test_a_worker_with_three_lines_is_told_which_one_lacks(lacking, monkeypatch, tmp_path):
    """A worker that could not join says which line of .env it lacks, and where that is written."""
    for name in services.SETTINGS:
        monkeypatch.setenv(name, "" if name == lacking else "there")
    with pytest.raises(UserError, match=f"^{lacking} missing in .env; expected .*worker.env"):
        services.joined_variables(["default"], Project(tmp_path))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "airflow-api"])
def test_a_worker_cannot_join_itself(host):
    """An address of Airflow that means the worker's own container is refused."""
    with pytest.raises(UserError, match=r"AIRFLOW_API_URL is .* correct it in .env"):
        services.check_address(f"http://{host}:8080/execution/")
    services.check_address("http://10.0.0.1:8080/execution/")


# --- following a run


def instance(task, state, number=1, **more):
    common = {"duration": None, "hostname": "", "start_date": None, "queue": "default"}
    return {"task_id": task, "state": state, "try_number": number, **common, **more}


class FakeApi:
    """Answers as Airflow does, one after the other; an exception is raised."""

    def __init__(self, states, tasks, lines=()):
        self.states, self._tasks, self.lines = iter(states), iter(tasks), lines

    def state(self, run):
        return self._given(self.states)

    def tasks(self, run):
        return self._given(self._tasks)

    def log(self, run, task, number):
        return self.lines

    @staticmethod
    def _given(answers):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def followed(monkeypatch, tmp_path):
    monkeypatch.setattr(following, "LOOKS", 0)

    def call(*arguments):
        fake = FakeApi(*arguments)
        monkeypatch.setattr(following, "Api", lambda project: fake)
        following.follow("a-run", Project(tmp_path))

    return call


def test_a_run_is_followed_a_line_a_change(followed, capsys):
    """Each change of a task is one line, however often it is asked for; a server that is away is waited for."""
    followed(
        ["running", "running", api.Away("away"), "running", "success"],
        [
            [instance("a", "running", hostname="w"), instance("b", None)],
            [instance("a", "running", hostname="w"), instance("b", None)],
            [instance("a", "up_for_retry"), instance("b", None)],
            [instance("a", "success", 2, duration=1.25), instance("b", "success", duration=2)],
        ],
    )
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(line.split()) for line in lines] == [
        "a running on w",
        "a up for retry",
        "a success, try 2 (1.2 s)",
        "b success (2.0 s)",
    ]


def test_a_run_that_fails_ends_in_its_stages_sentence(followed):
    """What a stage says is the error; what failed only because of it is not named."""
    lines = [{"event": "x"}, {"event": "failed", "error_detail": [{"exc_value": "error: a.b is 7; expected\x1b[2J 1"}]}]
    tasks = [instance("a", "failed"), instance("b", "upstream_failed")]
    with pytest.raises(UserError) as caught:
        followed(["failed"], [tasks], lines)
    assert str(caught.value) == "a: a.b is 7; expected 1"


def test_a_run_whose_worker_was_lost_says_so(followed):
    """A task that failed without a word of its own has a sentence all the same."""
    with pytest.raises(UserError, match=r"^a: its worker was lost"):
        followed(["failed"], [[instance("a", "failed")]], [])
    with pytest.raises(UserError, match="stopped in Airflow"):
        followed(["failed"], [[instance("a", "success"), instance("b", None)]])


def test_an_airflow_that_is_not_there_is_one_sentence(monkeypatch, tmp_path):
    """No connection, no name, and an answer that is none are told as one thing: start it."""
    project = Project(tmp_path)
    project.local.mkdir()

    def fails(*arguments, **options):
        raise requests.ConnectionError("no name")

    monkeypatch.setattr(requests, "post", fails)
    monkeypatch.setattr(requests, "get", fails)
    for question in (lambda one: one.health(), lambda one: one.state("x"), lambda one: one.begin("x", {})):
        with pytest.raises(api.Away, match=r"'make airflow' starts it$"):
            question(api.Api(project))


def test_another_pipeline_waits_for_the_runs_that_go_on(monkeypatch, tmp_path):
    """Other stages would change the tasks of a run that goes on: refused, with what to do; nothing is written."""
    drawn = {"stages": {"a": {"needs": [], "queue": None, "pool": None}}}

    class Busy:
        def tags(self):
            return ["drawing-of-another"]

        def runs(self):
            return ["a-run"]

    with pytest.raises(UserError, match="wait for its end"):
        following.ensure_read(Busy(), drawn, Project(tmp_path))
    assert not (tmp_path / ".local").exists()
