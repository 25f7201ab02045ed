"""A run of stages that are independent, fail, or meet a bad moment of the engine: DVC, with a stand-in for Docker."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from scripts.pipeline import dvc_adapter, execution, images, worker
from scripts.pipeline.live_metrics import LiveMetric
from scripts.pipeline.stage import Pipeline, Stage
from scripts.project import Unavailable, UserError

BASE = {images.BASE: images.Image(images.BASE, "stages/0:1", {})}
AWAY = "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@pytest.fixture
def stages(project, docker, monkeypatch):
    """Make a pipeline of the given commands by stage; `x_y_z` is a stage `x` that needs `y` and `z`.

    Each writes NAME.out.
    """
    monkeypatch.setattr(execution, "PAUSE", 0)
    monkeypatch.setenv("JOBS", "4")

    def make(**commands):
        blocks = {}
        for title, command in commands.items():
            name, *needs = title.split("_")
            block = {"cmd": [command, f"echo {name} > {name}.out"], "outs": [f"{name}.out"]}
            blocks[name] = block | ({"deps": [f"{need}.out" for need in needs]} if needs else {})
        project.dvc_yaml.write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))

    return make


@pytest.fixture
def run(project):
    """Return a function that runs what `stages` made; it returns the names of the stages that ran."""

    def reproduce(*targets, pipeline=None, **options):
        return execution.reproduce(project, pipeline or Pipeline("", {}), BASE, targets, **options)

    return reproduce


def together(name, others):
    """Return a command that ends once all of `others` have begun, and fails if they are not run side by side."""
    marks = " && ".join(f"[ -e {other}.begun ]" for other in others)
    return f"touch {name}.begun; for i in $(seq 100); do if {marks}; then exit 0; fi; sleep 0.1; done; exit 1"


def with_parameters(project):
    """Let each stage read parameters that YAML 1.1 takes for something else than DVC does."""
    project.params.write_text("all: {rate: 1e-5, mode: off, at: 12:30}\n")
    blocks = yaml.safe_load(project.dvc_yaml.read_text())
    for block in blocks["stages"].values():
        block["params"] = ["all"]
    project.dvc_yaml.write_text(yaml.safe_dump(blocks, sort_keys=False))


def test_independent_stages_run_side_by_side(stages, run):
    """Independent stages run at the same time; a stage that needs them runs after them."""
    stages(a=together("a", "bc"), b=together("b", "ac"), c=together("c", "ab"), d_a_b_c="true")
    assert sorted(run()[:3]) == ["a", "b", "c"]
    assert run() == []


def test_a_stage_begins_as_soon_as_dvc_is_free(stages, run, monkeypatch):
    """Stages that are ready at once queue for DVC's lock, and do not pause between two looks at it as DVC does."""
    monkeypatch.setenv("JOBS", "8")
    monkeypatch.setattr("dvc.lock.time", SimpleNamespace(sleep=lambda seconds: Path("paused").touch()))
    stages(**dict.fromkeys("abcdefgh", "true"))
    assert len(run()) == 8
    assert not Path("paused").exists()


def test_one_job_runs_one_after_the_other(stages, run, monkeypatch):
    """With JOBS=1 no stage begins before the one before it has ended."""
    monkeypatch.setenv("JOBS", "1")
    alone = "mkdir one && sleep 0.2 && rmdir one"
    stages(a=alone, b=alone, c=alone)
    assert len(run()) == 3


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_jobs_is_a_number_from_1(stages, run, monkeypatch, jobs):
    """A value of JOBS that is no whole number from 1 is refused in a sentence."""
    monkeypatch.setenv("JOBS", jobs)
    stages(a="true")
    with pytest.raises(UserError, match=f"JOBS is {jobs}; expected how many stages may run at once"):
        run()


