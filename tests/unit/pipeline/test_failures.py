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


TRACEBACK = """\
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/app/fit.py", line 7, in <module>
    main()
  File "/app/helper/rows.py", line 31, in read
    return json.loads(text)
  File "/usr/lib/python3.13/json/decoder.py", line 356, in raw_decode
    raise JSONDecodeError("Expecting value", s, err.value) from None
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
""".splitlines()


@pytest.mark.parametrize("before", [[], [*TRACEBACK[:4], "KeyError: 'a'", "", "During ...:", ""]])
@pytest.mark.parametrize("stage", ["fit", "fit@de"])
def test_a_crash_names_its_exception_and_the_line_of_the_stage(project, before, stage):
    """The last line of a run that crashed has the exception, and the place in the stage's own files that led to it."""
    said = failures.why([*before, *TRACEBACK, "bye", ENDED.format(1)], stage, project, starved=False)
    assert (
        f"stage {stage} crashed with exit code 1 (json.decoder.JSONDecodeError: Expecting value: line 1 column 1 "
        "(char 0), in stages/fit/helper/rows.py, line 31); expected 0"
    ) in said


@pytest.mark.parametrize("printed", [[], TRACEBACK[:1], TRACEBACK[:-1], ["Traceback (most recent call last):", "x: y"]])
def test_a_traceback_that_is_none_is_left_out(project, printed):
    """What only looks like a traceback, or is cut off, is not repeated."""
    said = failures.why([*printed, ENDED.format(1)], "fit", project, starved=False)
    assert said.startswith("stage fit crashed with exit code 1; expected 0")


@pytest.mark.parametrize(
    "words",
    [
        'could not select device driver "" with capabilities: [[gpu]]',
        "failed to create task: nvidia-container-cli: initialization error: nvml error: driver not loaded",
    ],
)
def test_an_engine_without_a_gpu_is_told(project, words):
    """What Docker says of a GPU that it does not have is told in words that say what is missing."""
    printed = [f"docker: Error response from daemon: {words}.", ENDED.format(125)]
    said = failures.why(printed, "fit", project, starved=False)
    assert said.startswith("stage fit asks for a GPU (gpus in its block), and the Docker engine has none")


@pytest.mark.parametrize(
    ("printed", "starved", "ran", "expected"),
    [
        ([ENDED.format(137)], False, 1, True),
        ([ENDED.format(143)], False, 1, True),
        ([ENDED.format(137)], True, 1, False),
        ([ENDED.format(137)], False, 61, False),
        (["error: bad input", ENDED.format(137)], False, 1, False),
        ([ENDED.format(124)], False, 61, False),
        ([ENDED.format(139)], False, 1, False),
        ([ENDED.format(1)], False, 1, False),
    ],
)
def test_a_stage_that_was_killed_from_outside_may_end_well(monkeypatch, printed, starved, ran, expected):
    """What kills a stage may pass, unless it is a limit of its own, or the stage's own words and codes."""
    monkeypatch.setenv("FIT_TIMEOUT", "60")
    assert failures.was_ended_from_outside(printed, "fit", starved=starved, ran=ran) is expected
