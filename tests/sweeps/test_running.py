"""Trials are run by DVC in working copies: with stages that are shell commands, and no container."""

import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from scripts.pipeline.stage import Pipeline, Stage
from scripts.project import Unavailable, UserError
from scripts.sweeps import running, sampling, spec, study
from scripts.sweeps.running import Runner
from scripts.sweeps.verbs import sweep as verb

PARAMS = "prepare:\n  seed: 1\nfit:\n  depth: 1 # levels\n  rate: 0.5\n"
SWEEP = """\
parameters: {fit.depth: [1, 2, 3, 4], fit.rate: [0.5, 1.0]}
sampler: grid
seed: 1
objective: {metric: cv, goal: maximize}
"""
FIT = (
    "sleep ${fit.rate}0; echo ran >> $COUNT/fit; test ${fit.depth} != 3 || { echo 'error: three is none'; exit 2; }; "
    'echo "{\\"cv\\": ${fit.depth}.${prepare.seed}}" > out/cv.json'
)
STAGES = {
    "prepare": {"cmd": "echo ran >> $COUNT/prepare; cp raw.csv made.csv", "deps": ["raw.csv"], "params": ["prepare"]},
    "fit": {"cmd": f"mkdir -p out; {FIT.replace('sleep ${fit.rate}0', 'sleep 0.1')}", "deps": ["made.csv"]},
    "score": {"cmd": "echo ran >> $COUNT/score; cat out/cv.json > scored.json", "deps": ["out/cv.json"]},
}
OUTPUTS = {"prepare": "made.csv", "fit": "out/cv.json", "score": "scored.json"}


@pytest.fixture
def pipeline(project, docker, tmp_path, monkeypatch):
    """Return a pipeline of three stages, which DVC reads as well; each notes in a file that it ran."""
    project.params.write_text(PARAMS)
    (project.root / "raw.csv").write_text("1,2\n")
    blocks = {name: {**block, "outs": [OUTPUTS[name]]} for name, block in STAGES.items()}
    blocks["fit"]["params"] = ["fit", "prepare"]
    text = yaml.safe_dump({"stages": blocks}, sort_keys=False)
    project.dvc_yaml.write_text(text)
    counts = tmp_path / "counts"
    counts.mkdir()
    monkeypatch.setenv("COUNT", str(counts))
    monkeypatch.setenv("JOBS", "2")
    stages = {
        "prepare": Stage("prepare", "i:1", {"raw": "raw.csv"}, {"made": "made.csv"}, section={"seed": 1}),
        "fit": Stage(
            "fit", "i:1", {"made": "made.csv"}, metrics={"cv": "out/cv.json"}, section={"depth": 1, "rate": 0.5}
        ),
        "score": Stage("score", "i:1", {"cv": "out/cv.json"}, metrics={"s": "scored.json"}),
    }
    return Pipeline(text, stages)


class Sweep:
    """A sweep of the pipeline, as far as it has come; `begin` begins one anew, from what was written."""

    def __init__(self, project, pipeline, text=SWEEP, jobs=2):
        self.spec = spec.parse(text)
        self.target = spec.Target("out/cv.json", "fit")
        name = study.identity(self.spec, self.target, pipeline.text, running.parameters(pipeline), {})
        self.study = study.load(study.folder(project, name)) or study.new(
            self.spec, self.target, "sweep.yaml", name, running.parameters(pipeline)
        )
        self.study.trials = []
        self.ended = []
        self.runner = Runner(
            project, pipeline, self.study, self.target, {"raw.csv": ""}, PARAMS, jobs,
            lambda trial: self.ended.append(trial.number), lambda names: None,
        )  # fmt: skip

    def run(self, points):
        self.runner.open()
        try:
            self.runner.run(self.study.add(points))
        finally:
            self.runner.close()
        return [trial.score for trial in self.study.trials]


def points(*depths):
    return [{"fit.depth": depth, "fit.rate": rate} for depth in depths for rate in (0.5, 1.0)]


def ran(name):
    path = Path(os.environ["COUNT"], name)
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.deep), 3])
def test_a_batch_has_the_scores_of_its_trials(project, pipeline, jobs):
    """Each trial gets the score that its own parameters make; what they share runs once; a trial that fails says so and
    stops no other; and the clone itself is as it was."""
    sweep = Sweep(project, pipeline, jobs=jobs)
    assert sweep.run(points(1, 3, 2)) == [1.1, 1.1, None, None, 2.1, 2.1]
    assert (ran("prepare"), ran("fit"), ran("score")) == (1, 6, 0)
    assert sorted(sweep.ended) == [1, 2, 3, 4, 5, 6] and sweep.study.best.number == 5
    assert [t.outcome.sentence for t in sweep.study.trials[2:4]] == ["three is none"] * 2
    assert not (project.root / "made.csv").exists() and not project.dvc_lock.exists()
    assert not (study.folder(project, sweep.study.id) / study.SLOTS).exists()
    assert "ran" in (study.folder(project, sweep.study.id) / study.LOGS / "1.log").read_text()


