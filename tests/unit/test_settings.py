"""The environment of a run: where a setting comes from, what follows from it, and what is refused."""

import importlib
import itertools
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest

from scripts import __main__, settings
from scripts.project import ROOT, Project, UserError

URI = "https://dagshub.com/me/repo.mlflow"
TOKEN = "s3cr3t-t0ken"
DAGSHUB = {"DAGSHUB_USER_NAME": "me", "DAGSHUB_TOKEN": TOKEN, "MLFLOW_TRACKING_URI": URI}
STAGES = ("fit", "my-score")


@pytest.fixture
def project(tmp_path):
    """A project with the real .env.example and two stages."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for stage in STAGES:
        (tmp_path / "stages" / stage).mkdir(parents=True)
        (tmp_path / "stages" / stage / "Dockerfile").touch()
    project = Project(tmp_path)
    project.env_example.write_bytes((ROOT / ".env.example").read_bytes())
    return project


@pytest.fixture
def load(project, monkeypatch):
    """`settings.load` for that project, with a .env of the given text and these variables of the shell."""
    limits = {f"{settings.prefix(stage)}_{limit}" for stage in STAGES for limit in settings.LIMITS}
    for name in settings.read_dotenv(project.env_example).keys() | limits:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLONE", "0123456789ab")

    def call(dotenv="", **shell):
        project.env.write_bytes(dotenv.encode())
        for name, value in shell.items():
            monkeypatch.setenv(name, value)
        return settings.load(project)

    return call


def dotenv(values):
    """The text of a .env file."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


def refusal(load, text):
    with pytest.raises(UserError) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Where a setting comes from -------------------------------------------------------------------------------------


def test_the_shell_overrides_dotenv_and_dotenv_the_example(load):
    """A setting is the shell's, or else .env's, or else .env.example's."""
    default = settings.read_dotenv(ROOT / ".env.example")["MLFLOW_PORT"]
    assert load()["MLFLOW_PORT"] == default
    assert load("MLFLOW_PORT=6000\n")["MLFLOW_PORT"] == "6000"
    assert load("MLFLOW_PORT=6000\n", MLFLOW_PORT="7000")["MLFLOW_PORT"] == "7000"


def test_an_empty_setting_counts_as_none(load):
    """An empty value, in the shell or in .env, gives way to the next in line; what is empty everywhere is not set."""
    default = settings.read_dotenv(ROOT / ".env.example")["MLFLOW_PORT"]
    assert load("MLFLOW_PORT=\nDVC_REMOTE_URL=\n")["MLFLOW_PORT"] == default
    settled = load("MLFLOW_PORT=6000\n", MLFLOW_PORT="", DVC_REMOTE_URL="", FIT_MEMORY="")
    assert settled["MLFLOW_PORT"] == "6000" and "DVC_REMOTE_URL" not in settled
    assert settled["FIT_MEMORY"] == settled["STAGE_MEMORY"]


def test_a_project_without_dotenv_has_the_defaults(load, project):
    """No .env means the same as an empty one."""
    expected = load()
    project.env.unlink()
    assert settings.load(project) == expected


def test_a_dotenv_is_created_once(project, capsys):
    """A first .env is a copy of .env.example that only its owner can read; an existing one is never touched."""
    assert settings.ensure_dotenv(project)
    assert project.env.read_bytes() == project.env_example.read_bytes()
    assert project.env.stat().st_mode & 0o777 == 0o600
    project.env.write_text("MLFLOW_PORT=6000\n")
    assert not settings.ensure_dotenv(project)
    assert project.env.read_text() == "MLFLOW_PORT=6000\n"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("DAGSHUB_TOKN", "DAGSHUB_TOKEN"),
        ("MLFLOW_TRACKING_URL", "MLFLOW_TRACKING_URI"),
        ("MY_SCROE_MEMORY", "MY_SCORE_MEMORY"),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_suggestion(load, wrong, meant):
    """A variable of .env that nothing reads is refused with its name and the name that was meant, not its value."""
    message = refusal(load, f"{wrong}={TOKEN}\n")
    assert wrong in message and f"did you mean {meant}" in message and TOKEN not in message


def test_an_optional_room_adds_its_settings(load, project):
    """A room's env.example has names, comments and defaults as .env.example has; without the room they are unknown."""
    room = project.root / "scripts" / "greetings"
    with pytest.raises(UserError, match="GREETINGS_PORT, which nothing reads"):
        load("GREETINGS_PORT=7\n")
    room.mkdir(parents=True)
    (room / "env.example").write_text("# Where it listens.\nGREETINGS_PORT=1\nGREETINGS_KEY=\n")
    assert load()["GREETINGS_PORT"] == "1"
    found = load("GREETINGS_PORT=7\nGREETINGS_KEY=secret\n")
    assert (found["GREETINGS_PORT"], found["GREETINGS_KEY"]) == ("7", "secret")


