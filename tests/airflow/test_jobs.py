"""Stages with other parameters in Airflow: what a run of them is given, and what comes of it."""

import hashlib
import subprocess
from types import SimpleNamespace

import pytest

from scripts.pipeline.elsewhere import Ended, Job
from scripts.project import Unavailable, UserError
from tests.unit.conftest import GIT, empty_repository, git, project, runner  # noqa: F401

api = pytest.importorskip("scripts.airflow.api", reason="the room is taken out")
attempt = pytest.importorskip("scripts.airflow.attempt")
drawing = pytest.importorskip("scripts.airflow.drawing")
following = pytest.importorskip("scripts.airflow.following")
jobs = pytest.importorskip("scripts.airflow.jobs")

DRAWN = {
    "stages": {
        "a": {"needs": [], "queue": None, "pool": None},
        "b": {"needs": ["a"], "queue": "gpu", "pool": "licences"},
        "c": {"needs": ["a"], "queue": None, "pool": None},
    }
}
THREE = [Job("b of trial 1", "b", "x: 1\n"), Job("a", "a", "x: 0\n"), Job("b of trial 2", "b", "x: 2\n")]
FAILED = {"exc_type": "AirflowFailException", "exc_value": "error: b: x is 2; expected 1"}


def instance(task, place, state, **more):
    return {"task_id": task, "map_index": place, "state": state, "try_number": 1, "duration": 2.5, **more}


