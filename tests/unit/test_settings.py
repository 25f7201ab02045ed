"""The environment of a run: where a setting comes from, what follows from it, and what is refused."""

import itertools
import os
import re
import subprocess

import pytest

from scripts import settings
from scripts.pipeline import images
from scripts.project import ROOT, UserError

URI = "https://dagshub.com/me/repo.mlflow"
TOKEN = "s3cr3t-t0ken"
DAGSHUB = {"DAGSHUB_USER_NAME": "me", "DAGSHUB_TOKEN": TOKEN, "MLFLOW_TRACKING_URI": URI}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`environment.load` with the real .env.example, a .env of the given text, and these variables of the shell."""
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    (tmp_path / ".env.example").write_bytes((ROOT / ".env.example").read_bytes())
    limits = {f"{settings.prefix(s)}_{limit}" for s in images.stage_names() for limit in settings.LIMITS}
    for name in settings.read_dotenv(ROOT / ".env.example").keys() | limits:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLONE", "0123456789ab")

    def call(dotenv="", **shell):
        (tmp_path / ".env").write_bytes(dotenv.encode())
        for name, value in shell.items():
            monkeypatch.setenv(name, value)
        return settings.load()

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


def test_the_shell_goes_before_dotenv_and_that_before_the_example(load):
    """A setting is the shell's, or else .env's, or else .env.example's."""
    default = settings.read_dotenv(ROOT / ".env.example")["MLFLOW_PORT"]
    assert load()["MLFLOW_PORT"] == default
    assert load("MLFLOW_PORT=6000\n")["MLFLOW_PORT"] == "6000"
    assert load("MLFLOW_PORT=6000\n", MLFLOW_PORT="7000")["MLFLOW_PORT"] == "7000"


def test_an_empty_setting_counts_as_none(load):
    """An empty value, in the shell or in .env, leaves the word to the next in line; one empty everywhere is unset."""
    default = settings.read_dotenv(ROOT / ".env.example")["MLFLOW_PORT"]
    assert load("MLFLOW_PORT=\nDVC_REMOTE_URL=\n")["MLFLOW_PORT"] == default
    settled = load("MLFLOW_PORT=6000\n", MLFLOW_PORT="", DVC_REMOTE_URL="", TRAIN_MEMORY="")
    assert settled["MLFLOW_PORT"] == "6000" and "DVC_REMOTE_URL" not in settled
    assert settled["TRAIN_MEMORY"] == settled["STAGE_MEMORY"]


def test_a_project_without_dotenv_has_the_defaults(load, tmp_path):
    """No .env is as good as an empty one."""
    expected = load()
    (tmp_path / ".env").unlink()
    assert settings.load() == expected


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("DAGSHUB_TOKN", "DAGSHUB_TOKEN"),
        ("MLFLOW_TRACKING_URL", "MLFLOW_TRACKING_URI"),
        ("TRIAN_MEMORY", "TRAIN_MEMORY"),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_suggestion(load, wrong, meant):
    """A variable of .env that nothing reads is refused with its name and the name that was meant, not its value."""
    message = refusal(load, f"{wrong}={TOKEN}\n")
    assert wrong in message and f"did you mean {meant}" in message and TOKEN not in message


def test_a_variable_of_no_use_is_refused_without_a_guess(load):
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
    settled = load(f"# mine{end}STAGE_CPUS=2{end}MLFLOW_TRACKING_PASSWORD={written}{end}")
    assert settled["MLFLOW_TRACKING_PASSWORD"] == value
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


def test_a_stages_own_limit_goes_before_the_common_one(load):
    """TRAIN_MEMORY is train's memory, STAGE_MEMORY that of all others, wherever the two are set."""
    settled = load("STAGE_MEMORY=3g\nTRAIN_MEMORY=4g\n")
    others = {name for name in images.stage_names() if name != "train"}
    assert settled["TRAIN_MEMORY"] == "4g"
    assert {settled[f"{settings.prefix(name)}_MEMORY"] for name in others} == {"3g"}
    assert load("TRAIN_MEMORY=4g\n", STAGE_MEMORY="8g")["TRAIN_MEMORY"] == "4g"
    assert load("TRAIN_MEMORY=4g\n", TRAIN_MEMORY="5g")["TRAIN_MEMORY"] == "5g"


def test_every_stage_has_every_limit(load):
    """With an empty .env each stage has a memory, a cpu and a process limit."""
    settled = load()
    for stage in images.stage_names():
        for limit in settings.LIMITS:
            assert settled[f"{settings.prefix(stage)}_{limit}"], (stage, limit)