def test_what_is_known_is_not_run_again(project, pipeline):
    """A sweep that goes on runs what it does not know yet and no more; equal trials run once, also in another sweep."""
    Sweep(project, pipeline).run(points(1))
    assert Sweep(project, pipeline).run([*points(1, 2), *points(2)]) == [1.1, 1.1, 2.1, 2.1, 2.1, 2.1]
    assert (ran("prepare"), ran("fit")) == (1, 4)
    other = Sweep(project, pipeline, SWEEP.replace("seed: 1", "seed: 2"))
    assert other.run(points(1, 2)) == [1.1, 1.1, 2.1, 2.1]
    assert (ran("prepare"), ran("fit")) == (1, 4) and other.study.trials[0].outcome.ran == []


@pytest.mark.deep
def test_the_rest_is_run_for_the_winner(project, pipeline):
    """What comes after the objective is run for one trial, so that a run with its values finds all of it."""
    sweep = Sweep(project, pipeline)
    sweep.runner.open()
    sweep.runner.run(sweep.study.add(points(1, 2)))
    assert sweep.runner.score_all(sweep.study.best) == ["score"]
    sweep.runner.close()
    assert (ran("fit"), ran("score")) == (4, 1)


def test_a_stage_that_all_trials_need_stops_the_sweep(project, pipeline):
    """If what is the same for all trials fails, the sweep ends with its sentence."""
    blocks = yaml.safe_load(pipeline.text)
    blocks["stages"]["prepare"]["cmd"] = "echo 'error: no rows'; exit 2"
    text = yaml.safe_dump(blocks, sort_keys=False)
    project.dvc_yaml.write_text(text)
    with pytest.raises(UserError, match="no rows"):
        Sweep(project, Pipeline(text, pipeline.stages)).run(points(1))


def test_an_objective_that_is_not_measured_stops_the_sweep(project, pipeline):
    """If the file lacks the number, a sentence says what it has."""
    sweep = Sweep(project, pipeline, SWEEP.replace("metric: cv", "metric: f1"))
    with pytest.raises(
        UserError, match=r"fit measures no f1 in out/cv.json; expected one of cv: correct objective.met"
    ):
        sweep.run(points(1))


def test_a_fault_that_is_no_trials_own_stops_the_sweep(project, pipeline):
    """A full disk, or an engine that is away, is no trial's fault: nothing is noted of it, and the sweep can go on."""
    text = pipeline.text.replace("three is none", "cannot write: No space left on device")
    project.dvc_yaml.write_text(text)
    sweep = Sweep(project, Pipeline(text, pipeline.stages), jobs=1)
    with pytest.raises(
        Unavailable, match=r"fit of trial 1 did not run: cannot write: No space .* 'make sweep' goes on"
    ):
        sweep.run(points(3))
    assert not sweep.study.outcomes


def test_a_run_that_is_stopped_leaves_nothing_running(project, pipeline):
    """When a sweep is stopped, its processes end, and the next one goes on."""
    text = pipeline.text.replace("sleep 0.1", "sleep 0.1; test ${fit.depth} != 4 || sleep 300")
    project.dvc_yaml.write_text(text)
    slow = Pipeline(text, pipeline.stages)
    sweep, is_over = Sweep(project, slow), threading.Event()

    def stop():
        while sweep.study.counted("done") < 2:
            time.sleep(0.05)
        while not is_over.is_set():  # Python loses one that comes while an object is deleted: see signals.py
            os.kill(os.getpid(), signal.SIGINT)
            is_over.wait(60)  # to end in order takes 10 s where a stage does not end

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep.run(points(1, 4))
    finally:
        is_over.set()
    thread.join()
    assert multiprocessing.active_children() == []  # a stage's container is stopped by its label: see test_sweeps.py
    assert len(Sweep(project, slow).study.outcomes) == 2


# --- all of it

GRID = """\
import itertools, json, sys
sweep = json.loads(sys.stdin.readline())
counts = [range(space["choices"]) for space in sweep["parameters"].values()]
batch = [dict(zip(sweep["parameters"], point)) for point in itertools.product(*counts)]
print(json.dumps({"batch": batch}), flush=True)
sys.stdin.readline()
print(json.dumps({"importance": {}}), flush=True)
"""


@pytest.fixture
def make_sweep(project, pipeline, monkeypatch, capfd):
    """Return a function that does what `make sweep` does, without an engine; it returns what was printed."""
    monkeypatch.setattr(verb.template, "load", lambda images=None: pipeline)
    monkeypatch.setattr(verb.template, "write", lambda pipeline: False)
    monkeypatch.setattr(verb.images, "load", dict)
    monkeypatch.setattr(verb.build, "ensure", lambda *_: None)
    monkeypatch.setattr(verb.spec, "check", lambda *_: None)
    monkeypatch.setattr(verb.sampling, "ensure_image", lambda: SimpleNamespace(tag="sampler:1"))
    monkeypatch.setattr(verb.sampling, "command", lambda tag: [sys.executable, "-c", GRID])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")

    def make(*arguments, depths="[1, 3, 4]"):
        text = SWEEP.replace("[1, 2, 3, 4]", depths).replace("[0.5, 1.0]", "[0.5]")
        (project.root / "sweep.yaml").write_text(text.replace("metric: cv", "metric: cv, file: out/cv.json"))
        verb.main(["file=", *arguments], project)
        return capfd.readouterr().out

    return make