def test_the_lock_is_the_same_text_with_any_jobs(stages, run, monkeypatch, project):
    """dvc.lock has the order of dvc.yaml, whichever stage ended first, and so has the copy that is kept of it."""
    texts = []
    for jobs in ("1", "3"):
        monkeypatch.setenv("JOBS", jobs)
        stages(a="sleep 0.5", b="sleep 0.2", c="true")
        with_parameters(project)
        project.dvc_lock.unlink(missing_ok=True)
        shutil.rmtree(project.cache, ignore_errors=True)
        run()
        texts.append(project.dvc_lock.read_text())
    assert texts[0] == texts[1] == project.kept_lock.read_text()
    assert list(yaml.safe_load(texts[0])["stages"]) == ["a", "b", "c"]
    assert run() == [], "no parameter has become another one"


def test_what_is_in_the_cache_is_not_run(stages, run):
    """A stage whose outputs DVC has is restored, and is not counted among those that ran."""
    stages(a="echo 1 > count", b_a="echo ran >> count")
    assert run() == ["a", "b"]
    Path("b.out").unlink()
    assert run() == []
    assert Path("b.out").read_text() == "b\n"
    assert Path("count").read_text() == "1\nran\n"


def test_only_targets_and_what_they_need(stages, run):
    """A target runs with what it needs and nothing else; an unknown one is refused with the names there are."""
    stages(a="true", b_a="true", c_b="true")
    assert run("b") == ["a", "b"]
    with pytest.raises(UserError, match="there is no stage x; expected one of a, b, c"):
        run("x")


# --- who listens


class Listener:
    """Note down what happens; write the file `begun` when the run begins."""

    def __init__(self):
        self.heard, self.facts = [], []

    def begin(self):
        Path("begun").touch()
        self.heard.append("begin")

    def metric(self, stage, metric):
        self.heard.append((stage, metric))

    def ended(self, stage):
        self.heard.append(stage)

    def fact(self, kind, **values):
        self.facts.append({"kind": kind} | values)

    def progress(self):
        return ""


def test_a_listener_hears_of_the_run_as_it_goes_on(stages, run, capfd):
    """It hears of the beginning before any stage runs, of each metric, and of each stage that is up to date."""
    stages(a="[ -e begun ]; echo '::metric loss=0.5 step=3'", b_a="echo '::metric loss=oops'")
    first = Listener()
    run(listener=first)
    assert first.heard == ["begin", ("a", LiveMetric({"loss": 0.5}, 3)), "a", "b"]
    printed = capfd.readouterr().out
    assert "a | loss=0.5 step=3\n" in printed and "b | ::metric loss=oops\n" in printed
    Path("b.out").unlink()
    again = Listener()
    run(listener=again)
    assert again.heard == ["begin", "a", "b"]


def test_a_listener_hears_the_facts_of_a_run(stages, run):
    """It is told the plan, each stage's begin, steps and end with their times, in order, and how it ended."""
    stages(a="true", b_a="echo said; exit 3", c_b="true")
    began, listener = time.time(), Listener()
    with pytest.raises(UserError):
        run(listener=listener)
    plan, images, *facts = listener.facts
    assert images == {"kind": "images"}
    assert plan["needs"] == {"a": [], "b": ["a"], "c": ["b"]} and (plan["up_to_date"], plan["jobs"]) == ([], 4)
    told = [(fact["kind"], fact["stage"], fact.get("step") or fact.get("result")) for fact in facts]
    steps = [("step", "a", step) for step in ("image", "start", "cache")]
    assert told[:5] == [("begins", "a", None), *steps, ("ends", "a", "ran")]
    assert told[5:] == [
        ("begins", "b", None),
        *(("step", "b", step) for step in ("image", "start")),
        ("ends", "b", "failed"),
    ]
    times = [fact["at"] for fact in facts]
    assert began <= times[0] and times == sorted(times) and times[-1] <= time.time()
    assert "exit code 3" in facts[-1]["sentence"] and "said" in facts[-1]["printed"]