def test_a_rooms_settings_are_its_own(project, monkeypatch):
    """Verbs of the core, and of another room, do without a room's settings: there may be a password in them."""
    for room, verb in (("greetings", "greet"), ("farewells", "wave")):
        (project.root / "scripts" / room / "verbs").mkdir(parents=True)
        (project.root / "scripts" / room / "verbs" / f"{verb}.py").touch()
        (project.root / "scripts" / room / "env.example").write_text(f"{room.upper()}_KEY=\n")
    monkeypatch.setattr(__main__, "ROOT", project.root)
    monkeypatch.setattr(settings, "of_rooms", partial(settings.of_rooms, project))
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(NO_SECRETS=set()))
    assert __main__.hidden("greet") == {"FAREWELLS_KEY"}
    assert __main__.hidden("wave") == {"GREETINGS_KEY"}
    assert __main__.hidden("run") == {"FAREWELLS_KEY", "GREETINGS_KEY"}


def test_a_variable_that_nothing_reads_is_refused(load):
    """A variable that resembles none is refused with the advice to remove it."""
    message = refusal(load, "QWXZ=1\n")
    assert "QWXZ" in message and "remove it" in message


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'a # b'", "a # b"),
        ('"a # b"', "a # b"),
        ("a#b", "a#b"),
        ("pa$word", "pa$word"),
        ("${HOME}", "${HOME}"),
        ('"$HOME/x"', "$HOME/x"),
        ("it's", "it's"),
        ('say"hi"', 'say"hi"'),
        ('"it\'s"', "it's"),
        ("'say \"hi\"'", 'say "hi"'),
        ("'a b'", "a b"),
        ("a b", "a b"),
        ("a=b==", "a=b=="),
        ("C:\\new", "C:\\new"),
        ("grün", "grün"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_value_arrives_as_it_is_written(load, written, value, end):
    """#, quotes, $, spaces and backslashes in a value survive, whatever the line ends are."""
    settled = load(f"# mine{end}STAGE_CPUS=2{end}AWS_SECRET_ACCESS_KEY={written}{end}")
    assert settled["AWS_SECRET_ACCESS_KEY"] == value
    assert settled["STAGE_CPUS"] == "2"


def test_a_dotenv_with_a_byte_order_mark_is_read(load):
    """A .env that Windows' editor saved, with a byte order mark, means the same."""
    assert load("\ufeffMLFLOW_PORT=6000\n")["MLFLOW_PORT"] == "6000"


def test_a_dotenv_that_may_be_cut_off_is_refused(load):
    """A value in a last line without its end could be half of one; a comment could not."""
    assert refusal(load, "STAGE_PIDS=2").startswith(".env ends within a line; expected a line break after the last one")
    assert load("STAGE_PIDS=25\n# the en")["STAGE_PIDS"] == "25"


@pytest.mark.parametrize("line", ["MLFLOW_PORT: 6000", "MLFLOW_PORT 6000", "MLFLOW_PORT"])
def test_a_line_that_sets_nothing_is_refused(load, line):
    """A line of .env that is no NAME=value is never ignored."""
    assert ".env, line 2:" in refusal(load, f"STAGE_CPUS=2\n{line}\n")


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_a_stages_own_limit_overrides_the_common_one(load):
    """MY_SCORE_MEMORY is that of my-score, STAGE_MEMORY that of all others, wherever the two are set."""
    settled = load("STAGE_MEMORY=3g\nMY_SCORE_MEMORY=4g\n")
    assert (settled["MY_SCORE_MEMORY"], settled["FIT_MEMORY"]) == ("4g", "3g")
    assert load("MY_SCORE_MEMORY=4g\n", STAGE_MEMORY="8g")["MY_SCORE_MEMORY"] == "4g"
    assert load("MY_SCORE_MEMORY=4g\n", MY_SCORE_MEMORY="5g")["MY_SCORE_MEMORY"] == "5g"


def test_a_renamed_stage_has_limits(load, project):
    """Which limits there are follows from the folders of stages/: a new name is known at once, an old one no more."""
    (project.stages / "fit").rename(project.stages / "learn")
    assert load("LEARN_MEMORY=4g\n")["LEARN_MEMORY"] == "4g"
    assert "FIT_MEMORY" in refusal(load, "FIT_MEMORY=4g\n")


def test_every_stage_has_every_limit(load):
    """With an empty .env each stage has a limit of each kind."""
    settled = load()
    for stage in STAGES:
        for limit in settings.LIMITS:
            assert settled[f"{settings.prefix(stage)}_{limit}"], (stage, limit)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("1.5", 1.5), ("2s", 2), ("30m", 1800), ("1.5h", 5400), ("1d", 86400), ("0", 0), ("soon", None)],
)
def test_a_time_limit_is_read_as_timeout_reads_it(given, seconds):
    """Seconds, minutes, hours and days; what `timeout` would refuse is no time."""
    assert settings.seconds(given) == seconds


