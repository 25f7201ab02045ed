"""Publishing beside a run: a process follows what happens, and publishes each model when it can."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from scripts import mlflow_server
from scripts.pipeline.live_metrics import LiveMetric
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import UserError
from scripts.registry import publisher
from scripts.registry.gate import Gate
from scripts.registry.mlflow import RegistryError
from scripts.registry.provenance import Snapshot
from scripts.registry.publish import Job
from scripts.registry.publisher import AT_ONCE, Process, Publisher, follow
from scripts.registry.receipts import NotPublishedYet, Published, not_published

STAGES = {
    "split": Stage("split", "", outputs={"train": "data/train", "test": "data/test"}),
    "fit": Stage("fit", "", {"train": "data/train"}, {"model": "models/a"}),
    "score": Stage("score", "", {"model": "models/a", "test": "data/test"}, metrics={"m": "metrics/m.json"}),
    "fit2": Stage("fit2", "", {"train": "data/train"}, {"model": "models2/b"}),
    "score2": Stage("score2", "", {"model": "models2/b", "test": "data/test"}, metrics={"m": "metrics2/m.json"}),
    "report": Stage("report", "", {"m": "metrics/m.json"}, {"html": "report/index.html"}),
}
ONE = Model("one", "models/a", "metrics/m.json", "fit", "score", "e", Gate("accuracy"))
TWO = Model("two", "models2/b", "metrics2/m.json", "fit2", "score2", "e", Gate("accuracy"))
PIPELINE = Pipeline("", STAGES, (ONE, TWO))
AWAY = "http://127.0.0.1:9"
"""Nothing listens there."""


@pytest.fixture(autouse=True)
def server(monkeypatch):
    """Use a server that is somebody else's: nothing of it is started or waited for."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def calls(monkeypatch):
    """Put a stand-in in the place of what talks to MLflow; return the list of calls to it.

    A call whose name is in `calls.failing` raises what is found there.
    """

    class Calls(list):
        def __init__(self):
            super().__init__()
            self.failing = {}

    made = Calls()

    class StandIn:
        def __init__(self, job, model):
            self.model = model
            self.stages = job.pipeline.leading_to(model.scorer)

        def __getattr__(self, name):
            def call(*arguments):
                made.append((name, self.model.name, *arguments))
                if error := made.failing.get((name, self.model.name)):
                    raise error
                return Published(self.model.name, "1", "Production", "why", "accuracy", 0.5, "Production", True)

            return call

    monkeypatch.setattr(publisher, "Publication", StandIn)
    return made


def job(project, *models):
    return Job(project, PIPELINE, models, {}, Snapshot("abc", {}), {"fit": [], "fit2": []}, "me")


@pytest.fixture
def process(project, calls):
    """Return the process's work for both models, and the list of its answers."""
    answers = []
    return Process(job(project, ONE, TWO), answers.append), answers


def ended(*stages):
    return [{"ended": stage} for stage in stages]


def without_greeting(calls):
    return [call for call in calls if call[0] != "end_abandoned"]


# --- when


def test_a_model_is_uploaded_when_it_is_made_and_published_when_it_is_scored(process, calls):
    """The file is sent while its scorer runs; the version waits for the score."""
    work, answers = process
    work.take(ended("split"))
    assert calls == []
    work.take(ended("fit"))
    assert without_greeting(calls) == [("upload", "one")] and answers == []
    work.take(ended("score"))
    assert without_greeting(calls) == [("upload", "one"), ("publish", "one")]
    assert [answer["published"]["model"] for answer in answers] == ["one"]


def test_pictures_are_drawn_while_dvc_takes_over_what_the_scorer_left(process, calls):
    """As soon as a model's scorer has left its files, their pictures are drawn; not if it has ended already."""
    work, _ = process
    work.take([*ended("split", "fit"), {"made": "fit"}, {"made": "score"}])
    assert without_greeting(calls) == [("upload", "one"), ("draw_ahead", "one")]
    work.take([{"made": "score2"}, *ended("fit2", "score2")])
    assert ("draw_ahead", "two") not in calls and ("publish", "two") in calls


