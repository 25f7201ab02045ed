"""What a run makes of a `dvc repro` that fails: tried again where the engine is at fault, told where the user is."""

import os

import pytest

from scripts import heal, run
from scripts.project import UserError

AWAY = "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@pytest.fixture
def dvc(tmp_path, monkeypatch):
    """Puts a `dvc` in DVC's place that prints and exits as told, once for each pair; gives what it was asked for."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "LOG", tmp_path / "run.log")
    monkeypatch.setattr(heal, "stop_stages", lambda: False)
    monkeypatch.setattr(heal, "keep_dvc_lock", lambda: True)
    monkeypatch.setattr(run, "ran_out_of_memory", lambda stage, since: False)
    monkeypatch.setattr(run.time, "sleep", lambda seconds: None)

    def answer(*calls):
        lines = ["#!/bin/sh", f'cd {tmp_path}; echo "$*" >> asked', "n=$(wc -l < asked)"]
        for number, (text, code) in enumerate(calls, 1):
            (tmp_path / str(number)).write_text(f"Running stage 'train':\n{text}\n")
            lines.append(f"[ $n != {number} ] || {{ cat {number}; exit {code}; }}")
        (tmp_path / "dvc").write_text("\n".join(lines) + "\n")
        (tmp_path / "dvc").chmod(0o755)
        return lambda: len((tmp_path / "asked").read_text().splitlines())

    return answer


def test_a_fault_of_the_engine_is_tried_again(dvc):
    """An engine that does not answer costs no run, if it answers the next time."""
    asked = dvc((AWAY, 255), ("", 0))
    assert run.reproduce([]) == ["train"]
    assert asked() == 2


def test_it_is_not_tried_for_ever(dvc):
    """An engine that stays away ends the run in a sentence after three tries."""
    asked = dvc(
        *[(f"{AWAY}\nERROR: failed to reproduce 'train': failed to run: docker run ..., exited with 125", 255)] * 5
    )
    with pytest.raises(UserError, match="stage train could not be started, Cannot connect to the Docker daemon"):
        run.reproduce([])
    assert asked() == 3


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ("error: train: n_estimators is 'x'; expected a number", "train: n_estimators is 'x'; expected a number"),
        (
            "docker: Error response from daemon: No such image: stages/train:1.\nexited with 125",
            "'make build' builds it",
        ),
        ("ERROR: exited with 124", "stage train took longer than"),
        ("ERROR: exited with 137", "stage train was killed from outside"),
        ("ERROR: exited with 1", "stage train crashed with exit code 1"),
        (f"the stage printed {AWAY}\nERROR: exited with 1", "stage train crashed with exit code 1"),
    ],
)
def test_what_the_user_must_mend_is_not_tried_again(dvc, printed, sentence):
    """Bad input, a missing image, a timeout, a kill and a crash are told at once, each in its own sentence."""
    asked = dvc((printed, 255))
    with pytest.raises(UserError) as told:
        run.reproduce([])
    assert sentence in str(told.value)
    assert asked() == 1


def test_too_much_memory_is_told_from_a_kill(dvc, monkeypatch):
    """A stage that the engine saw go over its limit is told with that limit's name."""
    monkeypatch.setattr(run, "ran_out_of_memory", lambda stage, since: stage == "train")
    dvc(("ERROR: exited with 137", 255))
    with pytest.raises(UserError, match=r"killed for more memory than .*: set TRAIN_MEMORY in \.env"):
        run.reproduce([])
