"""A run's report is made when it ends, however it ends; a run with nothing to do makes none."""

import json

import pytest
import yaml

from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.registry.gate import Gate
from scripts.registry.receipts import Published
from scripts.registry.records import State, Version
from scripts.report import facts, history, listener, outcome
from tests.report.schema import faults

FIT = Stage("fit", "stages/fit:2", {"x": "a.csv"}, {"out": "m/model"}, section={"depth": 3})
SCORE = Stage("score", "stages/score:1", {"model": "m/model"}, metrics={"metrics": "s/metrics.json"})
IRIS = Model("iris", "m/model", "s/metrics.json", "fit", "score", "flowers", Gate("accuracy"))
PIPELINE = Pipeline("", {"fit": FIT, "score": SCORE}, [IRIS])
PLAN = {"needs": {"fit": [], "score": ["fit"]}, "up_to_date": [], "jobs": 2}


def entry(image, depth=3, digest="1"):
    deps = [{"path": "a.csv", "md5": digest * 32}]
    return {
        "cmd": ["empty", f"docker run {image} --depth {depth}"],
        "deps": deps,
        "params": {"params.yaml": {"fit": {"depth": depth}}},
    }


def lock(**stages):
    return yaml.safe_dump({"schema": "2.0", "stages": stages})


@pytest.fixture
def recorder(project, docker, monkeypatch):
    """Return a function that gives the room's listener of a run of `make run-fit`."""
    monkeypatch.setenv("FIT_MEMORY", "2g")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.com/mlflow")
    return lambda: listener.listen(project, PIPELINE, ["fit"])


def only_run(project):
    """Return the clone's only run, and see that it is whole."""
    (run,) = history.runs(project)
    folder = history.folder(project) / run["id"]
    assert {path.name for path in folder.iterdir()} == {history.RUN, history.PAGE}
    found = json.loads((folder / history.RUN).read_text())
    assert found == run and list(faults(found)) == []
    return run


def test_a_run_with_nothing_to_do(recorder, project):
    """It leaves nothing, and starts no process: nothing of it is new."""
    run = recorder()
    run.fact(
        "published",
        models=[Published("iris", "1", "Production", "why", "accuracy", 0.9, "Production", False)._asdict()],
    )
    run.end("well", "")
    assert not history.folder(project).exists()


