"""What a run does with stages that are independent, fail, or meet a bad moment of the engine: DVC without Docker."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dvc.lock
import pytest
import yaml

from scripts.pipeline import build, execution, failures, images
from scripts.pipeline.worker import Queue
from scripts.project import UserError
from scripts.recovery import recover

AWAY = "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Makes a repository of the given stages, commands by name; a stage `x` needs what `x < y z` names.

    Each writes NAME.out. What Docker would be asked for is left out.
    """
    monkeypatch.chdir(tmp_path)
    for module in (execution, recover, failures):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(recover, "DVC_LOCK", tmp_path / "dvc.lock")
    monkeypatch.setattr(recover, "KEPT", tmp_path / ".kept")
    monkeypatch.setattr(recover, "CACHE", tmp_path / ".dvc" / "cache")
    monkeypatch.setattr(failures, "LOG", tmp_path / "run.log")
    monkeypatch.setattr(build, "on_this_machine", dict)
    monkeypatch.setattr(build, "claim_present", lambda wanted, here: None)
    monkeypatch.setattr(recover, "stop_stages", lambda stage="": False)
    monkeypatch.setattr(failures, "ran_out_of_memory", lambda stage, since: False)
    monkeypatch.setattr(execution, "PAUSE", 0)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("JOBS", "4")
    subprocess.run([*GIT, "init", "--quiet"], check=True)
    subprocess.run(["dvc", "init", "--quiet"], check=True)

    def make(**commands):
        blocks = {}
        for title, command in commands.items():
            name, *needs = title.split("_")
            block = {"cmd": [command, f"echo {name} > {name}.out"], "outs": [f"{name}.out"]}
            blocks[name] = block | ({"deps": [f"{need}.out" for need in needs]} if needs else {})
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))

    return make


def run(targets=()):
    return execution.reproduce(list(targets), {images.BASE: None})


def together(name, others):
    """A command that ends when all of `others` have begun, so that it ends at all only if they run side by side."""
    marks = " && ".join(f"[ -e {other}.begun ]" for other in others)
    return f"touch {name}.begun; for i in $(seq 100); do if {marks}; then exit 0; fi; sleep 0.1; done; exit 1"


def test_independent_stages_run_side_by_side(stages):
    """Stages that wait for each other's beginning all end; one that needs them runs after them."""
    stages(a=together("a", "bc"), b=together("b", "ac"), c=together("c", "ab"), d_a_b_c="true")
    assert sorted(run()[:3]) == ["a", "b", "c"]
    assert run() == []


def test_a_stage_begins_as_soon_as_dvc_is_free(stages, monkeypatch):
    """Stages that are ready at once do not pause before they ask for DVC's lock again, as DVC by itself does."""
    monkeypatch.setenv("JOBS", "8")
    monkeypatch.setattr(dvc.lock, "time", SimpleNamespace(sleep=lambda seconds: Path("paused").touch()))
    stages(**dict.fromkeys("abcdefgh", "true"))
    assert len(run()) == 8
    assert not Path("paused").exists()


def test_an_interrupt_while_queueing_stays_one(tmp_path):
    """Whom an interrupt reaches while DVC works for another stage is told of that, and the lock stays the other's."""
    mine, other = (Queue(dvc.lock.Lock(str(tmp_path / "lock"))) for _ in range(2))
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


def test_one_job_runs_one_after_the_other(stages, monkeypatch):
    """With JOBS=1 no stage begins before the one before it has ended."""
    monkeypatch.setenv("JOBS", "1")
    alone = "mkdir one && sleep 0.2 && rmdir one"
    stages(a=alone, b=alone, c=alone)
    assert len(run()) == 3


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_a_number_of_jobs_is_asked_for(stages, monkeypatch, jobs):
    """Anything else than a whole number from 1 is refused in a sentence."""
    monkeypatch.setenv("JOBS", jobs)
    stages(a="true")
    with pytest.raises(UserError, match=f"JOBS is {jobs}; expected how many stages may run at once"):
        run()


def test_the_lock_is_the_same_text_with_any_jobs(stages, monkeypatch):
    """dvc.lock has the order of dvc.yaml, whichever stage ended first."""
    texts = []
    for jobs in ("1", "3"):
        monkeypatch.setenv("JOBS", jobs)
        stages(a="sleep 0.5", b="sleep 0.2", c="true")
        Path("dvc.lock").unlink(missing_ok=True)
        run()
        texts.append(Path("dvc.lock").read_text())
    assert texts[0] == texts[1]
    assert list(yaml.safe_load(texts[0])["stages"]) == ["a", "b", "c"]


def test_what_is_in_the_cache_is_not_run(stages):
    """A stage whose result DVC has is restored, and is not told as one that ran."""
    stages(a="echo 1 > count", b_a="echo ran >> count")
    assert run() == ["a", "b"]
    Path("b.out").unlink()
    assert run() == []
    assert Path("b.out").read_text() == "b\n"
    assert Path("count").read_text() == "1\nran\n"


def test_only_targets_and_what_they_need(stages):
    """A target runs with what it needs, and nothing else; one that is not there is told with those that are."""
    stages(a="true", b_a="true", c_b="true")
    assert run(["b"]) == ["a", "b"]
    with pytest.raises(UserError, match="there is no stage x; expected one of a, b, c"):
        run(["x"])


# --- images


@pytest.fixture
def built(monkeypatch):
    """What was asked to be built, a line for each time; no image is on the machine."""
    note = "import sys; print(*sys.argv[1:], file=open('built', 'a'))"
    monkeypatch.setattr(
        build, "ensure", lambda wanted: subprocess.run([sys.executable, "-c", note, *wanted], check=True)
    )
    return lambda: Path("built").read_text().splitlines() if Path("built").exists() else []