def test_nothing_is_done_twice(process, calls):
    """Whatever ends after a model was published, its file is not sent and its version not looked at again."""
    work, _ = process
    for stage in ("split", "fit", "fit2", "score", "report", "score2"):
        work.take(ended(stage))
    work.take([{"finish": True}])
    assert without_greeting(calls) == [("upload", "one"), ("upload", "two"), ("publish", "one"), ("publish", "two")]


def test_what_is_scored_already_is_published_at_once(process, calls):
    """A model whose stages were all up to date, or ended in the same moment, needs no call of its own for its file."""
    work, _ = process
    work.take(ended("split", "fit", "score"))
    assert without_greeting(calls) == [("publish", "one")]


def test_at_a_good_end_all_models_are_published(process, calls):
    """A run that ended well has all models, also one of whose stages nothing was heard."""
    work, answers = process
    work.take([{"finish": True}])
    assert without_greeting(calls) == [("publish", "one"), ("publish", "two")] and len(answers) == 2


def test_at_a_bad_end_only_scored_models_are_published(process, calls):
    """After a failure the models that were scored are published; runs that were begun for others are given up."""
    work, answers = process
    work.take([*ended("split", "fit", "fit2", "score"), {"finish": False}])
    assert without_greeting(calls) == [("publish", "one"), ("give_up", "two")] and len(answers) == 1


# --- live metrics


def metrics(stage, *points):
    return [{"stage": stage, "step": step, "values": {name: value}} for name, step, value in points]


def test_live_metrics_of_a_moment_are_logged_in_one_call(process, calls):
    """Many lines of a stage become one call, to each model that the stage leads to."""
    work, _ = process
    points = [("loss", step, 1 / (step + 1)) for step in range(50)]
    work.take(metrics("fit", *points))
    assert without_greeting(calls) == [("log_live", "one", points)]


def test_a_stage_of_two_models_logs_to_both(process, calls):
    """A stage that leads to two models has its curves in the runs of both; one that leads to none has them in none."""
    work, _ = process
    work.take([*metrics("split", ("rows", 0, 5)), *metrics("report", ("pages", 0, 3))])
    assert without_greeting(calls) == [("log_live", "one", [("rows", 0, 5)]), ("log_live", "two", [("rows", 0, 5)])]


def test_very_many_live_metrics_are_logged_in_pieces(process, calls):
    """No call has more values than a server takes in one."""
    work, _ = process
    work.take(metrics("fit", *[("loss", step, 0.5) for step in range(2 * AT_ONCE + 1)]))
    assert [len(call[2]) for call in without_greeting(calls)] == [AT_ONCE, AT_ONCE, 1]


def test_live_metrics_come_before_the_end_of_their_stage(process, calls):
    """Values and the end of a stage in one moment: the run has the curve before the model's file is sent."""
    work, _ = process
    work.take([*ended("split", "fit"), *metrics("fit", ("loss", 0, 0.5))])
    assert [call[0] for call in without_greeting(calls)] == ["log_live", "upload"]


def test_live_metrics_are_given_up_once_and_publishing_is_not(process, calls):
    """A server that does not take them is asked once, and that is said once; the models are still published."""
    work, answers = process
    calls.failing["log_live", "one"] = RegistryError("it is away")
    for step in range(3):
        work.take(metrics("split", ("rows", step, 5)))
    assert without_greeting(calls) == [("log_live", "one", [("rows", 0, 5)])]
    assert answers == [{"note": "live metrics are not logged: it is away"}]
    work.take(ended("split", "fit", "score"))
    assert answers[1]["published"]["model"] == "one"


# --- the server


def test_a_local_server_is_waited_for_once_before_the_first_call(process, calls, monkeypatch):
    """What comes up beside the stages is waited for here, and runs that a killed run left are ended first."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setattr(mlflow_server, "wait", lambda: calls.append("wait"))
    work, _ = process
    work.take(ended("split"))
    assert calls == []
    work.take(ended("fit"))
    work.take(ended("score"))
    greeting = ["wait", ("end_abandoned", "one"), ("end_abandoned", "two")]
    assert calls == [*greeting, ("upload", "one"), ("publish", "one")]


def test_another_server_is_not_waited_for(process, calls, monkeypatch):
    """Only the clone's own server can be coming up."""
    monkeypatch.setattr(mlflow_server, "wait", lambda: calls.append("wait"))
    process[0].take([{"finish": True}])
    assert "wait" not in calls and ("end_abandoned", "one") in calls