@pytest.fixture
def runner_of(tmp_path):
    """Return a function that calls the script that starts the runner; it returns what docker was called with."""
    log = tmp_path / "log"
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\nprintf "%s " "$@" >> {log}\nif [ "$1" = info ]; then echo linux; fi\n'
        'case "$*" in *"cat /seen/nonce") cat .local/nonce ;; esac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    always = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNNER_SOCKET": "/var/run/docker.sock"}

    def call(verb, **variables):
        environ = os.environ | always | {"PYTHON_IMAGE": "python"} | variables
        subprocess.run(["sh", "scripts/host/runner.sh", verb], cwd=ROOT, env=environ, check=True, capture_output=True)
        return log.read_text()

    return call


def test_the_shells_limit_of_one_stage_reaches_the_runner(runner_of):
    """`MY_SCORE_MEMORY=4g make run` counts: the script that starts the runner passes it on, like the common one."""
    called = runner_of("status", STAGE_MEMORY="3g", MY_SCORE_MEMORY="4g")
    assert "--env STAGE_MEMORY " in called and "--env MY_SCORE_MEMORY " in called


def test_a_shell_knows_who_commits(runner_of):
    """In `make shell` git and DVC have the name and address that the user's own git has; no other verb needs them."""
    variables = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "A User"}
    variables |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "user@example.com"}
    assert "GIT_" not in runner_of("status", **variables)
    called = runner_of("shell", **variables)
    for who in ("AUTHOR", "COMMITTER"):
        assert f"--env GIT_{who}_NAME=A User " in called and f"--env GIT_{who}_EMAIL=user@example.com " in called


# --- MLflow and DVC's remote ----------------------------------------------------------------------------------------


def test_nothing_set_is_local(load):
    """Without credentials runs go to this clone's own server and data to the remote of .dvc/config."""
    settled = load()
    assert settings.is_local(settled)
    assert settled["MLFLOW_NETWORK"] == "pipeline-0123456789ab"
    assert "DVC_REMOTE_URL" not in settled and "AWS_ACCESS_KEY_ID" not in settled


def test_the_local_server_has_a_password(load, project, monkeypatch):
    """It is made once, and is nobody's else: a password for another server is not given to it."""
    monkeypatch.setenv("HOST_USER", "ann")
    settled = load(dotenv({"MLFLOW_TRACKING_PASSWORD": "of another server"}))
    user, password = settings.mlflow_login(settled)
    assert (user, len(password) >= 20) == ("ann", True)
    assert project.mlflow_password.read_text() == password
    assert project.mlflow_password.stat().st_mode & 0o777 == 0o600
    assert settings.mlflow_login(load()) == (user, password)


def test_two_commands_make_one_password(project):
    """Of two that find none, the first one's is used by both, and nothing else is left."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: settings.local_password(project), range(16)))
    assert len(found) == 1
    assert [path.name for path in project.local.iterdir()] == ["mlflow-password"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_dagshub_complete_is_dagshub_for_all(load, slash):
    """With DagsHub's three settings runs, models and data go there, with the user's name and token."""
    settled = load(dotenv(DAGSHUB | {"MLFLOW_TRACKING_URI": URI + slash}))
    assert not settings.is_local(settled)
    expected = {
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": TOKEN,
        "DVC_REMOTE_URL": "s3://dvc",
        "AWS_ENDPOINT_URL": "https://dagshub.com/me/repo.s3",
        "AWS_ACCESS_KEY_ID": TOKEN,
        "AWS_SECRET_ACCESS_KEY": TOKEN,
    }
    assert settled["MLFLOW_TRACKING_URI"].rstrip("/") == URI
    assert {name: settled.get(name) for name in expected} == expected


def test_another_remote_beside_dagshub_is_kept(load):
    """A remote of the user's own is used beside DagsHub's MLflow, with its own credentials."""
    own = {"DVC_REMOTE_URL": "s3://mine/x", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    settled = load(dotenv(DAGSHUB | own))
    assert {name: settled[name] for name in own} == own
    assert "AWS_ENDPOINT_URL" not in settled
    assert settled["MLFLOW_TRACKING_PASSWORD"] == TOKEN


@pytest.mark.parametrize(
    "names",
    [names for size in (1, 2) for names in itertools.combinations(DAGSHUB, size)],
    ids=lambda names: "+".join(names),
)
def test_dagshub_half_configured_is_refused(load, names):
    """Some of DagsHub's settings without the others are refused with the names of those missing, without the token."""
    message = refusal(load, dotenv({name: DAGSHUB[name] for name in names}))
    missing = set(DAGSHUB) - set(names)
    assert {name for name in missing if name not in message} == set()
    assert "set" in message and TOKEN not in message