def test_a_listener_hears_what_was_restored(stages, run):
    """A stage that is restored comes to no step of one that runs."""
    stages(a="true", b_a="true")
    run()
    Path("b.out").unlink()
    listener = Listener()
    run(listener=listener)
    assert listener.facts[0]["up_to_date"] == ["a"]
    assert [(fact["kind"], fact["stage"], fact.get("result")) for fact in listener.facts[2:]] == [
        ("begins", "b", None), ("ends", "b", "restored")
    ]  # fmt: skip


def test_a_listener_hears_nothing_of_a_run_with_nothing_to_do(stages, run):
    """If all stages are up to date the run never begins, so that nothing else need begin for it."""
    stages(a="true")
    run()
    listener = Listener()
    assert run(listener=listener) == []
    assert listener.heard == []


def test_a_listener_does_not_hear_of_a_stage_that_failed(stages, run):
    """Only a stage that is up to date is said to have ended."""
    stages(a="true", b_a="exit 3")
    listener = Listener()
    with pytest.raises(UserError):
        run(listener=listener)
    assert listener.heard == ["begin", "a"]


def test_a_stage_on_mlflows_network_waits_for_it_and_no_other_does(stages, run):
    """What must be there first is waited for in the process of each stage on MLflow's network, beside the others."""
    files = {"out": "x/y"}
    pipeline = Pipeline("", {"a": Stage("a", "", {}, files), "b": Stage("b", "", {}, files, network="mlflow")})
    stages(a="[ ! -e ready ]", b="until [ -e a.out ]; do sleep 0.1; done; [ -e ready ]")

    def wait():
        for _ in range(100):
            if Path("a.out").exists():
                Path("ready").touch()
                break
            time.sleep(0.1)

    assert sorted(run(pipeline=pipeline, before_mlflow=wait)) == ["a", "b"]


def test_a_stage_fails_if_what_it_waits_for_does_not_come(stages, run):
    """What is said of a server that did not come up is the reason of the stage that needs it."""

    def wait():
        raise UserError("the server is away")

    pipeline = Pipeline("", {"b": Stage("b", "", {}, {"out": "x/y"}, network="mlflow")})
    stages(a="true", b="touch b.begun")
    with pytest.raises(UserError, match=r"^the server is away$"):
        run(pipeline=pipeline, before_mlflow=wait)
    assert not Path("b.begun").exists() and Path("a.out").exists()


# --- images


@pytest.fixture
def build_log(docker):
    """Let `docker` know the images that it has built, and none at first; return a function that lists them."""
    here = docker.log.with_name("images")
    here.touch()
    docker.does("image ls", f"cat '{here}'")
    docker.does(
        "buildx build",
        f'cat > "$(mktemp)"; for word; do case $word in stages/?:1) echo "$word 1" >> \'{here}\';; esac; done',
    )

    def built() -> list[str]:
        return [line.split()[0] for line in here.read_text().splitlines()]

    def forget() -> None:
        here.write_text("")

    return SimpleNamespace(built=built, forget=forget)


@pytest.fixture
def run_with_images(project, build_log) -> Callable[..., list[str]]:
    def reproduce(*names: str) -> list[str]:
        wanted = BASE | {name: images.Image(name, f"stages/{name}:1", {}) for name in names}
        return execution.reproduce(project, Pipeline("", {}), wanted)

    return reproduce


def test_images_of_stages_that_are_certain_to_run_are_built_together(stages, run_with_images, build_log, docker):
    """On a machine that knows nothing all images are built before the first stage begins, the base first."""
    stages(a=f"cp '{docker.log}' seen # stages/a:1", b_a="true # stages/b:1")
    assert run_with_images("a", "b") == ["a", "b"]
    assert build_log.built()[0] == "stages/0:1" and sorted(build_log.built()[1:]) == ["stages/a:1", "stages/b:1"]
    builds = [line for line in Path("seen").read_text().splitlines() if line.startswith("buildx build")]
    assert len(builds) == 3