def test_a_server_that_does_not_come_up_is_the_reason_of_each_model(process, calls, monkeypatch):
    """Both models are said not to be published, with what to do; nothing is sent."""

    def wait():
        raise UserError("the local MLflow server ended")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setattr(mlflow_server, "wait", wait)
    work, answers = process
    work.take([*ended(*STAGES), {"finish": True}])
    assert calls == []
    assert [answer["error"].partition(":")[0] for answer in answers] == [
        "one is trained, but not published",
        "two is trained, but not published",
    ]


def test_a_failed_upload_is_left_to_publishing(process, calls):
    """A fault while the scorer runs costs nothing: publishing sends the file itself, and says why it cannot."""
    work, answers = process
    calls.failing["upload", "one"] = RegistryError("for a moment")
    work.take(ended("split", "fit"))
    assert answers == []
    work.take(ended("score"))
    assert answers[0]["published"]["model"] == "one"


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (RegistryError("it has no room left"), {"passing": True}),
        (UserError("it has no room left"), {}),
        (not_published(ONE, "it has no room left"), {}),
        (not_published(ONE, "it has no room left", NotPublishedYet), {"passing": True}),
    ],
    ids=["of the registry", "of a file", "said already", "of the registry, said already"],
)
def test_a_model_that_cannot_be_published_is_said_in_a_sentence(process, calls, error, passing):
    """The sentence says why a model is not published, and what to do, and whether it is a server's fault, which may
    pass; the other model is published."""
    work, answers = process
    calls.failing["publish", "one"] = error
    work.take([*ended(*STAGES), {"finish": True}])
    assert answers[0] == {
        "error": "one is trained, but not published: it has no room left; 'make run' publishes it once that works, "
        "without training",
        **passing,
    }
    assert answers[1]["published"]["model"] == "two"


ODD = [KeyError("accuracy"), IndexError(), TypeError("a\nb\x1b[2J"), RuntimeError("x" * 5000), OSError(5, "odd")]


@pytest.mark.parametrize("error", ODD, ids=[type(error).__name__ for error in ODD])
def test_an_error_in_the_code_is_said_with_its_place(process, calls, caplog, error):
    """What nobody foresaw is one line with its kind, its words and its place; the traceback is kept, and no repetition
    is said to mend it. The other model is published.
    """
    work, answers = process
    calls.failing["publish", "one"] = error
    work.take([*ended(*STAGES), {"finish": True}])
    told = answers[0]["error"]
    kind, words = type(error).__name__, " ".join(str(error).replace("\x1b", "?").replace("\n", "?").split())[:300]
    assert told.startswith(f"one is trained, but not published: {kind}: {words or 'without a word'} (")
    assert re.search(
        r"\(tests/unit/registry/test_publisher\.py:\d+\), which is an error in scripts/ and not yours", told
    )
    assert told.endswith("the next run ends with it as well: report it, with .local/logs/publish.log")
    assert told.isprintable() and "'make run'" not in told
    assert "Traceback (most recent call last)" in caplog.text and kind in caplog.text
    assert answers[1]["published"]["model"] == "two"


@pytest.mark.parametrize("where", ["upload", "log_live", "give_up", "end_abandoned"])
def test_an_error_in_the_code_beside_publishing_ends_nothing(process, calls, caplog, where):
    """Wherever such an error arises, it is kept in the log, and what else can be done is done."""
    work, answers = process
    calls.failing[where, "one"] = KeyError("accuracy")
    work.take(ended("split", "fit"))
    work.take(metrics("fit", ("loss", 0, 0.5)))
    work.take([{"finish": False}])
    told = [answer for answer in answers if "KeyError: 'accuracy' (tests/" in str(answer)]
    assert len(told) == (where == "log_live") + (where == "end_abandoned") and "KeyError" in caplog.text