def with_images(*names):
    wanted = {name: images.Image(name, f"stages/{name}:1", {}) for name in (images.BASE, *names)}
    return execution.reproduce([], wanted)


def test_images_of_stages_that_are_certain_to_run_are_built_together(stages, built):
    """On a machine that knows nothing all images are built at once, before the first stage."""
    stages(a="[ -e built ] # stages/a:1", b_a="true # stages/b:1")
    assert with_images("a", "b") == ["a", "b"]
    assert built() == ["base a b"]


def test_no_image_is_built_for_what_is_up_to_date_or_restored(stages, built):
    """A machine that has all outputs, or has them in DVC's cache, needs no image."""
    Path("x.out").touch()  # DVC keeps no result of a stage without inputs
    stages(a_x="true # stages/a:1", b_a="true # stages/b:1")
    with_images("a", "b")
    Path("built").unlink()
    assert with_images("a", "b") == []
    for name in ("a.out", "b.out", "dvc.lock"):
        Path(name).unlink()
    assert with_images("a", "b") == []
    assert built() == []
    assert Path("b.out").exists()


def test_an_image_is_built_when_dvc_says_that_its_stage_is_to_run(stages, built):
    """Where DVC might have restored a stage, its image is built when that turns out not to be so, and no other."""
    Path("x.out").touch()  # DVC keeps no result of a stage without inputs
    stages(a_x="true # stages/a:1", b_a="true # stages/b:1")
    with_images("a", "b")
    Path("built").unlink()
    for path in ("dvc.lock", "b.out", *Path(".dvc/cache/files/md5").glob(f"{md5('b')[:2]}/*")):
        Path(path).unlink()
    assert with_images("a", "b") == ["b"]
    assert built() == ["base b"]


def md5(name):
    return hashlib.md5(f"{name}\n".encode(), usedforsecurity=False).hexdigest()


# --- failures


def test_after_a_failure_nothing_begins(stages, monkeypatch, capfd):
    """What runs goes on to its end and is kept, what has not begun is named; the failed one's lines come once more."""
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


def test_keep_going_runs_what_does_not_depend_on_it(stages, monkeypatch, capfd):
    """With KEEP_GOING=1 all else runs, and each failure is told in its own sentence."""
    monkeypatch.setenv("KEEP_GOING", "1")
    stages(a="exit 3", b_a="true", c="true", d_c="exit 4", e_c="true")
    with pytest.raises(UserError) as told:
        run()
    assert str(told.value).splitlines() == [
        "stage a crashed with exit code 3; expected 0, or 2 with a sentence: see above or run.log",
        "error: stage d crashed with exit code 4; expected 0, or 2 with a sentence: see above or run.log",
    ]
    assert "not run: b" in capfd.readouterr().out
    assert Path("e.out").exists()


def test_a_killed_worker_is_told(stages):
    """A DVC that something killed ends the run in a sentence, and not its neighbours."""
    stages(a="kill -9 $PPID; sleep 1", b="sleep 0.5")
    with pytest.raises(UserError, match=r"dvc was killed \(signal 9\)"):
        run()
    assert Path("b.out").exists()


def test_an_interrupt_ends_what_runs(stages, monkeypatch):
    """When the run is interrupted its stages are stopped, and no process of it is left."""
    monkeypatch.setattr(recover, "stop_stages", lambda stage="": Path("stop").touch())
    monkeypatch.setattr(recover, "GRACE", 5)
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
    """A command that prints and exits as told, a pair for each time it is called."""
    cases = [f"{number}) echo '{text}'; exit {code};;" for number, (text, code) in enumerate(calls, 1)]
    return f"echo . >> asked; case $(wc -l < asked) in {' '.join(cases)} esac"


def asked():
    return len(Path("asked").read_text().splitlines())


def test_a_fault_of_the_engine_is_tried_again(stages):
    """An engine that does not answer costs no run, if it answers the next time."""
    stages(train=answers((AWAY, 125), ("", 0)))
    assert run() == ["train"]
    assert asked() == 2


def test_it_is_not_tried_for_ever(stages):
    """An engine that stays away ends the run in a sentence after three tries."""
    stages(train=answers(*[(AWAY, 125)] * 5))
    with pytest.raises(UserError, match="stage train could not be started, Cannot connect to the Docker daemon"):
        run()
    assert asked() == 3


@pytest.mark.parametrize(
    ("printed", "code", "sentence"),
    [
        ("error: train: n_estimators is x; expected a number", 2, "train: n_estimators is x; expected a number"),
        ("docker: Error response from daemon: No such image: stages/train:1.", 125, "'make build' builds it"),
        ("", 124, "stage train took longer than"),
        ("", 137, "stage train was killed from outside"),
        ("", 1, "stage train crashed with exit code 1"),
        (f"the stage printed {AWAY}", 1, "stage train crashed with exit code 1"),
    ],
)
def test_what_the_user_must_mend_is_not_tried_again(stages, printed, code, sentence):
    """Bad input, a missing image, a timeout, a kill and a crash are told at once, each in its own sentence."""
    stages(train=answers((printed, code)))
    with pytest.raises(UserError) as told:
        run()
    assert sentence in str(told.value)
    assert asked() == 1


def test_too_much_memory_is_told_from_a_kill(stages, monkeypatch):
    """A stage that the engine saw go over its limit is told with that limit's name."""
    monkeypatch.setattr(failures, "ran_out_of_memory", lambda stage, since: stage == "train")
    stages(train="exit 137")
    with pytest.raises(UserError, match=r"killed for more memory than .*: set TRAIN_MEMORY in \.env"):
        run()