def test_no_image_is_built_for_what_is_up_to_date_or_restored(stages, run_with_images, build_log, project):
    """A machine that has all outputs, or has them in DVC's cache, needs no image."""
    Path("x.out").touch()  # DVC keeps no outputs of a stage without inputs
    stages(a_x="true # stages/a:1", b_a="true # stages/b:1")
    run_with_images("a", "b")
    build_log.forget()
    assert run_with_images("a", "b") == []
    for name in ("a.out", "b.out", "dvc.lock"):
        Path(name).unlink()
    assert run_with_images("a", "b") == []
    assert build_log.built() == []
    assert Path("b.out").exists()


def test_an_image_is_built_when_dvc_says_that_its_stage_is_to_run(stages, run_with_images, build_log, project):
    """An image is built on demand if DVC turns out not to have the outputs of its stage, and no other image is."""
    Path("x.out").touch()  # DVC keeps no outputs of a stage without inputs
    stages(a_x="true # stages/a:1", b_a="true # stages/b:1")
    run_with_images("a", "b")
    build_log.forget()
    lost = dvc_adapter.md5(Path("b.out"))
    for path in (project.dvc_lock, Path("b.out"), project.cache / "files" / "md5" / lost[:2] / lost[2:]):
        path.unlink()
    assert run_with_images("a", "b") == ["b"]
    assert build_log.built() == ["stages/0:1", "stages/b:1"]


# --- failures


def test_after_a_failure_nothing_begins(stages, run, monkeypatch, capfd):
    """Running stages finish, stages that never began are named, and the failed one's last lines are repeated."""
    monkeypatch.setenv("JOBS", "2")
    stages(
        a="echo hello; until [ -e b.begun ]; do sleep 0.1; done; exit 3",
        b="touch b.begun; sleep 1; echo from b",
        c_a="true",
        d="true",
    )
    with pytest.raises(UserError, match="stage a crashed with exit code 3"):
        run()
    printed = capfd.readouterr().out
    assert "not run: c, d" in printed
    assert printed.index("b | from b") < printed.rindex("a | hello")
    assert Path("b.out").exists() and not Path("d.out").exists()


def test_keep_going_runs_what_does_not_depend_on_it(stages, run, monkeypatch, capfd):
    """With KEEP_GOING=1 all else runs, and each failure has a sentence of its own."""
    monkeypatch.setenv("KEEP_GOING", "1")
    stages(a="exit 3", b_a="true", c="true", d_c="exit 4", e_c="true")
    with pytest.raises(UserError) as told:
        run()
    assert str(told.value).splitlines() == [
        "stage a crashed with exit code 3; expected 0, or 2 with a sentence: see above or .local/logs/run.log",
        "error: stage d crashed with exit code 4; expected 0, or 2 with a sentence: see above or .local/logs/run.log",
    ]
    assert "not run: b" in capfd.readouterr().out
    assert Path("e.out").exists()


def test_the_log_that_a_failure_names_has_what_the_stage_printed(stages, run, project):
    """The file that the sentence names holds the lines of the run."""
    stages(a="echo hello; exit 3")
    with pytest.raises(UserError, match=r"see above or \.local/logs/run\.log"):
        run()
    assert "a | hello\n" in (project.root / ".local" / "logs" / "run.log").read_text()


def test_the_sentence_of_a_stage_can_move_nothing_on_a_terminal(stages, run):
    """What a stage gives as its reason becomes the run's last line: it loses all that is no text."""
    stages(a=r"printf 'error: a: \033[2J\033]0;title\007bad\342\200\256\r\n'; exit 2")
    with pytest.raises(UserError, match=r"^a: bad\?$"):
        run()


def test_a_killed_worker_is_reported(stages, run):
    """A DVC process that is killed fails its stage in a sentence; stages beside it finish."""
    stages(a="kill -9 $PPID; sleep 1", b="sleep 0.5")
    with pytest.raises(UserError, match=r"dvc was killed \(signal 9\)"):
        run()
    assert Path("b.out").exists()