def test_a_run_that_cannot_be_given_up_is_left(process, calls):
    """A server that is away at the end of a failed run is no second failure: the next run ends what is left."""
    work, answers = process
    calls.failing["give_up", "one"] = RegistryError("it is away")
    work.take([{"finish": False}])
    assert without_greeting(calls) == [("give_up", "one"), ("give_up", "two")] and answers == []


# --- the file of events


def test_events_are_followed_as_they_are_written(tmp_path, monkeypatch):
    """Each look gives what was added since the last one; half a line waits for its other half."""
    monkeypatch.setattr(publisher, "PAUSE", 0)
    path = tmp_path / "events"
    with path.open("a") as file:
        print('{"ended": "a"}\n{"ended": "b"}\n{"en', end="", file=file, flush=True)
        events = follow(path)
        assert next(events) == [{"ended": "a"}, {"ended": "b"}]
        print('ded": "c"}\n{"finish": true}', file=file, flush=True)
    assert list(events) == [[{"ended": "c"}, {"finish": True}]]


# --- a real process


@pytest.fixture
def a_run(project, docker, monkeypatch):
    """Return a function that makes the run's side of publishing; `models` are those that the process is to publish."""

    def make(*models):
        monkeypatch.setattr(Job, "of", classmethod(lambda cls, *arguments: job(project, *models)))
        return Publisher(project, PIPELINE, [ONE], {})

    return make


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_process_runs_until_the_run_has_finished(a_run, project):
    """It hears of all that happens, publishes what there is, and leaves nothing behind."""
    with a_run() as run:
        run.begin()
        first = run._process
        run.begin()
        assert run._process is first, "one process a run"
        run.metric("fit", LiveMetric({"loss": float("nan")}, 3))
        run.ended("fit")
        written = (project.publish / publisher.EVENTS).read_text().splitlines()
        assert json.loads(written[0])["step"] == 3 and json.loads(written[1]) == {"ended": "fit"}
        assert run.finish() == []
        assert first.returncode == 0
    assert not project.publish.exists()


def test_a_model_that_cannot_be_published_ends_the_run_in_its_sentence(a_run, project, capfd):
    """With a server that is away the run says of each model that it is there and not published, and why.

    That live metrics were not logged is no failure: it is said in a note.
    """
    (project.root / "models").mkdir()
    (project.root / "models" / "a").write_text("weights")
    with a_run(ONE, TWO) as run:
        run.begin()
        run.metric("fit", LiveMetric({"loss": 0.5}, 0))
        with pytest.raises(UserError) as told:
            run.finish()
    lines = str(told.value).splitlines()
    assert lines[0].startswith(f"one is trained, but not published: the MLflow server {AWAY} did not ")
    assert lines[1].startswith("error: two is trained, but not published: ")
    assert "note: live metrics are not logged: the MLflow server" in capfd.readouterr().out


def test_a_model_that_is_published_is_said_where_another_one_is_not(a_run, tmp_path, monkeypatch, capfd):
    """Of two models, the line of the one that is in production comes before the error of the other one."""
    published = Published("one", "3", "Production", "it is better", "accuracy", 0.5, "Production", True)
    answers = [{"published": published._asdict()}, {"error": "two is trained, but not published"}]
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "".join(f"{json.dumps(each)}\n" for each in answers) + "END\n")
    program.chmod(0o755)
    monkeypatch.setattr(publisher.sys, "executable", str(program))
    with a_run(ONE, TWO) as run:
        run.begin()
        with pytest.raises(UserError, match=r"^two is trained, but not published$"):
            run.finish()
    assert "one version 3 is published: Production: it is better\n" in capfd.readouterr().out


def test_the_process_ends_with_its_run(a_run, project):
    """A run that ends in any way, without a last word, leaves no publishing process and no folder."""
    with pytest.raises(KeyboardInterrupt), a_run() as run:
        run.begin()
        pid = run._process.pid
        raise KeyboardInterrupt
    assert not is_alive(pid) and not project.publish.exists()


def test_what_the_process_had_started_ends_with_it(a_run, docker, project):
    """The container that measures a version is removed with the process, and so is what it worked on."""
    docker.does("container ls", "echo measuring")
    (project.score / "score").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), a_run() as run:
        run.begin()
        raise KeyboardInterrupt
    assert "container rm --force measuring" in docker.asked and not project.score.exists()


