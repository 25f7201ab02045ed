"""`make shell`: what is typed there is DVC's own, and what DVC does not do is said."""

import os
import subprocess

import pytest

from scripts.verbs import shell

SAID = "'make publish' publishes their models"


@pytest.fixture
def typed(tmp_path):
    """What bash prints and says for a command, where `dvc` is a program that prints its arguments; `dvc fail` fails."""
    (tmp_path / "dvc").write_text('#!/bin/sh\necho "$@"\n[ "$1" != fail ]\n')
    (tmp_path / "dvc").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", shell.DVC: shell.AROUND_DVC}

    def call(command):
        return subprocess.run(["bash", "--norc"], input=command, env=environ, capture_output=True, text=True)

    return call


@pytest.mark.parametrize("command", ["dvc repro", "dvc repro fit --force", "bash -c 'dvc repro'"])
def test_stages_that_ran_are_not_published(typed, command):
    """After a `dvc repro` that ended well one line says how their models are published."""
    done = typed(command)
    assert done.returncode == 0 and "repro" in done.stdout
    assert done.stderr.count(SAID) == 1


@pytest.mark.parametrize("command", ["dvc status", "dvc repro --dry", "dvc repro --help", "dvc fail repro"])
def test_nothing_is_said_where_no_stage_has_run(typed, command):
    """Other commands, and those that fail, print what DVC prints."""
    assert SAID not in typed(command).stderr


def test_dvcs_exit_code_stays(typed):
    """A command that fails still fails."""
    assert typed("dvc fail").returncode == 1


def test_a_section_is_a_variable():
    """`${section}` in a command is a section's arguments; a dash, which bash takes for an operator, is a low line."""
    sections = {"fit": {"depth": 2, "warm": True}, "my-stage": {"seed": 1}}
    assert shell.variables(sections) == {"fit": "--depth 2 --warm", "my_stage": "--seed 1"}
