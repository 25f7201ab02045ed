"""Sweeps on the real engine: the same result for any number of jobs and after any kill, and one version at the end."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import NOTHING, Clone, last_line, stages_line, wait_until
from tests.engine.test_promotion import Browser, address, browser  # noqa: F401

pytestmark = [pytest.mark.docker, pytest.mark.deep]
CROSS_VALIDATED = '''\
def cross_validated(rows: list[list[float]], truth: list[str], args: TrainArgs) -> float:
    """Return the share of rows that are named by voters which have not seen them."""
    right = 0
    for part in range(3):
        seen = [place for place in range(len(rows)) if place % 3 != part]
        voters, _ = fit([rows[p] for p in seen], [truth[p] for p in seen], args, random_state=random.Random(args.seed))
        for place in range(part, len(rows), 3):
            votes = [vote(voter, rows[place]) for voter in voters]
            right += max(sorted(set(votes)), key=votes.count) == truth[place]
    return right / len(rows)


def main('''
SWEEP: dict[str, Any] = {
    "parameters": {
        "train.max_depth": [1, 2, 3, None],
        "train.max_features": {"low": 0.25, "high": 0.75, "step": 0.25},
        "train.n_estimators": {"low": 5, "high": 20, "step": 15},
    },
    "sampler": "grid",
    "trials": 24,
    "batch": 4,
    "seed": 3,
    "objective": {"metric": "cv_accuracy", "goal": "maximize"},
}


def with_cross_validation(clone: Clone) -> Clone:
    """Let the small project's train write a cross-validated score."""
    train = "stages/train/train.py"
    clone.edit("dvc.yaml.template", '"training": "models/training.csv"}', '"training": "models/training.csv"},\n'
               '         metrics={"cv": "models/cv.json"}')  # fmt: skip
    clone.edit(train, "    training: Path\n", "    training: Path\n    cv: Path\n")
    clone.edit(train, '"signature", "training"}', '"signature", "training", "cv"}')
    clone.edit(train, "def main(", CROSS_VALIDATED)
    clone.edit(
        train,
        "    log.info(",
        '    write_json(args.cv, {"cv_accuracy": cross_validated(rows, truth, args)})\n    log.info(',
    )
    clone.git("commit", "--quiet", "--all", "--message", "a cross-validated score")
    return clone


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Iterator[Clone]:
    yield with_cross_validation(clone_at("sweeps"))


def write(clone: Clone, **changed: Any) -> None:
    (clone.path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP | changed, sort_keys=False))


def forget(clone: Clone) -> None:
    """Delete what is known of sweeps, and all results."""
    forget_sweeps(clone, ".dvc/cache", ".local/dvc-remote/files")


def forget_sweeps(clone: Clone, *others: str) -> None:
    """Delete what is known of sweeps, and other folders."""
    for name in (".local/sweeps", *others):
        folder = clone.path / name
        if folder.exists():
            for path in folder.rglob("*"):
                if path.is_dir():
                    path.chmod(0o755)
            shutil.rmtree(folder)


def state(clone: Clone) -> dict[str, Any]:
    (path,) = (clone.path / ".local" / "sweeps").glob("*/sweep.json")
    return json.loads(path.read_text())


def result(clone: Clone) -> list[tuple[str, float | None]]:
    """Return the values and the score of each trial."""
    found = state(clone)
    keys = [json.dumps(dict(sorted(trial["values"].items()))) for trial in found["trials"]]
    return [(key, found["outcomes"][key]["score"]) for key in keys]


def ran(clone: Clone) -> list[str]:
    """Return the stages that ran in trials, as often as they did, by the logs of all trials."""
    logs = (clone.path / ".local" / "sweeps").glob("*/logs/*.log")
    return sorted(name for log in logs for name in re.findall(r"^(\w+) +ran \(", log.read_text(), re.M))


def best(printed: str) -> str:
    return re.search(r"best: (trial \d+, cv_accuracy [\d.]+)", printed)[1]


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_any_number_of_jobs_gives_the_same(clone: Clone, sampler: str) -> None:
    """With one, two and four jobs, and twice, the trials, scores and the winner are the same; each stage that trials
    share ran once, and each trial that differs from all others once."""
    found = []
    for jobs in ("1", "2", "4", "2"):
        forget(clone)
        write(clone, sampler=sampler)
        done = clone.make("sweep", f"JOBS={jobs}")
        found.append((result(clone), best(done.stdout[done.stdout.rindex("\n\n") :])))
        different = len({values for values, _ in found[-1][0]})
        assert ran(clone) == ["evaluate", "ingest", "preprocess", *["train"] * different]
    assert found[0][1] and len(found[0][0]) == 24
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_sweep_that_is_killed_goes_on(clone: Clone, sampler: str) -> None:
    """Killed at five points, the same sweep ends with the same result; what was known is not run again, and no
    container of a trial is left."""
    forget(clone)
    write(clone, sampler=sampler)
    clone.make("sweep")
    expected = result(clone)
    forget(clone)
    for known in (0, 1, 6, 11, 20):
        begun_and_killed(clone, known)
    done = clone.make("sweep")
    assert re.search(r"goes on: \d+ of 24 trials are known", done.stdout)
    assert result(clone) == expected
    logs = [path.read_text() for path in (clone.path / ".local" / "sweeps").glob("*/logs/*.log")]
    assert max(len(re.findall(r"^train +ran", log, re.M)) for log in logs) == 1
    assert "preprocess" not in ran(clone) or ran(clone).count("preprocess") == 1
    assert not _of_trials()


