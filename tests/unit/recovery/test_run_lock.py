"""Who changes a clone's files holds its lock; others are told, or wait."""

import subprocess
import sys
import textwrap

import pytest

from scripts.project import ROOT, UserError
from scripts.recovery import run_lock


@pytest.fixture
def holder(project):
    """Starts processes that hold the lock as `make run` until their standard input ends; each is killed at the end."""
    started = []

    def start(ending=False):
        code = f"""
            import sys
            from pathlib import Path
            from scripts.project import Project
            from scripts.recovery import run_lock, signals
            with run_lock.held("make run", Project(Path(sys.argv[1]))):
                [call() for call in signals.on_signal if {ending}]
                print("held", flush=True)
                sys.stdin.read()
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(project.root)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_is_told_who_holds_it(project, holder, monkeypatch):
    """While one holds the lock, another one ends with who has it since when, and how to wait."""
    monkeypatch.setattr(run_lock, "PATIENCE", 0)
    holder()
    with pytest.raises(
        UserError, match=r"^make run is going on in this clone since .*; expected its end first: .*WAIT=1"
    ):
        run_lock.held("make push", project).__enter__()


def test_the_lock_ends_with_its_holder(project, holder):
    """The kernel drops the lock of a holder that is killed, and the next one learns that it did not end well."""
    first = holder()
    first.kill()
    first.wait()
    with run_lock.held("make push", project) as ended_well:
        assert not ended_well
    with run_lock.held("make push", project) as ended_well:
        assert ended_well


def test_a_holder_that_is_ending_is_waited_for(project, holder, monkeypatch, capsys):
    """One that has been told to stop is given time for it, and whoever waits says so."""
    monkeypatch.setattr(run_lock, "PATIENCE", 0)
    monkeypatch.setattr(run_lock, "SAYS_AFTER", 0)
    first = holder(ending=True)
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: first.stdin.close())
    with run_lock.held("make push", project):
        pass
    assert capsys.readouterr().out.count("it is ending: waiting for its end ...") == 1


def test_with_wait_it_is_waited_for(project, holder, monkeypatch, capsys):
    """With WAIT=1 another command waits for the end of the first, which it names once."""
    monkeypatch.setenv("WAIT", "1")
    monkeypatch.setattr(run_lock, "PATIENCE", 0)
    first = holder()
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: first.stdin.close())
    with run_lock.held("make push", project):
        pass
    assert capsys.readouterr().out.count("waiting for its end ...") == 1


def test_who_only_looks_keeps_the_next_one_waiting_and_marks_nothing(project, holder, monkeypatch):
    """Two may look at once; what they learn of a holder that was killed, the next holder still learns."""
    monkeypatch.setattr(run_lock, "PATIENCE", 0)
    first = holder()
    with pytest.raises(UserError, match="make run is going on in this clone since "):
        run_lock.watched(project).__enter__()
    first.kill()
    first.wait()
    with run_lock.watched(project) as ended_well, run_lock.watched(project):
        assert not ended_well
        monkeypatch.setattr(run_lock, "ENDING_PATIENCE", 0)
        with pytest.raises(UserError):
            run_lock.held("make run", project).__enter__()
    with run_lock.held("make run", project) as ended_well:
        assert not ended_well