def test_a_sweep_says_its_winner_and_what_to_do(project, make_sweep):
    """From the file to the winner: a line for each trial, a table, a page, the next command; called again there is
    nothing to run; deleted it is gone."""
    printed = make_sweep()
    assert len(re.findall(r"^trial \d  fit.depth \d  fit.rate 0.5  ", printed, re.M)) == 3
    assert "failed: three is none" in printed and "2 of 3 trials done, 1 failed; best: trial 3, cv 4.1" in printed
    assert printed.endswith("next      make keep, then make run\n")
    page = project.root / re.search(r"^page +(\S+)$", printed, re.M)[1]
    assert "Best: trial 3" in page.read_text() and (ran("prepare"), ran("fit"), ran("score")) == (1, 3, 1)
    again = make_sweep()
    assert "has ended before: nothing to run" in again and (ran("fit"), ran("score")) == (3, 1)
    name = re.search(r"sweep (\w{8}) has ended", again)[1]
    assert make_sweep(f"rm={name}").startswith(f"sweep {name} is deleted")
    assert not (project.local / "sweeps" / name).exists()


def test_a_sweep_of_failures_has_no_winner(make_sweep):
    """If all trials fail, the sweep ends with the sentence of the first one."""
    with pytest.raises(UserError, match="all 1 trials failed; the first one: three is none"):
        make_sweep(depths="[3]")


# --- the sampler's side

SAMPLER = """\
import json, sys
sweep = json.loads(sys.stdin.readline())
for batch in {batches}:
    print(json.dumps({{"batch": batch}}), flush=True)
    scores = json.loads(sys.stdin.readline())
print(json.dumps({{"importance": {{"fit.depth": 0.75}}, "told": scores}}), flush=True)
"""


def sampler(code):
    return sampling.Sampler(spec.parse(SWEEP.replace("grid", "tpe").replace("seed", "trials: 4\nseed")), [
        sys.executable, "-c", code
    ])  # fmt: skip


def test_a_sampler_is_asked_batch_by_batch():
    """Of a list it names the number of the value; at the end it says what mattered."""
    batches = [[{"fit.depth": 0, "fit.rate": 1}], [{"fit.depth": 3, "fit.rate": 0}]]
    with sampler(SAMPLER.format(batches=batches)) as asked:
        found = []
        while batch := asked.batch():
            found += batch
            asked.tell([None] * len(batch))
    assert found == [{"fit.depth": 1, "fit.rate": 1.0}, {"fit.depth": 4, "fit.rate": 0.5}]
    assert asked.importance == {"fit.depth": 0.75, "fit.rate": 0}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit('no more')", "no more"),
        (SAMPLER.format(batches=[[{"fit.depth": 4, "fit.rate": 0}]]), "fit.depth has no value 4"),
        (SAMPLER.format(batches=[[{"fit.depth": 0.5, "fit.rate": 0}]]), "fit.depth has no value 0.5"),
        (SAMPLER.format(batches=[[{"fit.depth": 1}]]), "'fit.rate'"),
        ("print('hello')", "it printed what is no answer"),
        ("print('[]')", "it printed what is no answer"),
    ],
)
def test_a_sampler_that_breaks_is_one_sentence(code, says):
    """One that ends, or says what is no trial, ends the sweep in a sentence with its words."""
    with (
        pytest.raises(Unavailable, match=r"the sampler .* ended, and said .*" + re.escape(says)),
        sampler(code) as asked,
    ):
        asked.batch()


def test_the_sampler_is_sealed(monkeypatch):
    """It gets no network, no file, no capability, no variable, and little memory."""
    monkeypatch.setenv("STAGE_USER", "1000:1000")
    command = " ".join(sampling.command("sampler:1"))
    for option in ("--network none", "--read-only", "--cap-drop ALL", "--user 1000:1000", "--memory 1g"):
        assert option in command
    assert not re.search(r"--(env|mount|volume|privileged)", command) and command.endswith(" sampler:1")


def test_a_range_keeps_its_ends():
    """A number is cut to six digits, and never leaves its range; one outside of it is refused."""
    sweep = spec.parse(SWEEP.replace("[0.5, 1.0]", "{low: 0.1234561, high: 0.9}").replace("grid", "random\ntrials: 3"))
    assert sampling.value_of(sweep, "fit.rate", 0.5123456789) == 0.512346
    assert sampling.value_of(sweep, "fit.rate", 0.1234561) == 0.1234561
    with pytest.raises(ValueError, match=r"fit.rate cannot be 1.5"):
        sampling.value_of(sweep, "fit.rate", 1.5)
    assert json.loads(json.dumps(sampling.described(sweep)))["parameters"]["fit.rate"]["low"] == 0.1234561