def test_how_long_it_still_takes(recorder, project, monkeypatch):
    """A run says what is left by the times of its stages in the runs before; the first one says nothing."""
    clock = [1000.0]
    monkeypatch.setattr(listener.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(listener.time, "time", lambda: clock[0])

    def run_once():
        run, told = recorder(), []
        run.fact("plan", **PLAN)
        for stage, took in (("fit", 8), ("score", 2)):
            run.fact("begins", stage=stage)
            told.append(run.progress())
            clock[0] += took
            run.fact("ends", stage=stage, result="ran")
        run.end("well", "")
        clock[0] += 60
        return told

    assert run_once() == ["", ""]
    assert run_once() == ["about 10 s left", "about 2 s left"]


@pytest.mark.parametrize(("end", "error"), [("well", ""), ("failed", "it is wrong"), ("interrupted", "SIGINT")])
def test_a_run_has_a_report(recorder, project, capsys, end, error):
    """However it ends there is a page and run.json, and a line that says where; the process beside it has ended."""
    project.dvc_lock.write_text(lock(fit=entry("stages/fit:1", depth=2)))
    run = recorder()
    run.fact("plan", **PLAN)
    watch = run._watch
    run.fact("begins", stage="fit")
    project.dvc_lock.write_text(lock(fit=entry(FIT.image)))
    run.fact("ends", stage="fit", result="ran")
    run.end(end, error)
    found = only_run(project)
    assert (found["outcome"], found["error"], found["command"]) == (end, error, "make run-fit")
    assert found["stages"][0]["why"] == ["parameter fit.depth: 2 -> 3", "code: image stages/fit:2"]
    assert found["stages"][0]["memory"]["limit"] == "2g" and found["stages"][1]["result"] == "not run"
    assert capsys.readouterr().out == f"report    .local/runs/{found['id']}/report.html\n"
    assert watch.poll() is not None


def test_the_process_beside_a_run_is_killed(recorder, project):
    """The run has its report all the same, without memory and processor time."""
    run = recorder()
    run.fact("plan", **PLAN)
    run._watch.kill()
    run._watch.wait()
    run.end("well", "")
    assert only_run(project)["stages"][0]["memory"]["peak"] is None


def test_a_run_beside_the_last_one_that_ended_well(recorder, project):
    """A run that failed in between is not what the next one is compared with."""
    (project.root / "s").mkdir()
    for value, end in ((0.5, "well"), (0.6, "failed"), (0.7, "well")):
        (project.root / "s/metrics.json").write_text(json.dumps({"accuracy": value}))
        run = recorder()
        run.fact("plan", **PLAN)
        run.end(end, "")
    assert [each["metrics"][0]["last"] for each in history.runs(project)] == [None, 0.5, 0.5]


def test_a_run_that_failed_before_any_stage(recorder, project):
    """It has a report with its reason."""
    recorder().end("failed", "the server is away")
    assert only_run(project)["error"] == "the server is away"


def test_a_run_that_published_alone(recorder, project, monkeypatch):
    """What was published now, without any stage, is worth a report."""
    monkeypatch.setattr(outcome.glance, "version", lambda name, number: None)
    run = recorder()
    run.fact(
        "published", models=[Published("iris", "1", "Production", "why", "accuracy", 0.9, "Production", True)._asdict()]
    )
    run.end("well", "")
    assert only_run(project)["models"][0]["reason"] == "why"


# --- what is known at the end


WHY = [
    ("it is new", None, entry(FIT.image)),
    ("parameter fit.depth: 2 -> 3", entry(FIT.image, 2), entry(FIT.image)),
    ("input a.csv", entry(FIT.image, digest="0"), entry(FIT.image)),
    ("code: image stages/fit:2", entry("stages/fit:1"), entry(FIT.image)),
    ("its block in dvc.yaml", entry(FIT.image), entry(FIT.image) | {"cmd": f"{FIT.image} --other"}),
]


@pytest.mark.parametrize(("why", "was", "now"), WHY, ids=[why for why, *_ in WHY])
def test_why_a_stage_ran(project, why, was, now):
    """The one thing that differs from what dvc.lock had is named, and nothing else."""
    project.dvc_lock.write_text(lock(fit=now))
    before = lock(fit=was).encode() if was else b""
    assert outcome.known(project, PIPELINE, before, [], None, online=False)["why"]["fit"] == [why]


@pytest.mark.parametrize(
    "text", ["", "<<<<<<< a", "[]", "stages: [1]", "stages: {fit: 3}", "stages: {fit: {deps: 1, params: []}}"]
)
def test_a_lock_that_is_none(project, text):
    """A dvc.lock that is half written, or of another kind, says nothing, and fails nothing."""
    project.dvc_lock.write_text(text)
    found = outcome.known(project, PIPELINE, text.encode(), [], None, online=False)
    assert found["lineage"]["files"] == []


def test_metrics_beside_those_before(project, monkeypatch):
    """Each metric has its value in the last run that ended well, and in the version that was compared with it."""
    (project.root / "s").mkdir()
    (project.root / "s/metrics.json").write_text('{"accuracy": 0.9, "loss": NaN, "new": 1, "text": "x"}')
    metric = {"file": "s/metrics.json", "name": "accuracy", "value": 0.8, "last": None, "production": None}
    well = {"outcome": "well", "metrics": [metric], "params": [{"name": "fit.depth", "value": "2", "last": None}]}
    record = {
        "turn": 2,
        "champion": 1,
        "champion_score": 0.7,
        "p_value": 0.04,
        "at": "now",
        "by": "ann\x1b[2J",
        "rule": {},
    }
    tags = {"decision_record": json.dumps(record)}
    state = State.of([Version(1, "Production", "r1", {}), Version(2, "Staging", "r2", tags)], {}, {})
    monkeypatch.setattr(outcome.glance, "version", lambda name, number: state.version(number))
    monkeypatch.setattr(outcome.reader, "metrics", lambda run: {"accuracy": 0.7} if run == "r1" else {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.com")
    published = [Published("iris", "2", "Staging", "why", "accuracy", 0.9, "Staging", True)._asdict()]
    found = outcome.known(project, PIPELINE, b"", published, well, online=True)
    metrics = {each["name"]: (each["value"], each["last"], each["production"]) for each in found["metrics"]}
    assert metrics == {"accuracy": (0.9, 0.8, 0.7), "loss": ("nan", None, None), "new": (1, None, None)}
    assert found["params"] == [{"name": "fit.depth", "value": "3", "last": "2"}]
    (model,) = found["models"]
    assert model["evidence"] == {"champion": 1, "champion_score": 0.7, "p_value": 0.04, "at": "now", "by": "ann?[2J"}
    assert (model["run"], model["page"]) == ("r2", None)


@pytest.mark.parametrize(
    "answer", [ValueError("no"), outcome.requests.ConnectionError(), outcome.records.Unclear("x"), None]
)
def test_a_registry_that_says_nothing(project, monkeypatch, answer):
    """The decision is told all the same, without its evidence."""

    def version(name, number):
        if answer:
            raise answer

    monkeypatch.setattr(outcome.glance, "version", version)
    published = [Published("iris", "2", "Staging", "why", "accuracy", float("nan"), "Staging", True)._asdict()]
    (model,) = outcome.known(project, PIPELINE, b"", published, None, online=True)["models"]
    assert (model["stage"], model["reason"], model["score"], model["evidence"]) == ("Staging", "why", "nan", {})
    assert list(faults(facts.run_of("2027-01-15_08-00-00", [], outcome="well", models=[model]))) == []