def test_an_interrupt_ends_what_runs(stages, run, docker):
    """When the run is interrupted the containers of its stages are stopped, and no process of it is left."""
    docker.does("container ls", "echo container")
    docker.does("container stop", f"touch '{Path.cwd()}/stop'")
    stages(
        a=f"sleep 0.3; kill -INT {os.getpid()}; until [ -e stop ]; do sleep 0.1; done; touch ended; exit 1",
        b_a="true",
    )
    with pytest.raises(KeyboardInterrupt):
        run()
    assert Path("ended").exists()
    assert not [child for child in multiprocessing.active_children() if child.name in ("a", "b")]


# --- bad moments of the engine


def answers(*calls):
    """Return a command that prints and exits as told, a pair for each time it is called."""
    cases = [f"{number}) echo '{text}'; exit {code};;" for number, (text, code) in enumerate(calls, 1)]
    return f"echo . >> asked; case $(wc -l < asked) in {' '.join(cases)} esac"


def asked():
    return len(Path("asked").read_text().splitlines())


def test_a_fault_of_the_engine_is_tried_again(stages, run):
    """An engine that does not answer costs no run if it answers the next time."""
    stages(train=answers((AWAY, 125), ("", 0)))
    assert run() == ["train"]
    assert asked() == 2


def test_it_is_not_tried_for_ever(stages, run):
    """An engine that stays away ends the run in a sentence after three tries."""
    stages(train=answers(*[(AWAY, 125)] * 5))
    with pytest.raises(UserError, match="stage train could not be started, Cannot connect to the Docker daemon"):
        run()
    assert asked() == 3


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (answers(*[(AWAY, 125)] * 3), Unavailable),
        ("exit 137", Unavailable),
        ("exit 143", Unavailable),
        ("kill -9 $PPID; sleep 1", Unavailable),
        ("exit 1", UserError),
        ("exit 124", UserError),
        ("echo 'error: bad'; exit 2", UserError),
        (answers(("docker: Error response from daemon: No such image: x.", 125)), UserError),
    ],
)
def test_what_may_pass_by_itself_is_told_apart(stages, run, command, kind):
    """Whoever calls again knows whether that is of use: not if the stage or a limit is to blame, or one of two stages
    is."""
    stages(train=command)
    with pytest.raises(UserError) as told:
        run()
    assert type(told.value) is kind
    stages(train=command, other="exit 1")
    with pytest.raises(UserError) as told:
        run()
    assert type(told.value) is UserError


def test_a_stage_alone_leaves_what_it_needs_as_it_is(stages, run):
    """Only the stage itself runs, on what is there."""
    stages(a="true", b_a="cp a.out seen", c_b="true")
    Path("a.out").write_text("mine")
    assert run("b", alone=True) == ["b"]
    assert Path("seen").read_text() == Path("a.out").read_text() == "mine"
    assert not Path("c.out").exists()


def test_nothing_runs_that_may_not(stages, run, project):
    """What is in the cache is restored; a stage that would have to run fails instead, with its name."""
    Path("x.out").touch()
    stages(a_x="touch ran", b_a="true")
    run()
    for name in ("a.out", "b.out", "ran"):
        Path(name).unlink()
    lock = project.dvc_lock.read_bytes()
    project.dvc_lock.unlink()
    assert run(may_run=False) == []
    assert project.dvc_lock.read_bytes() == lock and not Path("ran").exists()
    stages(a_x="touch  ran", b_a="true")
    with pytest.raises(UserError, match="stage a would have to run"):
        run(may_run=False)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("printed", "code", "sentence"),
    [
        ("error: train: n_estimators is x; expected a number", 2, "train: n_estimators is x; expected a number"),
        ("docker: Error response from daemon: No such image: stages/train:1.", 125, "'make build' builds it"),
        ("", 124, "stage train took longer than"),
        ("", 137, "stage train was killed from outside"),
        ("", 1, "stage train crashed with exit code 1"),
        (f"the stage printed {AWAY}", 1, "stage train crashed with exit code 1"),
        ("its child exited with 124", 1, "stage train crashed with exit code 1"),
    ],
)
def test_what_the_user_must_correct_is_not_tried_again(stages, run, printed, code, sentence):
    """Bad input, a missing image, a timeout, a kill and a crash end the run at once, each in its own sentence."""
    stages(train=answers((printed, code)))
    with pytest.raises(UserError) as told:
        run()
    assert sentence in str(told.value)
    assert asked() == 1


