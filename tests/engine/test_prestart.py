"""A stage whose container starts before its inputs are there sees, does and leaves what it does otherwise."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dvc.stage.exceptions import StageCmdFailedError
from tests.test_sealed import PROBE

import waiting
from scripts import settings
from scripts.pipeline import prestart
from scripts.project import ROOT
from scripts.recovery import recover
from tests.conftest import Clone, Make, last_line, stages_line, with_probe

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LATER = [name for name, stage in STAGES.items() if "deps" in stage]
EARLY = "was started early"


def early_ones(done: Make) -> list[str]:
    return re.findall(rf"^(\S+) +\| {EARLY}$", done.stdout, re.M)


@pytest.mark.parametrize("name", LATER)
def test_only_places_and_timeout_differ(name: str) -> None:
    """What starts early is the `docker run` of dvc.yaml, but for the timeout and the places of inputs and outputs."""
    how = prestart.command(name, STAGES[name]["cmd"])
    assert (how.timeout, how.inputs) == (f"{name.upper()}_TIMEOUT", STAGES[name]["deps"])
    assert Path(STAGES[name]["outs"][0] if "outs" in STAGES[name] else "metrics/x").parent == Path(how.folder)
    typed, started = (
        [w for w in text.replace("\\\n", " ").split(" ") if w] for text in (STAGES[name]["cmd"][1], how[0])
    )
    assert {*typed} - {*started} <= {
        "timeout", "--foreground", "--kill-after", "10", f'"${name.upper()}_TIMEOUT"',
        *(f'"type=bind,src=$PWD/{path},dst=/work/{path},readonly"' for path in how.inputs),
        f'"type=bind,src=$PWD/{how.folder},dst=/work/{how.folder}"',
    }  # fmt: skip
    place = f'"type=bind,src=$PWD/.local/early/{name}'
    places = {f'{place}/work,dst=/work,readonly"', f'{place}/made,dst=/work/{how.folder}"'}
    assert {*started} - {*typed} == ({"--interactive", "--env", "STARTED_EARLY=1"} | places) - {*typed}


@pytest.mark.parametrize(
    "cmd",
    [
        "python train.py",
        ["mkdir -p models", "python train.py"],
        STAGES["ingest"]["cmd"],
        [part.replace("docker run", "podman run") for part in STAGES["train"]["cmd"]],
        [part.replace("data/processed/", "models/") for part in STAGES["train"]["cmd"]],
    ],
    ids=["a string", "no container", "no inputs", "another command", "inputs among outputs"],
)
def test_other_commands_do_not_start_early(cmd: object) -> None:
    """A command that is not one of the template's, or whose inputs cannot be put there later, waits for them."""
    assert prestart.command("train", cmd) is None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("1.5", 1.5), ("2s", 2), ("30m", 1800), ("1.5h", 5400), ("1d", 86400), ("0", 0), ("soon", None)],
)
def test_a_timeout_is_read_as_timeout_reads_it(given: str, seconds: float | None) -> None:
    """Seconds, minutes, hours and days; what `timeout` would refuse is no time."""
    assert settings.seconds(given) == seconds


# --- a program in place of the container


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], prestart.Container]:
    """Starts a shell's command early, for a stage that reads given/ and big.txt and writes below made/."""
    monkeypatch.setattr(prestart, "ROOT", tmp_path)
    monkeypatch.setattr(recover, "EARLY", tmp_path / "early")
    monkeypatch.setattr(recover, "stop_stages", lambda stage, grace: False)
    monkeypatch.setenv("LIMIT", "60")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "one.txt").write_text("1")
    (tmp_path / "big.txt").write_text("2")
    repo = SimpleNamespace(root_dir=str(tmp_path))
    stage = SimpleNamespace(addressing="look", cmd=["mkdir", "docker run"], wdir=str(tmp_path), repo=repo)

    def begin(command: str) -> prestart.Container:
        how = prestart.Command(f"sh -c '{command}'", "LIMIT", ["given", "big.txt"], "made")
        return prestart.Container(stage, how)

    return begin


WAITS = f"echo before; echo {waiting.WAITING}; read go; cd early/look; "


