"""A container that starts before its inputs are there sees and leaves what it otherwise would."""

import os
import shlex
import time

import pytest

from scripts.pipeline import prestart
from scripts.pipeline.stage import Stage
from scripts.project import ROOT

LOOK = Stage(
    "look", "stages/look:1", {"given": "in/given", "big": "in/big.txt"}, {"out": "made/sub/out"}, section={"n": 3}
)
WAITS = f"echo before; echo '{prestart.WAITING.decode().strip()}'; read go; "
IN, MADE = ".local/early/look/in", ".local/work/look/made/sub"
"""Where on the host the container of LOOK has its inputs, and what it makes."""


@pytest.fixture
def start(project, docker, monkeypatch):
    """Return a function that starts a shell's commands early, in the place of the container of a stage."""
    for limit, value in {"MEMORY": "1g", "CPUS": "1", "PIDS": "9", "TIMEOUT": "60"}.items():
        monkeypatch.setenv(f"LOOK_{limit}", value)
    monkeypatch.setenv("STAGE_USER", "1:1")
    (project.root / "in" / "given").mkdir(parents=True)
    (project.root / "in" / "given" / "one.txt").write_text("1")
    (project.root / "in" / "big.txt").write_text("2")

    def begin(script):
        docker.does("run", script)
        return prestart.Container(project, LOOK, cwd=project.root, env=os.environ.copy())

    return begin


def rest(project):
    """Return what is in the project beside the machine's own things."""
    return sorted(path.name for path in project.root.iterdir() if not path.name.startswith("."))


# --- which stages


def test_only_places_and_the_timeout_differ(start, project, docker):
    """What starts early is the `docker run` of dvc.yaml, but for the places of its files and who counts the time."""
    container = start("exit 0")
    container.run()
    container.give_up()
    started = shlex.split(next(line for line in docker.asked if line.startswith("run ")))
    command = LOOK.command().replace("\\\n", "").replace("${look}", "--n 3").replace("$PWD", str(project.root))
    typed = shlex.split(command)
    typed = [os.path.expandvars(word) for word in typed[typed.index("docker") + 1 :]]
    gone, new = [word for word in typed if word not in started], [word for word in started if word not in typed]
    source = f"type=bind,src={project.root}"
    assert gone == [
        f"{source}/in/given,dst=/work/in/given,readonly",
        f"{source}/in/big.txt,dst=/work/in/big.txt,readonly",
    ]
    assert new == ["--interactive", "--env", "STARTED_EARLY=1", f"{source}/.local/early/look,dst=/work,readonly"]


@pytest.mark.parametrize(
    ("stage", "can"),
    [
        (LOOK, True),
        (Stage("a", "", {}, {"out": "a/out"}), False),
        (Stage("a", "", {"i": "a/in"}, {"out": "a/out"}), False),
        (Stage("a", "", {"i": "ab/in"}, {"out": "a/out"}), True),
        (None, False),
    ],
    ids=["inputs", "no inputs", "an input among its outputs", "a neighbour's input", "not of the template"],
)
def test_which_stages_can_start_early(stage, can):
    """A stage that waits for inputs which can be put there later; any other stage begins when its turn comes."""
    assert prestart.can_start(stage) is can


def test_the_kit_says_what_is_waited_for():
    """The words of the two ends of the pipe, the runner's and the base image's, are the same."""
    kit = (ROOT / "stages" / "base" / "waiting.py").read_text()
    assert prestart.WAITING.decode().strip() in kit and prestart.STARTED_EARLY in kit


# --- what it gets and gives


def test_it_gets_its_inputs(start, project, capfd):
    """Files and folders are there when it begins; what it makes is there, to be taken over, until it is given up."""
    container = start(f"{WAITS} cat {IN}/given/one.txt {IN}/big.txt > {MADE}/out")
    assert container.run() == 0
    assert capfd.readouterr().out == "before\nwas started early\n"
    assert (project.root / MADE / "out").read_text() == "12"
    container.give_up()
    assert rest(project) == ["in"] and not project.prestart.exists() and not (project.work / "look").exists()


def test_a_link_in_a_folder_stays_a_link(start, project):
    """What a symbolic link among the inputs points to is no input: it is not shown."""
    (project.root / "secret").write_text("secret")
    (project.root / "in" / "given" / "link").symlink_to(project.root / "secret")
    container = start(f"{WAITS} readlink {IN}/given/link > {MADE}/out")
    assert container.run() == 0
    assert (project.root / MADE / "out").read_text() == f"{project.root}/secret\n"
    container.give_up()


def test_its_folder_is_empty_at_first(start, project):
    """What a run that was killed has left in the stage's folders, whatever its mode, is gone."""
    for folder in (project.prestart / "look" / "in", project.work / "look" / "made" / "sub"):
        folder.mkdir(parents=True)
        (folder / "old").touch()
        folder.chmod(0)
    container = start(f"{WAITS} ls {IN} {MADE} > ls")
    assert container.run() == 0
    container.give_up()
    assert "old" not in (project.root / "ls").read_text()


@pytest.mark.parametrize(
    "script", ["exit 1", "echo something else; exit 0", "exec sleep 60"], ids=["fails", "ends", "never says a word"]
)
def test_one_that_does_not_wait_cannot_be_used(start, project, monkeypatch, script):
    """A program that ends, or does not say in time that it waits, gets nothing; what it wrote is gone."""
    monkeypatch.setattr(prestart, "PATIENCE", 0.2)
    container = start(f"echo wrong > {MADE}/out; {script}")
    assert container.run() is None
    container.give_up()
    assert rest(project) == ["in"] and not project.prestart.exists() and not (project.work / "look").exists()


# --- how it ends


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 3", 3), ("kill -9 $$", 137), ("exec sleep 60", 124)],
    ids=["a crash", "a kill", "a time-out"],
)
def test_how_it_ended_is_a_shells_number(start, monkeypatch, script, code):
    """An exit code as it is, 128 and the signal after a kill, and 124 after the time limit, as `timeout` gives it."""
    if code == 124:
        monkeypatch.setenv("LOOK_TIMEOUT", "0.2")
    container = start(WAITS + script)
    assert container.run() == code
    container.give_up()


def test_time_is_counted_from_when_the_inputs_are_there(start, monkeypatch):
    """Waiting costs a stage nothing of its time limit."""
    monkeypatch.setenv("LOOK_TIMEOUT", "1")
    container = start(f"{WAITS} exit 0")
    time.sleep(1.2)
    assert container.run() == 0
    container.give_up()


def test_without_a_limit_it_may_take_any_time(start, monkeypatch):
    """A limit of 0 is none, as for `timeout`."""
    monkeypatch.setenv("LOOK_TIMEOUT", "0")
    container = start(f"{WAITS} sleep 0.3; exit 0")
    assert container.run() == 0
    container.give_up()


def test_a_limit_that_timeout_would_refuse_is_left_to_it(start, monkeypatch):
    """With a limit that is no time the command of dvc.yaml is to run, which says so."""
    monkeypatch.setenv("LOOK_TIMEOUT", "soon")
    container = start(WAITS)
    assert container.run() is None
    container.give_up()


def test_one_that_is_not_needed_is_gone_at_the_end(start, project, docker):
    """A stage that turns out to be up to date leaves no container, and nothing that was put into one."""
    docker.does("run", f'{WAITS} touch "{project.root}/ran"')
    options = {"cwd": project.root, "env": os.environ.copy()}
    with prestart.started(project, LOOK, **options) as container:
        assert container is not None and project.prestart.exists()
    assert not project.prestart.exists()
    with prestart.started(project, None, **options) as container:
        assert container is None