@pytest.mark.parametrize(
    "uri",
    [
        "https://dagshub.com/me/repo",
        "https://dagshub.com/me/repo.git",
        "https://dagshub.com/me.mlflow",
        "dagshub.com/me/repo.mlflow",
    ],
)
def test_a_wrong_address_beside_a_token_is_refused(load, uri):
    """A token beside an address that is not DagsHub's MLflow is refused with what is expected, without the token."""
    message = refusal(load, dotenv(DAGSHUB | {"MLFLOW_TRACKING_URI": uri}))
    assert "MLFLOW_TRACKING_URI" in message and "https://dagshub.com/<owner>/<repo>.mlflow" in message
    assert TOKEN not in message


@pytest.mark.parametrize("address", [f"https://me:{TOKEN}@dagshub.com/me/repo.mlflow", f"http://{TOKEN}@mlflow.test"])
def test_an_address_with_a_token_in_it_is_refused(load, address):
    """A user or token in MLFLOW_TRACKING_URI, which is printed and logged, is refused without being shown."""
    message = refusal(load, f"MLFLOW_TRACKING_URI={address}\n")
    assert "MLFLOW_TRACKING_PASSWORD" in message and TOKEN not in message


@pytest.mark.parametrize("address", ["me:{}@host:5000", "{}@dagshub.com/me/repo.mlflow", "postgresql://me:{}@db/x"])
def test_a_token_in_what_is_no_address_is_not_shown(load, address):
    """As above, where the address is none of a server at all."""
    message = refusal(load, f"MLFLOW_TRACKING_URI={address.format(TOKEN)}\n")
    assert "MLFLOW_TRACKING_PASSWORD" in message and TOKEN not in message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.1.2.3", "0.0.0.0"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_an_address_that_no_container_can_reach_is_refused(load, host, scheme):
    """localhost is the container itself: it is refused with what to use instead; the link of `make ui` is not shown."""
    if scheme or "[" not in host:
        message = refusal(load, f"MLFLOW_TRACKING_URI={scheme}{host}:5000/?password={TOKEN}\n")
        assert "the container itself" in message and TOKEN not in message


@pytest.mark.parametrize("uri", ["http://[::1", "http://host:abc", "https://host:99999"])
def test_no_address_at_all_is_refused(load, uri):
    """What cannot be read as an address is refused in one sentence."""
    assert "MLFLOW_TRACKING_URI is no address" in refusal(load, f"MLFLOW_TRACKING_URI={uri}\n")


@pytest.mark.parametrize(
    "uri",
    [
        "file:./mlruns",
        "./mlruns",
        "/srv/mlruns",
        "mlruns",
        "C:\\mlruns",
        "sqlite:///mlflow.db",
        f"postgresql://db/x?password={TOKEN}",
        "databricks",
        "databricks://profile",
        "s3://bucket/x",
        "http//host:5000",
    ],
)
def test_what_is_no_server_is_refused(load, uri):
    """Whatever else MLflow's client takes, a folder or a database, is refused before any stage runs."""
    message = refusal(load, f"MLFLOW_TRACKING_URI={uri}\n")
    assert f"MLFLOW_TRACKING_URI is {uri.partition('?')[0]!r}, which is no server's address; expected one" in message
    assert "leave it empty for the local server" in message and TOKEN not in message


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("mlflow:5000", "http://mlflow:5000"),
        ("mlflow.example.com", "http://mlflow.example.com"),
        ("mlflow.example.com:5000/prefix", "http://mlflow.example.com:5000/prefix"),
        ("dagshub.com/me/repo.mlflow", URI),
        ("dagshub.com/me/repo", URI),
        ("http://host:5000/#/experiments/1", "http://host:5000"),
        ("http://host:5000/#", "http://host:5000"),
        (f"http://host:5000/?password={TOKEN}#/models/x", "http://host:5000"),
        ("http://host:5000/prefix/#/models/x", "http://host:5000/prefix"),
        ("http://host:5000/api/2.0/mlflow", "http://host:5000"),
        ("http://host:5000/health", "http://host:5000"),
        ("https://dagshub.com/me/repo", URI),
        ("https://dagshub.com/me/repo.git", URI),
        ("https://dagshub.com/me/repo/experiments", URI),
        (f"{URI}/#/experiments/0", URI),
    ],
)
def test_an_address_that_is_nearly_right_is_refused_with_the_right_one(load, uri, right):
    """A page's address, or one without http://, is refused before any stage runs, with the address to set."""
    message = refusal(load, f"MLFLOW_TRACKING_URI='{uri}'\n")
    assert message.startswith("MLFLOW_TRACKING_URI is ") and message.endswith(f": set {right} in .env")
    assert TOKEN not in message
    assert load(dotenv({"MLFLOW_TRACKING_URI": right, "MLFLOW_TRACKING_PASSWORD": "x"}))["MLFLOW_TRACKING_URI"] == right