def test_the_shells_limit_of_one_stage_reaches_the_runner(tmp_path):
    """`TRAIN_MEMORY=4g make run` counts: the script that starts the runner hands the variable on, as the common one."""
    log = tmp_path / "log"
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\nprintf "%s " "$@" >> {log}\nif [ "$1" = info ]; then echo linux; fi\n'
    )
    (tmp_path / "docker").chmod(0o755)
    environ = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RUNNER_SOCKET": "/var/run/docker.sock",
        "PYTHON_IMAGE": "python",
        "STAGE_MEMORY": "3g",
        "TRAIN_MEMORY": "4g",
    }
    subprocess.run(["sh", "scripts/host/runner.sh", "status"], cwd=ROOT, env=environ, check=True, capture_output=True)
    assert "--env STAGE_MEMORY " in log.read_text()
    assert "--env TRAIN_MEMORY " in log.read_text()


# --- MLflow and DVC's remote ----------------------------------------------------------------------------------------


def test_nothing_set_is_local(load):
    """Without credentials runs go to this clone's own server and data to the remote of .dvc/config."""
    settled = load()
    assert settings.is_local(settled)
    assert settled["MLFLOW_NETWORK"] == "pipeline-0123456789ab"
    assert "DVC_REMOTE_URL" not in settled and "AWS_ACCESS_KEY_ID" not in settled


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


def test_dagshub_with_another_remote_leaves_that_alone(load):
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
    """A token with an address that is not DagsHub's MLflow is refused with what is expected, and without the token."""
    message = refusal(load, dotenv(DAGSHUB | {"MLFLOW_TRACKING_URI": uri}))
    assert "MLFLOW_TRACKING_URI" in message and "https://dagshub.com/<owner>/<repo>.mlflow" in message
    assert TOKEN not in message


@pytest.mark.parametrize("address", [f"https://me:{TOKEN}@dagshub.com/me/repo.mlflow", f"http://{TOKEN}@mlflow.test"])
def test_an_address_with_a_token_in_it_is_refused(load, address):
    """A user or token in MLFLOW_TRACKING_URI, which is printed and logged, is refused without being shown."""
    message = refusal(load, f"MLFLOW_TRACKING_URI={address}\n")
    assert "MLFLOW_TRACKING_PASSWORD" in message and TOKEN not in message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_an_address_that_a_stage_cannot_reach_is_refused(load, host):
    """localhost is the container itself to a stage: refused with what to use instead."""
    assert "the container itself" in refusal(load, f"MLFLOW_TRACKING_URI=http://{host}:5000\n")


def test_the_runner_and_train_are_as_patient(load):
    """MLflow's client waits as long in train's image, which no environment reaches, as in the runner."""
    ours = {name: value for name, value in load().items() if name.startswith("MLFLOW_HTTP_")}
    trains = dict(re.findall(r"(MLFLOW_HTTP_\w+)=(\S+)", (ROOT / "stages" / "train" / "Dockerfile").read_text()))
    assert trains and trains == ours
    assert "MLFLOW_HTTP_" not in (ROOT / "Dockerfile.runner").read_text()


def test_the_local_server_is_not_reached_by_a_proxy(load):
    """Behind a proxy NO_PROXY names the local server, beside what it named before; without one it is left alone."""
    assert "NO_PROXY" not in load()
    settled = load(HTTP_PROXY="http://proxy.test:3128", NO_PROXY="intra.test")
    assert settled["NO_PROXY"] == settled["no_proxy"] == "intra.test,mlflow,localhost,127.0.0.1"


def test_another_mlflow_server_is_kept_as_it_is(load):
    """An MLflow server of the user's gets the user's address, name and password; data stays where it is."""
    own = {
        "MLFLOW_TRACKING_URI": "https://mlflow.example.com",
        "MLFLOW_TRACKING_USERNAME": "you",
        "MLFLOW_TRACKING_PASSWORD": "pa#ss",
    }
    settled = load(dotenv(own))
    assert {name: settled[name] for name in own} == own
    assert not settings.is_local(settled) and "DVC_REMOTE_URL" not in settled


# --- What a run adds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"mlflow": {"experiment": "e"}, "promotion": {"min_improvement": 0}},
        {"mlflow": {"experiment": "e", "model": "m"}, "promotion": {"min_improvement": "much"}},
        {"mlflow": {"experiment": "e", "model": "m"}, "promotion": {"min_improvement": None}},
    ],
    ids=["no sections", "no model", "a word", "null"],
)
def test_wrong_settings_of_the_registry_are_refused(params):
    """A run without the registry's settings in params.yaml stops with one line that names what it expects."""
    with pytest.raises(UserError, match=r"(mlflow|promotion).*; expected .*params\.yaml") as caught:
        settings.registry(params)
    assert "\n" not in str(caught.value)
