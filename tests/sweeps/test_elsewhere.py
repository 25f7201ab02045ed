"""Trials that run elsewhere: the same scores as here, by way of DVC's remote. There, it is DVC in another folder."""

import os
import shutil
import subprocess
import sys

import pytest

from scripts.pipeline.elsewhere import Ended
from scripts.project import Unavailable, UserError
from scripts.sweeps.elsewhere import Elsewhere
from tests.sweeps.test_running import PARAMS, Sweep, make_sweep, pipeline, points, ran  # noqa: F401

WORK = """\
import sys
from dvc.repo import Repo
with Repo() as repo:
    repo.pull(run_cache=True, allow_missing=True)
    repo.reproduce(sys.argv[1], pull=True)
    repo.push(run_cache=True)
"""
FAILS = "three is none"


class There:
    """A place whose jobs run in a folder of their own each, from the remote and back, the last one first."""

    def __init__(self, project):
        self._project, self.ran, self.closed = project, [], 0

    def run(self, jobs):
        try:
            yield None
            for number, job in reversed(list(enumerate(jobs))):
                self.ran.append(job.name)
                if "depth: 3" in job.params and job.stage == "fit":
                    yield Ended(number, 1.0, FAILS)
                else:
                    self._work(job)
                    yield Ended(number, 1.5)
        finally:
            self.closed += 1

    def _work(self, job):
        folder = self._project.root.parent / f"there-{len(self.ran)}"
        shutil.copytree(self._project.root, folder, ignore=shutil.ignore_patterns("cache", ".local"))
        (folder / ".local").symlink_to(self._project.local)
        (folder / "params.yaml").write_text(job.params)
        environ = os.environ | {"DVC_SITE_CACHE_DIR": str(folder / "site")}
        subprocess.run([sys.executable, "-c", WORK, job.stage], cwd=folder, env=environ, check=True)


@pytest.fixture
def there(project, pipeline):  # noqa: F811
    project.dvc_remote.mkdir()
    return There(project)


def elsewhere(project, pipeline, place):  # noqa: F811
    sweep = Sweep(project, pipeline)
    given = (sweep.runner.target, sweep.runner.given, PARAMS, 1, sweep.runner.ended, sweep.runner.goes_on)
    sweep.runner = Elsewhere(project, pipeline, sweep.study, *given, place=place)
    return sweep


def test_trials_have_the_scores_that_they_have_here(project, pipeline, there):  # noqa: F811
    """A job for what all trials share, then one for each that differs; each score arrives, in whatever order the jobs
    end; one that fails says so; and nothing of it is in the clone itself."""
    sweep = elsewhere(project, pipeline, there)
    assert sweep.run(points(1, 3)[::2]) == [1.1, None]
    assert there.ran == ["prepare", "fit of trial 2", "fit of trial 1"] and (ran("prepare"), ran("fit")) == (1, 1)
    assert [trial.outcome.sentence for trial in sweep.study.trials] == ["", FAILS]
    assert sweep.study.trials[0].outcome.seconds == 3.0  # of both stages, there
    assert not (project.root / "made.csv").exists() and not project.dvc_lock.exists()


@pytest.mark.deep
def test_the_rest_is_run_here_for_the_winner(project, pipeline, there):  # noqa: F811
    """What follows the objective runs here, on what arrived; nothing that has run there runs here again."""
    sweep = elsewhere(project, pipeline, there)
    sweep.runner.open()
    sweep.runner.run(sweep.study.add(points(1)[:1]))
    assert sweep.runner.score_all(sweep.study.best) == ["score"]
    sweep.runner.close()
    assert (ran("prepare"), ran("fit"), ran("score")) == (1, 1, 1)


class Says:
    """A place at which nothing runs, and which says how it ended."""

    def __init__(self, *told):
        self._told, self.closed = told, False

    def run(self, jobs):
        try:
            yield from self._told
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("told", "kind", "says"),
    [
        (Ended(0, 1.0, "no rows"), UserError, "^no rows$"),
        (Ended(0, 1.0, "Docker is away", True), Unavailable, "prepare did not run: Docker is away; 'make sweep' goes"),
        (Ended(0, 1.0, "x: No space left on device"), Unavailable, "prepare did not run: x: No space .* goes on"),
    ],
)
def test_a_fault_that_is_no_trials_own_stops_the_sweep(project, pipeline, told, kind, says):  # noqa: F811
    """If what all trials share fails, or a machine does, the sweep ends with that sentence, and the place is left."""
    place = Says(told)
    with pytest.raises(kind, match=says):
        elsewhere(project, pipeline, place).run(points(1))
    assert place.closed


def test_a_result_that_does_not_arrive_stops_the_sweep(project, pipeline):  # noqa: F811
    """If a job ended well and the remote has nothing of it, the sentence says that both need one remote."""
    project.dvc_remote.mkdir()

    class Silent:
        def run(self, jobs):
            yield from (Ended(number, 1.0) for number in range(len(jobs)))

    sweep = elsewhere(project, pipeline, Silent())
    with pytest.raises(Unavailable, match=r"fit of trial 1 did not run: DVC's remote lacks out/cv.json; .*one remote"):
        sweep.run(points(1))
    assert not sweep.study.outcomes


def test_a_place_that_is_none_is_refused_before_anything_runs(make_sweep, project):  # noqa: F811
    """ON= names a room; another word is one sentence, and no sweep is begun."""
    with pytest.raises(UserError, match=r"ON is 'moon', and no room scripts/moon/ runs stages elsewhere"):
        make_sweep("on=moon")
    assert not (project.local / "sweeps").exists()
