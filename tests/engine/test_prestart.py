"""A stage whose container starts before its inputs are there sees, does and leaves what it otherwise would."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.conftest import ALL, STAGES, Clone, Make, last_line, stages_line, with_probe
from tests.engine.test_sealed import PROBE

pytestmark = pytest.mark.docker

LATER = list(STAGES[1:])
"""The stages that wait for inputs."""

PROBED_DOCKER = """#!/opt/venv/bin/python
# Stands before docker's own client: runs a probe that waits for its inputs in place of a stage's program.
import os, sys
words = sys.argv[1:]
if words[0] == "run":
    image = next(place for place, word in enumerate(words) if word.startswith("stages/"))
    words = [*words[:image], "--entrypoint", "python", words[image], "-c", os.environ["PROBE"]]
os.execv("/usr/bin/docker", ["docker", *words])
"""
START_EARLY = """
import os
from scripts.pipeline import prestart, template
from scripts.project import PROJECT
for stage in template.load().stages.values():
    with prestart.started(PROJECT, stage, env=os.environ) as container:
        if container:
            container.run()
"""


def early_ones(done: Make) -> list[str]:
    """Return the stages of a run whose container was started early, and used."""
    return re.findall(r"^(\S+) +\| was started early$", done.stdout, re.M)


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
    """Make the clone as if nothing had ever run."""
    clone.make("clean")
    (clone.path / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", str(clone.path / ".dvc" / "cache")], check=True)


@contextmanager
def started_of(clone: Clone, stage: str) -> Iterator[None]:
    """Check that within the block a container of `stage` was started."""
    since = datetime.now(UTC).isoformat()
    yield
    filters = ["--filter", "event=start", "--filter", f"label=pipeline.stage={stage}"]
    assert clone.docker("events", "--since", since, "--until", datetime.now(UTC).isoformat(), *filters)


def nothing_is_left(clone: Clone) -> bool:
    """Return True if no container of a stage is there, nor what was put into one."""
    stages = clone.docker("container", "ls", "--all", "--quiet", "--filter", "label=pipeline.stage")
    return not stages and not (clone.path / ".local" / "early").exists()


def test_the_outputs_are_the_same(clone: Clone) -> None:
    """Started early or one at a time, the stages give the same bytes."""
    before = (clone.path / "dvc.lock").read_text()
    forget(clone)
    done = clone.make("run", "JOBS=2")
    assert early_ones(done) == LATER
    assert (clone.path / "dvc.lock").read_text() == before
    assert nothing_is_left(clone)


def test_it_sees_and_may_do_the_same(clone: Clone) -> None:
    """User, rights, limits, network, and files that can be read and written: all as with the command of dvc.yaml."""
    typed = [with_probe(clone.stages()[name]["cmd"], PROBE) for name in LATER]
    program = clone.path / ".local" / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(PROBED_DOCKER)
    program.chmod(0o755)
    early = f"export PATH='{program.parent}':$PATH PROBE=$(cat <<'END'\n{waiting(PROBE)}\nEND\n)"
    printed = clone.make("shell", stdin="\n".join([*typed, early, f"python - <<'END'\n{START_EARLY}\nEND\n"])).stdout
    found = [json.loads(line.removeprefix("PROBE ")) for line in printed.splitlines() if line.startswith("PROBE ")]
    assert len(found) == 2 * len(LATER), printed
    for name, as_typed, started_early in zip(LATER, found[: len(LATER)], found[len(LATER) :], strict=True):
        assert comparable(started_early, clone, name) == comparable(as_typed, clone, name), name


def waiting(program: str) -> str:
    """Return the program, which first waits as the stage kit does."""
    return f"print('waits for its inputs', flush=True)\ninput()\n{program}"


def comparable(probe: dict, clone: Clone, stage: str) -> dict:
    """Return what a probe found, without how its places are mounted, and without what the stage made before.

    A container that starts early has an empty output folder, and one variable more.
    """
    block = clone.stages()[stage]
    made = {path for kind in ("outs", "metrics", "plots") for output in block.get(kind, []) for path in output}
    names = {path.rpartition("/")[2] for path in made}
    kept = ("user", "groups", "limits")
    found = {key: probe[key] for key in kept} | {
        "status": {key: value for key, value in probe["status"].items() if key.startswith(("Cap", "NoNew", "Seccomp"))},
        "files": {path: may_change for path, may_change in probe["files"].items() if path not in made},
        "names": sorted({*probe["names"]} - names),
        "environment": sorted({*probe["environment"]} - {"STARTED_EARLY"}),
    }
    return found | {key: sorted(probe[key]) for key in ("writable", "interfaces", "routes")}


def test_one_that_is_not_needed_is_given_up(clone: Clone) -> None:
    """If a stage runs and makes what it made before, the next one is not run, and its container is gone."""
    clone.edit("stages/ingest/ingest.py", "class IngestArgs", "# the same again\nclass IngestArgs")
    with started_of(clone, "preprocess"):
        done = clone.make("run", "JOBS=2")
    assert stages_line(done) == "ran ingest"
    assert early_ones(done) == []
    assert nothing_is_left(clone)


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
    assert stages_line(done) == ALL
    assert (clone.path / "data/processed/train.csv").read_bytes() == before
    assert nothing_is_left(clone)


def test_a_failure_ends_what_was_started_early(clone: Clone) -> None:
    """If a stage fails, the container of the next one is gone when the run has ended."""
    forget(clone)
    clone.edit("params.yaml", "test_size: 0.2", "test_size: 0.001")
    done = clone.make("run", "JOBS=2", check=False)
    assert done.returncode == 2
    assert last_line(done).startswith("error: preprocess: 150 rows cannot be split")
    assert nothing_is_left(clone)


def test_a_timeout_is_reported_as_any_other(clone: Clone) -> None:
    """A stage that was started early and takes longer than its time limit is stopped, and the sentence says so."""
    forget(clone)
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 10000")
    done = clone.make("run", "JOBS=2", check=False, TRAIN_TIMEOUT="2")
    assert early_ones(done) == ["preprocess", "train"]
    assert last_line(done).startswith("error: stage train took longer than 2: set TRAIN_TIMEOUT in .env")
    assert nothing_is_left(clone)