def test_the_process_ends_when_its_run_is_killed(a_run):
    """The process watches a pipe that the run holds: the kernel closes it however the run ends."""
    with a_run() as run:
        run.begin()
        run._process.stdin.close()
        assert run._process.wait(60) == -signal.SIGTERM


def test_a_process_that_is_killed_is_said_in_a_sentence(a_run):
    """A process that did not end by itself is an error of the run, and the sentence says how it ended."""
    with a_run() as run:
        run.begin()
        os.kill(run._process.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"the publishing process was killed \(signal 9\); expected it to end by"):
            run.finish()


def test_a_process_that_cannot_begin_is_said_in_a_sentence(a_run, project, monkeypatch):
    """An error before there is any model to publish is said as such: its words, its place, and where the rest is."""
    monkeypatch.setattr(publisher.pickle, "dumps", lambda job: b"no pickle")
    with a_run() as run:
        run.begin()
        with pytest.raises(
            UserError, match=r"^nothing is published: UnpicklingError: .* \(scripts/registry/publisher\.py:"
        ):
            run.finish()
    assert "UnpicklingError" in (project.logs / publisher.LOG).read_text() and not project.publish.exists()


def test_a_process_that_says_nothing_is_said_in_a_sentence(a_run, tmp_path, monkeypatch):
    """A process that ended by itself, badly and without a word, is an error that no repetition is said to mend."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(publisher.sys, "executable", str(program))
    with a_run() as run:
        run.begin()
        with pytest.raises(UserError, match=r"the publishing process ended with exit code 3; expected .*'make doctor'"):
            run.finish()


def test_the_process_hears_of_a_stages_files_before_dvc_has_them(a_run, project):
    """Of what a stage comes to, the process is told the moment from which its files can be read."""
    with a_run() as run:
        run.begin()
        for step in ("start", "border", "cache"):
            run.fact("step", stage="fit", step=step, at=0.0)
        run.fact("published", models=[])
        assert (project.publish / "events.jsonl").read_text() == '{"made": "fit"}\n'


def test_what_the_run_uses_is_noted_as_it_begins(project, monkeypatch):
    """The snapshot is taken while DVC plans; what git cannot say ends the run before a stage begins, and only then."""

    def fails(cls, *arguments):
        raise UserError("git is away")

    monkeypatch.setattr(Job, "of", classmethod(fails))
    with Publisher(project, PIPELINE, [ONE], {}) as run, pytest.raises(UserError, match="git is away"):
        run.begin()
    with Publisher(project, PIPELINE, [ONE], {}):
        pass


def test_nothing_is_started_without_models(project):
    """A pipeline without models, or a run of stages that lead to none, has no publishing process."""
    with Publisher(project, PIPELINE, [], {}) as run:
        run.begin()
        run.ended("fit")
        run.metric("fit", LiveMetric({"loss": 1}, 0))
        assert not run.has_begun and run.publish_all() == []


def test_nothing_is_started_if_the_registry_has_all(project, monkeypatch):
    """If each model has its receipt, what the registry has is returned, and no process is started for it."""
    found = Published("one", "3", "Staging", "why", "accuracy", 0.5, "Archived", False)
    monkeypatch.setattr(publisher, "receipt", lambda *arguments: found)
    with Publisher(project, PIPELINE, [ONE], {}) as run:
        assert run.publish_all() == [found] and not run.has_begun


def test_published_models_come_in_the_pipelines_order(a_run, monkeypatch):
    """Whichever was published first, the report has the models as the template has them."""
    found = [Published(name, "1", "Staging", "why", "accuracy", 0.5, "Staging", True) for name in ("two", "one")]
    with a_run() as run:
        run._models = [ONE, TWO]
        run.begin()
        monkeypatch.setattr(run, "finish", lambda: found)
        assert [each.model for each in run.publish_all()] == ["one", "two"]


def test_a_job_survives_its_way_to_the_process(project, tmp_path):
    """All that a job holds can be sent to another process, and is the same there."""
    sent = job(project, ONE, TWO)
    got = publisher.pickle.loads(publisher.pickle.dumps(sent))
    assert got == sent and isinstance(got.project.root, Path)