def test_it_gets_its_inputs_and_gives_its_outputs(
    start: Callable[[str], prestart.Container], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Files and folders are there when it begins; what it makes is moved among what the output folder holds."""
    (tmp_path / "made" / "sub").mkdir(parents=True)
    (tmp_path / "made" / "sub" / "kept").write_text("kept")
    (tmp_path / "made").chmod(0o2775)
    container = start(f"{WAITS} mkdir made/sub; cat work/given/one.txt work/big.txt > made/sub/out; chmod 555 made/sub")
    assert container.run()
    container.give_up()
    assert capfd.readouterr().out == "before\nwas started early\n"
    assert (tmp_path / "made" / "sub" / "out").read_text() == "12"
    assert (tmp_path / "made" / "sub" / "kept").read_text() == "kept"
    assert (tmp_path / "made").stat().st_mode & 0o7777 == 0o2775
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.txt", "given", "made"]


def test_a_link_in_a_folder_stays_a_link(start: Callable[[str], prestart.Container], tmp_path: Path) -> None:
    """What a symbolic link among the inputs points to is no input: it is not shown."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "given" / "link").symlink_to(tmp_path / "secret")
    container = start(f"{WAITS} readlink work/given/link > made/out")
    assert container.run()
    container.give_up()
    assert (tmp_path / "made" / "out").read_text() == f"{tmp_path}/secret\n"


@pytest.mark.parametrize(
    "command", ["exit 1", "echo something else; exit 0", "exec sleep 60"], ids=["fails", "ends", "never says a word"]
)
def test_one_that_does_not_wait_is_of_no_use(
    start: Callable[[str], prestart.Container], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A program that ends, or does not say in time that it waits, gets nothing; what it wrote is gone."""
    monkeypatch.setattr(prestart, "PATIENCE", 0.2)
    container = start(f"echo wrong > early/look/made/out; {command}")
    assert not container.run()
    container.give_up()
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "early").exists()


def test_outputs_that_cannot_be_moved_are_found_out_before(
    start: Callable[[str], prestart.Container], tmp_path: Path
) -> None:
    """Where the output folder cannot be had, the command of dvc.yaml is to run, which says so."""
    (tmp_path / "made").write_text("a file")
    container = start(f"{WAITS} touch ran")
    assert not container.run()
    container.give_up()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 3", 3), ("kill -9 $$", 137), ("exec sleep 60", 124)],
    ids=["a crash", "a kill", "a timeout"],
)
def test_how_it_ended_is_told_as_dvc_tells_it(
    start: Callable[[str], prestart.Container], monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    """The error names the command and the number that a shell gives, 124 after the timeout."""
    if code == 124:
        monkeypatch.setenv("LIMIT", "0.2")
    container = start(WAITS + command)
    with pytest.raises(StageCmdFailedError, match=rf"failed to run: docker run, exited with {code}$"):
        container.run()
    container.give_up()


def test_time_is_counted_from_when_the_inputs_are_there(
    start: Callable[[str], prestart.Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting costs a stage nothing of its timeout."""
    monkeypatch.setenv("LIMIT", "1")
    container = start(f"{WAITS} exit 0")
    time.sleep(1.2)
    assert container.run()
    container.give_up()


# --- on the engine


@pytest.fixture(scope="module")
def begun(clone_at: Callable[[str], Clone]) -> Clone:
    """The one clone of this module, after a run one stage at a time."""
    clone = clone_at("early")
    assert early_ones(clone.make("run", "JOBS=1")) == []
    return clone


@pytest.fixture
def clone(begun: Clone) -> Iterator[Clone]:
    """That clone, its files put back after the test."""
    yield begun
    begun.restore()


def forget(clone: Clone) -> None:
    """As if nothing had ever run."""
    clone.make("clean")
    (clone.path / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", str(clone.path / ".dvc" / "cache")], check=True)


@contextmanager
def started_of(clone: Clone, stage: str) -> Iterator[None]:
    """Checks that within the block a container of `stage` was started."""
    since = datetime.now(UTC).isoformat()
    yield
    filters = ["--filter", "event=start", "--filter", f"label=pipeline.stage={stage}"]
    assert clone.docker("events", "--since", since, "--until", datetime.now(UTC).isoformat(), *filters)


def nothing_is_left(clone: Clone) -> bool:
    """Whether no container of a stage is there, nor what was put into one."""
    stages = clone.docker("container", "ls", "--all", "--quiet", "--filter", "label=pipeline.stage")
    return not stages and not (clone.path / ".local" / "early").exists()


@pytest.mark.docker
def test_the_outputs_are_the_same(clone: Clone) -> None:
    """Started early or one at a time, the stages give the same bytes."""
    before = (clone.path / "dvc.lock").read_text()
    forget(clone)
    done = clone.make("run", "JOBS=2")
    assert early_ones(done) == LATER
    assert (clone.path / "dvc.lock").read_text() == before
    assert nothing_is_left(clone)


@pytest.mark.docker
def test_it_sees_and_may_do_the_same(clone: Clone) -> None:
    """User, rights, limits, network, and files that can be read and written: all as with the command of dvc.yaml."""
    typed, started = [], []
    for name in LATER:
        how = prestart.command(name, STAGES[name]["cmd"])
        link = " && ".join(f"mkdir -p $(dirname {path}) && ln $OLDPWD/{path} {path}" for path in how.inputs)
        place = f".local/early/{name}"
        begin = f"mkdir -p {place}/made {place}/work/{how.folder} && (cd {place}/work && {link})"
        typed.append(with_probe(STAGES[name]["cmd"][1], PROBE))
        started.append(f"{begin}; {with_probe(f'timeout 60 {how.docker_run}', PROBE)} < /dev/null")
    printed = clone.make("shell", stdin="\n".join([*typed, *started, "rm -r .local/early"])).stdout
    found = [json.loads(line.removeprefix("PROBE ")) for line in printed.splitlines() if line.startswith("PROBE ")]
    assert len(found) == 2 * len(LATER), printed
    for probe in found:
        del probe["mounts"]
        probe["environment"] = set(probe["environment"]) - {"STARTED_EARLY"}
        status = probe["status"]
        probe["status"] = {key: status[key] for key in status if key.startswith(("Cap", "NoNew", "Seccomp"))}
        for key in ("writable", "interfaces", "routes"):  # which come in the kernel's order
            probe[key].sort()
    for name, as_typed, early_one in zip(LATER, found[: len(LATER)], found[len(LATER) :], strict=True):
        folder = prestart.command(name, STAGES[name]["cmd"]).folder  # which is emptied before a stage runs
        made = {Path(path).name for path in as_typed["files"] if path.startswith(f"{folder}/")}
        for probe in (as_typed, early_one):
            probe["names"] = sorted(set(probe["names"]) - made)
            probe["files"] = {path: may for path, may in probe["files"].items() if not path.startswith(f"{folder}/")}
        for key, value in as_typed.items():
            assert early_one[key] == value, f"{name}, {key}: {set(value) ^ set(early_one[key])}"


@pytest.mark.docker
def test_one_that_is_not_needed_is_given_up(clone: Clone) -> None:
    """Where a stage runs and makes what it made before, the next one is not run, and its container is gone."""
    clone.edit("stages/ingest/ingest.py", "class IngestArgs", "# the same again\nclass IngestArgs")
    with started_of(clone, "preprocess"):
        done = clone.make("run", "JOBS=2")
    assert stages_line(done) == "ran ingest"
    assert early_ones(done) == []
    assert nothing_is_left(clone)


@pytest.mark.docker
def test_a_program_that_does_not_wait_runs_as_ever(clone: Clone) -> None:
    """A program that does not wait is run again when its inputs are there; nothing that it wrote before is seen."""
    before = (clone.path / "data/processed/train.csv").read_bytes()
    forget(clone)
    begins = (
        "args = parse(PreprocessArgs, sys.argv[1:])\n"
        "    args.raw.exists() or args.train_csv.write_text('wrong')\n"
        "    main(args)"
    )
    clone.edit("stages/preprocess/preprocess.py", "run(main, PreprocessArgs)", begins)
    clone.edit("stages/preprocess/preprocess.py", "log, run, writing", "log, parse, writing")
    clone.edit("stages/preprocess/preprocess.py", "from pathlib", "import sys\nfrom pathlib")
    done = clone.make("run", "JOBS=2")
    assert early_ones(done) == ["train", "evaluate"]
    assert stages_line(done) == "ran ingest, preprocess, train, evaluate"
    assert (clone.path / "data/processed/train.csv").read_bytes() == before
    assert nothing_is_left(clone)


@pytest.mark.docker
def test_a_failure_ends_what_was_started_early(clone: Clone) -> None:
    """Where a stage fails, the container of the next one is gone when the run has ended."""
    forget(clone)
    clone.edit("params.yaml", "test_size: 0.2", "test_size: 0.001")
    done = clone.make("run", "JOBS=2", check=False)
    assert done.returncode == 2
    assert last_line(done).startswith("error: preprocess: 150 rows cannot be split")
    assert nothing_is_left(clone)


@pytest.mark.docker
def test_a_timeout_is_told_as_any_other(clone: Clone) -> None:
    """A stage that was started early and takes longer than its timeout is stopped, and the sentence says so."""
    forget(clone)
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 10000")
    done = clone.make("run", "JOBS=2", check=False, TRAIN_TIMEOUT="2")
    assert early_ones(done) == ["preprocess", "train"]
    assert last_line(done).startswith("error: stage train took longer than 2: set TRAIN_TIMEOUT in .env")
    assert nothing_is_left(clone)
