"""Four runs at once in two clones, one of them killed."""

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import Clone
from tests.killing import UNDISTURBED, VICTIMS, from_nothing, left_behind, name_models, result

pytestmark = pytest.mark.docker


def waiting(clone: Clone) -> subprocess.Popen[str]:
    """A second run of a clone, which waits for the first."""
    environ = {key: value for key, value in os.environ.items() if key != "PWD"} | {"WAIT": "1"}
    return subprocess.Popen(
        ["make", "run"], cwd=clone.path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("make", "train fits"),
        ("docker client of make", "train fits"),
        ("stage container", "train fits"),
        ("publisher", "half of the model is uploaded"),
        ("runner", "the decision is half written"),
        ("MLflow server", "files are added to the run"),
    ],
)
def test_a_kill_harms_no_other_run(clone_at: Callable[[str], Clone], victim: str, point: str) -> None:
    """The other clone's runs end well, and so does the run that waited for the killed one; all give the same."""
    one, other = (clone_at(f"{name} {victim}") for name in ("one", "other"))
    for clone in (one, other):
        name_models(clone, UNDISTURBED)
    with (
        from_nothing(one, point, UNDISTURBED) as killed,
        from_nothing(other, point, UNDISTURBED) as lives,
    ):
        second = [waiting(clone) for clone in (one, other)]
        for run in second:
            assert "waiting for its end" in run.stdout.readline()
        assert VICTIMS[victim](killed)
        killed.let_go()
        lives.let_go()
        printed = [run.communicate()[0] for run in second]
    assert [run.returncode for run in second] == [0, 0], printed
    assert lives.make.returncode == 0, lives.said()
    assert left_behind(one) == left_behind(other) == []
    assert result(one, UNDISTURBED) == result(other, UNDISTURBED)
