"""run.json says what a run was, from what the run noted as it went on."""

import itertools
import json

import pytest

from scripts.report import facts
from tests.report.conftest import BEGAN, NAME
from tests.report.schema import faults


def run_of(events, outcome="failed", **known):
    found = facts.run_of(NAME, events, outcome=outcome, **known)
    assert list(faults(found)) == []
    json.dumps(found, allow_nan=False)
    return found


def stages(run):
    return {stage["name"]: stage for stage in run["stages"]}


def test_what_happened_to_each_stage(events):
    """Each stage has its result, in the pipeline's order; one that failed the sentence and its last lines, harmless."""
    run = run_of(events, error="it is wrong", why={"fit": ["input a.csv"]})
    assert [(stage["name"], stage["result"]) for stage in run["stages"]] == [
        ("get", "up to date"), ("fit", "ran"), ("score", "failed")
    ]  # fmt: skip
    assert (run["command"], run["seconds"], run["jobs"], run["error"]) == ("make run", 12, 2, "it is wrong")
    found = stages(run)
    assert found["fit"]["why"] == ["input a.csv"]
    assert (found["score"]["sentence"], found["score"]["log"]) == ("it is wrong", ["one", "two"])


def test_the_parts_of_a_stages_time(events):
    """They follow each other without a gap, from when all that the stage needs is there, and add up to its time."""
    fit = stages(run_of(events))["fit"]
    assert fit["parts"] == {"waiting": 1, "image": 2, "start": 0.75, "run": 5, "border": 0.25, "cache": 1}
    spans = fit["spans"]
    assert (spans[0]["from"], spans[-1]["to"]) == (0, 10) and sum(fit["parts"].values()) == 10
    assert all(one["to"] == next["from"] for one, next in itertools.pairwise(spans))


@pytest.mark.parametrize("outcome", ["well", "failed", "interrupted", "killed", "running"])
def test_wherever_a_run_ends_it_is_whole(events, outcome):
    """After each fact that a run can note it is of the schema, and the parts of each stage add up to its time."""
    for end in range(len(events) + 1):
        for stage in run_of(events[:end], outcome)["stages"]:
            spans = stage["spans"]
            took = spans[-1]["to"] - spans[0]["from"] if spans else 0
            assert sum(stage["parts"].values()) == pytest.approx(took, rel=0.02, abs=0.005)
            assert all(one["to"] == after["from"] for one, after in itertools.pairwise(spans))


def test_a_stage_that_did_not_run(events):
    """One that was restored, or had not changed, is of the schema too; all its time is DVC's own."""
    begins = {"kind": "begins", "stage": "score", "at": BEGAN + 10}
    for result in ("restored", "unchanged"):
        ends = {"kind": "ends", "stage": "score", "result": result, "at": BEGAN + 12}
        score = stages(run_of([*events[:12], begins, ends], "well"))["score"]
        assert score["result"] == result and score["parts"] == dict.fromkeys(facts.PARTS, 0) | {"cache": 2}


def test_a_run_of_200_stages():
    """It is of the schema, and each stage's parts add up, whatever waits for whatever."""
    names = [f"s{at}" for at in range(200)]
    needs = {name: names[max(at - 3, 0) : at] for at, name in enumerate(names)}
    found = [{"kind": "plan", "at": BEGAN, "needs": needs, "up_to_date": [], "jobs": 2}]
    for at, name in enumerate(names):
        found += [{"kind": "begins", "stage": name, "at": BEGAN + at}]
        found += [{"kind": "ends", "stage": name, "result": "ran", "at": BEGAN + at + 0.9}]
    run = run_of(found, "well")
    assert len(run["stages"]) == 200
    for stage in run["stages"]:
        spans = stage["spans"]
        assert sum(stage["parts"].values()) == pytest.approx(spans[-1]["to"] - spans[0]["from"], rel=0.02)


def test_images_that_are_built_before_any_stage_begins(events):
    """A stage that could begin but for that waits for an image, and not for a core."""
    run = run_of([*events[:2], {"kind": "images", "at": BEGAN + 0.75}, *events[2:]])
    assert stages(run)["fit"]["parts"] == {
        "waiting": 0.25, "image": 2.75, "start": 0.75, "run": 5, "border": 0.25, "cache": 1
    }  # fmt: skip
    assert stages(run)["score"]["parts"]["image"] == 0