def begun_and_killed(clone: Clone, known: int) -> None:
    """Begin a sweep, and kill its runner while a trial runs and what came of `known` others is known."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": clone.path}
    with subprocess.Popen(["make", "sweep", "JOBS=2"], **quiet) as going:
        wait_until(lambda: _known(clone) >= known and _trains(clone), "a trial that runs", 300)
        (runner,) = clone.docker("container", "ls", "--quiet", "--filter", "label=pipeline.verb=sweep")
        subprocess.run(["docker", "kill", runner], check=True, capture_output=True)
        going.wait()


def _known(clone: Clone) -> int:
    try:
        return len(state(clone)["outcomes"])
    except (ValueError, FileNotFoundError):  # no sweep yet
        return 0


def _of_trials() -> list[str]:
    """Return the containers of trials, of whichever clone."""
    command = ["docker", "container", "ls", "--all", "--filter", "label=pipeline.stage"]
    listed = subprocess.run(
        [*command, "--format", '{{.Label "pipeline.clone"}}'], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if "." in line]


def _trains(clone: Clone) -> bool:
    name = clone.label.partition("=")[2]
    return any(line.startswith(f"{name}.") for line in _of_trials())


def test_one_winner_comes_into_the_registry(clone: Clone) -> None:
    """A sweep, one that fails and DVC's own experiments change nothing in the registry; the winner that is kept runs
    no stage and becomes one version, whose record says of how many trials it is the best."""
    forget(clone)
    clone.make("run")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "a run")
    before = clone.registry()
    assert len(before) == 1
    write(clone)
    clone.make("sweep")
    write(clone, parameters={"train.max_depth": [0, 2]}, trials=2)
    failed = clone.make("sweep")
    assert re.search(r"^trial 1  train.max_depth 0  failed: .*max_depth", failed.stdout, re.M)
    assert "1 of 2 trials done, 1 failed" in failed.stdout
    clone.make("sweep", f"RM={re.search(r'^sweep (.{8}):', failed.stdout, re.M)[1]}")
    clone.make("shell", stdin="dvc exp run --quiet --set-param train.max_depth=2\ndvc exp show --csv\n")
    clone.git("checkout", "--quiet", "--", "params.yaml", "dvc.lock")
    assert clone.registry() == before
    assert clone.make("sweeps").stdout.count("24 of 24") == 1

    kept = clone.make("keep")
    assert last_line(kept) == "next: make run"
    done = clone.make("run")
    assert stages_line(done) == NOTHING or "restored" in done.stdout
    assert not re.search(r"^\w+ +ran \(", done.stdout, re.M)
    first, second = clone.registry()
    note = re.search(r"best of 24 by cv_accuracy \(sweep [0-9a-f]{8}\)$", second["tags"]["reason"])[0]
    assert note in " ".join(clone.make("models").stdout.split()) and first == before[0] | {
        "stage": first["stage"], "aliases": first["aliases"]
    }  # fmt: skip


def test_a_page_and_runs_of_mlflow_show_the_trials(clone: Clone) -> None:
    """MLflow has a run for the sweep and 24 below it, each with a status and a score; the page names the winner."""
    found = state(clone)
    printed = clone.python(
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        "ids = [e.experiment_id for e in client.search_experiments()]\n"
        f"runs = client.search_runs(ids, \"tags.sweep.id = '{found['id']}'\", max_results=100)\n"
        "parents = [r for r in runs if 'mlflow.parentRunId' not in r.data.tags]\n"
        "below = [r for r in runs if r.data.tags.get('mlflow.parentRunId') == parents[0].info.run_id]\n"
        "print(len(parents), len(below), {r.info.status for r in runs}, 'cv_accuracy' in below[0].data.metrics)\n"
    )
    assert printed.strip().endswith("1 24 {'FINISHED'} True")
    page = Path(clone.path, ".local", "sweeps", found["id"], "report.html").read_text()
    assert f"Best: trial {found['scored']}," in page


def test_a_browser_shows_the_page_and_the_trials(clone: Clone, browser: Browser) -> None:  # noqa: F811
    """In a browser the page has the winner and the table, and MLflow has a trial below its sweep."""
    found = state(clone)
    page = Path(os.environ["TEST_OUTPUT"], "sweep-page.html")
    shutil.copy(clone.path / ".local" / "sweeps" / found["id"] / "report.html", page)
    ids = clone.python(
        "from mlflow import MlflowClient\n"
        "client = MlflowClient()\n"
        "ids = [e.experiment_id for e in client.search_experiments()]\n"
        f"runs = client.search_runs(ids, \"tags.sweep.id = '{found['id']}'\", max_results=100)\n"
        "(run,) = [r for r in runs if r.info.run_name == 'trial 1']\n"
        "print(run.info.experiment_id, run.info.run_id)\n"
    ).split()
    where = address(clone, f"experiments/{ids[-2]}/runs/{ids[-1]}")
    pages = browser.look(
        {
            "sweep-page": {"url": page.as_uri(), "texts": [f"Best: trial {found['scored']},", "Importance", "Trials"]},
            "sweep-run": {"url": where, "texts": ["trial 1", "Parent run", f"sweep {found['id']}"]},
        }
    )
    assert "cv_accuracy" in pages["sweep-page"]["text"] and "not all" not in pages["sweep-page"]["text"]
    assert f"sweep {found['id']}" in pages["sweep-run"]["text"]
