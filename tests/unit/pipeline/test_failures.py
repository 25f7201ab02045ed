"""Why a stage failed is told from what Docker and DVC say of it, not from the stage's own words."""

import pytest

from scripts.pipeline import failures

ENDED = "ERROR: failed to reproduce 'fit': failed to run: docker run fit, exited with {}"
RESET = "docker: Error response from daemon: connection reset by peer."


@pytest.mark.parametrize(
    ("printed", "again"),
    [
        ([RESET, ENDED.format(125)], True),
        ([RESET, ENDED.format(1)], False),
        ([RESET, ENDED.format(2)], False),
        ([RESET, "exited with 125", ENDED.format(1)], False),
        (["connection reset", ENDED.format(125)], False),
        ([RESET], False),
        ([], False),
    ],
)
def test_only_dockers_own_failure_is_tried_again(printed, again):
    """A stage that prints what Docker prints when it fails, and fails, has failed."""
    assert failures.is_transient(printed) is again


@pytest.mark.parametrize(
    ("code", "ran", "told"),
    [
        (124, 3, "took longer than 2s"),
        (137, 13, "took longer than 2s"),
        (137, 1, "was killed"),
        (143, 13, "was killed"),
    ],
)
def test_a_stage_that_does_not_end_when_told_to_took_too_long(project, monkeypatch, code, ran, told):
    """After the time limit a stage is told to end; one that must be killed for it took too long all the same."""
    monkeypatch.setenv("FIT_TIMEOUT", "2s")
    said = failures.why([ENDED.format(code)], "fit", project, starved=False, ran=ran)
    assert said.startswith(f"stage fit {told}")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (135, "a bus error, most often of a full /dev/shm"),
        (139, "a segmentation fault"),
        (134, "its own abort"),
        (132, "an instruction that this processor does not have"),
    ],
)
def test_a_signal_of_its_own_is_told_as_what_it_is(project, code, told):
    """A stage that did something wrong was not killed by anybody, and is not to be run again as it is."""
    said = failures.why([ENDED.format(code)], "fit", project, starved=False, ran=1)
    assert said.startswith(f"stage fit ended by {told}") and f"(exit code {code})" in said
    assert "killed" not in said and "run again" not in said