class FakeApi:
    """Answers as Airflow does, one after the other; an exception is raised."""

    def __init__(self, *answers, former=(), log=()):
        self._answers, self.former, self._log = iter(answers), list(former), log
        self.began, self.stopped, self._last = [], [], ("queued", [])

    def runs(self, dag):
        return self.former

    def begin(self, run, conf, dag):
        self.began.append((run, conf, dag))

    def stop(self, run, dag):
        self.stopped.append(run)

    def state(self, run, dag):
        self._last = next(self._answers, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last[0]

    def tasks(self, run, dag):
        return self._last[1]

    def log(self, run, task, number, dag, place):
        return [{"event": "x"}, *({"error_detail": [each]} for each in self._log)]


@pytest.fixture
def place(project, git, monkeypatch):  # noqa: F811
    """Return a function that returns the place for jobs of a repository with one commit, which asks this API."""
    project.params.write_text("x: 0\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "x")
    monkeypatch.setattr(following, "LOOKS", 0)
    monkeypatch.setattr(following, "ensure_known", lambda api, pipeline, project: DRAWN)
    return lambda fake: jobs.Airflow(project, SimpleNamespace(), fake)


def test_a_job_is_a_patch_in_the_task_of_its_queue(place, project, git):  # noqa: F811
    """Each job goes to the task of its stage's queue and pool, with the patch that makes the commit's params.yaml into
    its own; one without a difference has none. The clone's file stays as it was."""
    done = ("success", [instance("job", 0, "success"), *(instance("job-gpu-licences", n, "success") for n in (0, 1))])
    fake = FakeApi(done)
    assert sorted(filter(None, place(fake).run(THREE))) == [Ended(n, 2.5) for n in range(3)]
    ((_, conf, dag),) = fake.began
    assert dag == drawing.JOBS and conf["commit"] == git("rev-parse", "HEAD").strip()
    assert conf["jobs"]["job"] == [{"name": "a", "stage": "a", "patch": "", "changes": ""}]
    made = []
    for job in conf["jobs"]["job-gpu-licences"]:
        patch = attempt.unpacked(job["changes"], job["patch"])
        assert hashlib.sha256(patch).hexdigest() == job["patch"]
        subprocess.run([*GIT, "apply", "-"], input=patch, cwd=project.root, check=True)
        made.append(project.params.read_text())
        git("checkout", "--quiet", ".")
    assert made == ["x: 1\n", "x: 2\n"] and fake.stopped == []


def test_how_each_ended_is_told_once_when_it_has(place):
    """They are told by their number in the list, in the order in which they end; an API that is away is waited for."""
    first = [instance("job", 0, "success"), instance("job-gpu-licences", 0, "running")]
    fake = FakeApi(
        ("running", first[1:]),
        ("running", first),
        api.Away("away"),
        ("running", first),
        ("failed", [first[0], *(instance("job-gpu-licences", n, "failed") for n in (0, 1))]),
        log=[FAILED],
    )
    told = list(place(fake).run(THREE))
    assert [each.number for each in told if each] == [1, 0, 2] and told[0] is None
    assert [each.sentence for each in told if each] == ["", *["b: x is 2; expected 1"] * 2]


@pytest.mark.parametrize(
    ("log", "passing"), [([FAILED], False), ([FAILED | {"exc_type": "AirflowException"}], True), ([], True)]
)
def test_whose_fault_it_was_is_told(place, log, passing):
    """What a stage does wrong is its own; what was tried in vain again and again, or a worker that is lost, is not."""
    fake = FakeApi(("failed", [instance("job", 0, "failed")]), log=log)
    (told,) = place(fake).run(THREE[1:2])
    assert told.sentence and told.passing == passing


def test_a_run_that_is_stopped_there_is_a_sentence(place):
    """If a run ends before its jobs, somebody stopped it, or a plan had no worker: the sweep can go on later."""
    with pytest.raises(
        Unavailable, match=r"before 1 of its 1 tasks; expected all of them: see http.*pipeline-jobs/runs"
    ):
        list(place(FakeApi(("failed", []))).run(THREE[:1]))


def test_who_no_longer_listens_stops_the_run(place):
    """If whoever asked stops, so do the tasks; and those of a caller that was killed stop before new ones begin."""
    fake = FakeApi(("running", []), former=["old"])
    told = place(fake).run(THREE)
    next(told)
    told.close()
    assert fake.stopped == ["old", fake.began[0][0]]


def test_many_jobs_are_several_runs(place, monkeypatch):
    """A list that is longer than Airflow maps a task over becomes one run after the other, with the same numbers."""
    monkeypatch.setattr(jobs, "MOST", 2)
    ends = [instance("job-gpu-licences", 0, "success"), instance("job", 0, "success")]
    fake = FakeApi(("success", ends), ("success", ends), ("success", ends))
    assert sorted(each.number for each in place(fake).run(THREE) if each) == [0, 1, 2] and len(fake.began) == 2


def test_too_much_that_is_not_committed_is_refused(place, monkeypatch):
    """Patches that are too large together are refused, with what to do; nothing begins."""
    monkeypatch.setattr(jobs, "LARGEST", 10)
    fake = FakeApi()
    with pytest.raises(UserError, match=r"patches of \d+ bytes for 3 stages; expected 10 at most, .*: commit it"):
        list(place(fake).run(THREE))
    assert fake.began == []


def test_there_is_a_task_for_each_queue_and_pool():
    """The DAG for jobs has a mapped task for each queue and pool, and one before it that says which they are; a worker
    knows both by the name alone; two jobs of a run have folders of their own."""
    found = drawing.job_tasks(DRAWN)
    assert [(task.id, task.plan, task.queue, task.pool) for task in found] == [
        ("job", "plan", "default", "default_pool"), ("job-gpu-licences", "plan-gpu-licences", "gpu", "licences")
    ]  # fmt: skip
    for task in found:
        assert {drawing.only_job(task.id).id, drawing.only_job(task.plan).id} == {task.id}
    folders = [drawing.folder_of(drawing.job_run("a-run", number)) for number in (0, 1)]
    assert len({*folders, drawing.folder_of("a-run")}) == 3


def test_a_long_list_of_tasks_is_read_page_by_page(project, monkeypatch):  # noqa: F811
    """Airflow gives a hundred tasks at a time; all of them are found."""
    asked = []

    def answer(self, method, path):
        asked.append(path)
        offset = int(path.rpartition("offset=")[2])
        return {"task_instances": list(range(offset, min(offset + 100, 250))), "total_entries": 250}

    monkeypatch.setattr(api.Api, "_answer", answer)
    assert api.Api(project).tasks("a-run") == list(range(250)) and len(asked) == 3