@pytest.mark.parametrize("uri", ["http:/host:5000", "http:host", "http://", "https://:5000", "http://a b:5000"])
def test_an_address_without_a_host_is_refused(load, uri):
    """An address that names no host is refused with the form of one that does."""
    assert re.search(
        r"which names no host; expected one like https?://host:5000", refusal(load, f"MLFLOW_TRACKING_URI={uri}\n")
    )


@pytest.mark.parametrize("uri", ["https://dagshub.com", "https://dagshub.com/me"])
def test_a_dagshub_address_without_a_repository_is_refused(load, uri):
    """DagsHub's server is a repository's: an address that names none is refused with the form of one."""
    assert "expected https://dagshub.com/<owner>/<repo>.mlflow" in refusal(load, f"MLFLOW_TRACKING_URI={uri}\n")


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:5000",
        "HTTP://Host",
        "https://host.example.com/prefix/x.mlflow",
        "http://[fd00::1]:5000",
        "http://a_b",
    ],
)
def test_a_servers_address_is_taken_as_it_is(load, uri):
    """Any http(s) address of a server will do, with a port and a path or without."""
    assert load(f"MLFLOW_TRACKING_URI={uri}/\n")["MLFLOW_TRACKING_URI"] == uri


def test_patience_with_servers_is_in_one_place(load):
    """How long MLflow's client and botocore wait is said in settings alone, not in the runner's image as well."""
    assert load().items() >= settings.PATIENCE.items()
    dockerfile = (ROOT / "Dockerfile.runner").read_text()
    assert [name for name in settings.PATIENCE if name in dockerfile] == []


def test_the_local_server_is_not_reached_by_a_proxy(load):
    """Behind a proxy NO_PROXY names the local server beside what it named before; without a proxy it is not set."""
    assert "NO_PROXY" not in load()
    settled = load(HTTP_PROXY="http://proxy.test:3128", NO_PROXY="intra.test")
    assert settled["NO_PROXY"] == settled["no_proxy"] == "intra.test,mlflow,localhost,127.0.0.1"


def test_another_mlflow_server_is_kept_as_it_is(load):
    """Another MLflow server is used with its own address, user and password; data stays where it is."""
    own = {
        "MLFLOW_TRACKING_URI": "https://mlflow.example.com",
        "MLFLOW_TRACKING_USERNAME": "you",
        "MLFLOW_TRACKING_PASSWORD": "pa#ss",
    }
    settled = load(dotenv(own))
    assert {name: settled[name] for name in own} == own
    assert not settings.is_local(settled) and "DVC_REMOTE_URL" not in settled


# --- Who and what publishes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "who"),
    [
        ({}, "unknown"),
        ({"HOST_USER": "ann"}, "ann"),
        (
            {"HOST_USER": "ann", "MLFLOW_TRACKING_USERNAME": "ann-at-work", "MLFLOW_TRACKING_PASSWORD": TOKEN},
            "ann-at-work",
        ),
        ({"HOST_USER": "ann", "MLFLOW_TRACKING_USERNAME": TOKEN, "MLFLOW_TRACKING_PASSWORD": TOKEN}, "ann"),
    ],
    ids=["nobody", "on the host", "at the server", "a token for a name"],
)
def test_who_publishes(environ, who):
    """A record names the user at the server or else the one on the host, and never a token."""
    assert settings.who(environ) == who


def test_the_commit_is_the_one_that_is_checked_out(project):
    """A commit is named in full; before the first one there is none."""
    assert settings.commit(project) == "none"
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "1"], cwd=project.root, check=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project.root, text=True).strip()
    assert settings.commit(project) == head