def test_out_of_memory_is_told_apart_from_a_kill(stages, run, docker):
    """If the engine saw a stage go over its limit, the sentence names that limit."""
    docker.does("events", 'case "$*" in *pipeline.stage=train*event=oom*) echo oom;; esac')
    stages(train="exit 137")
    with pytest.raises(UserError, match=r"killed for more memory than .*: set TRAIN_MEMORY in \.env"):
        run()


def test_a_missing_input_is_named(stages, run):
    """A file that no stage makes and that is not there is named with the stage that reads it."""
    stages(a_x="true")
    with pytest.raises(UserError, match=r"stage a reads x\.out, which is missing; expected a file"):
        run()


# --- DVC's lock


def test_an_interrupt_while_queueing_stays_one(project):
    """An interrupt that comes while DVC works for another stage stays an interrupt, and the lock stays the other's."""
    with dvc_adapter.repository(project.root) as repo:
        make_lock = type(repo.lock)
    mine, other = (dvc_adapter._Queue(make_lock(str(project.root / "lock"))) for _ in range(2))
    usual = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def queue_again() -> None:
        with mine:
            mine.unlock()  # as DVC does while a command runs
            other.lock()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            mine.lock()

    try:
        with pytest.raises(KeyboardInterrupt):
            queue_again()
    finally:
        signal.signal(signal.SIGALRM, usual)
    assert other.is_locked
    other.unlock()
    with mine:
        assert mine.is_locked


@pytest.mark.parametrize("end", [r"\r", r"\r\n"], ids=["a bar that goes on", "lines of Windows"])
def test_the_last_state_of_a_progress_bar_is_seen_as_it_comes(stages, run, project, monkeypatch, end):
    """What a bar writes over its own line is shown while the stage runs, as lines, none of which holds two states."""
    monkeypatch.setattr(worker, "PROGRESS", 0)
    log = project.logs / "run.log"
    seen = f"for i in $(seq 100); do if grep -q 'at 1' {log}; then break; fi; sleep 0.1; done; grep -q 'at 1' {log}"
    stages(a=f"printf 'at 1 %%{end}at 2 %%{end}'; {seen} && printf 'at 3 %%{end}'")
    assert run() == ["a"]
    lines = log.read_text().splitlines()
    assert any("at 3" in line for line in lines)
    assert all(line.count("at ") <= 1 for line in lines)


@pytest.mark.parametrize(
    "printed",
    [r"at 1\r", r"\rat 1", r"at 0\rat 1\r", r"\rat 0\rat 1"],
    ids=["first, at its end", "first, at its begin", "at its end", "at its begin"],
)
def test_the_last_state_of_a_bar_that_halts_is_seen(stages, run, project, monkeypatch, printed):
    """What a bar shows when nothing more comes is seen, once, whether it moves back before a state or after it."""
    monkeypatch.setattr(worker, "PROGRESS", 0)
    log = project.logs / "run.log"
    halts = f"for i in $(seq 50); do if grep -q 'at 1' {log}; then break; fi; sleep 0.1; done; grep 'at 1' {log} > seen"
    stages(a=f"printf '{printed}'; {halts}; echo")
    assert run() == ["a"]
    assert Path("seen").read_text().count("at 1") == log.read_text().count("at 1") == 1