def test_a_stage_whose_container_nobody_saw(events):
    """Without the engine's word on it, Docker's start counts as a part of the run."""
    score = stages(run_of(events))["score"]
    assert score["parts"] == {"waiting": 0, "image": 0, "start": 0, "run": 1.5, "border": 0, "cache": 0.5}


@pytest.mark.parametrize("at", [0.5, 2, 3.4])
def test_a_stage_that_started_early(events, at):
    """Of a container that started before the stage's commands began, the rest of its time is the run."""
    for event in events:
        if event["kind"] == "container starts":
            event["at"] = BEGAN + at
    fit = stages(run_of(sorted(events, key=lambda event: event["at"])))["fit"]
    assert fit["parts"] == {"waiting": 1, "image": 2, "start": 0.25, "run": 5.5, "border": 0.25, "cache": 1}


def test_a_stage_that_the_engine_could_not_start(events):
    """What passes until it is tried again is waiting, and its parts still add up."""
    again = [
        {"kind": "retry", "stage": "fit", "at": BEGAN + 2},
        {"kind": "step", "stage": "fit", "step": "image", "at": BEGAN + 3},
    ]
    fit = stages(run_of([*events[:4], *again, *events[4:]]))["fit"]
    assert fit["parts"]["waiting"] == 2 and fit["parts"]["image"] == 1 and sum(fit["parts"].values()) == 10


def test_memory_and_processor(events):
    """The most memory that was seen, and the last word on processor time; nothing of what nobody looked at."""
    found = stages(run_of(events))
    assert found["fit"]["memory"] == {"peak": 300, "limit": "2g"} and found["fit"]["cpu"] == {
        "seconds": 4.25,
        "limit": "1",
    }
    assert found["score"]["memory"] == {"peak": None, "limit": None}


@pytest.mark.parametrize(
    ("end", "results"), [(5, ["up to date", "interrupted", "not run"]), (1, ["up to date", "not run", "not run"])]
)
@pytest.mark.parametrize("outcome", ["interrupted", "killed"])
def test_a_run_that_did_not_come_to_its_end(events, outcome, end, results):
    """What it had noted is there: a stage that ran did not end, the others did not begin."""
    run = run_of([event for event in events if event["at"] < BEGAN + end], outcome)
    assert [stage["result"] for stage in run["stages"]] == results


def test_a_run_that_goes_on(events):
    """A stage that has not ended runs, and has the parts of its time so far."""
    fit = stages(run_of(events[:8], "running"))["fit"]
    assert fit["result"] == "running" and fit["parts"]["run"] == 4


def test_a_run_that_began_nothing():
    """A run that failed before its first stage has its reason, and no stage."""
    run = run_of(
        [{"kind": "begin", "at": BEGAN, "command": "make run"}, {"kind": "end", "at": BEGAN + 1}], error="no server"
    )
    assert (run["stages"], run["error"], run["seconds"]) == ([], "no server", 1)


@pytest.mark.parametrize(
    "end",
    [
        "",
        '{"kind": "ends',
        "\n[]",
        "\nnull\n3",
        '\n{"kind": "uses"}',
        '\n{"at": 1}',
        '\n{"kind": "step", "at": "soon"}',
    ],
)
def test_a_line_that_is_cut_off(events, tmp_path, end):
    """What a kill left half written, or is no fact, costs none of the rest."""
    (tmp_path / "events").write_text("\n".join(map(json.dumps, events)) + end)
    assert run_of(facts.read(tmp_path / "events"))["seconds"] == 12
    assert facts.read(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("value", "found"), [(1, 1), (0.5, 0.5), (float("nan"), "nan"), (float("-inf"), "-inf"), ("1", None), (True, None)]
)
def test_a_number_that_json_has_not(value, found):
    """What is no finite number is a text; what is no number is none."""
    assert facts.number(value) == found and type(facts.number(value)) is type(found)
