"""A stage under a debugger: as a run has it, but for its code, which is live, and outputs that count nowhere."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import NOTHING, Clone, last_line, stages_line

pytestmark = pytest.mark.docker
SCRATCH = ".local/debug/train/models"


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Iterator[Clone]:
    """Return a clone in which nothing was run yet."""
    yield clone_at("debug")


def test_an_input_that_is_not_here_is_told(clone: Clone) -> None:
    """Before the run that makes a stage's input, one sentence says how it is made."""
    done = clone.make("debug-train", check=False)
    assert done.returncode == 2
    assert last_line(done) == (
        "error: train reads data/processed/train.csv, which is not here; expected it: 'make run-preprocess' makes it"
    )
    done = clone.make("debug-trian", check=False)
    assert last_line(done).startswith("error: trian is no stage; expected one of ingest, preprocess, train, evaluate")


def test_a_breakpoint_is_reached_and_what_it_makes_counts_nowhere(clone: Clone) -> None:
    """A breakpoint in the host's file is reached, with the stage's arguments, in its image; what it
    then writes is in no output, no lock, no cache and no registry."""
    clone.make("run")
    before = {
        name: (clone.path / name).read_bytes() for name in ("dvc.lock", "models/model.json", "models/training.csv")
    }
    objects = sorted(path for path in (clone.path / ".dvc/cache/files").rglob("*"))
    clone.edit("stages/train/train.py", "def fit(", "def fit_of_the_debugger(args):\n    pass\n\n\ndef fit(")
    typed = "import sys\nprint('ARGUMENTS', sys.argv[1:3])\nprint('LIVE', fit_of_the_debugger)\ncontinue\n"
    done = clone.make("debug-train", stdin="b main\ncontinue\n" + typed + "q\n", CMD="python -m pdb /app/train.py")
    assert "ARGUMENTS ['--train_csv', 'data/processed/train.csv']" in done.stdout, done.stdout
    assert "LIVE <function fit_of_the_debugger" in done.stdout, done.stdout
    assert (clone.path / SCRATCH / "model.json").stat().st_size
    assert "Nothing reads it" in (clone.path / ".local/debug/train/MADE_BY_DEBUG.txt").read_text()
    clone.restore()
    assert {name: (clone.path / name).read_bytes() for name in before} == before
    assert sorted(path for path in (clone.path / ".dvc/cache/files").rglob("*")) == objects
    assert stages_line(clone.make("run")) == NOTHING
    assert [version["version"] for version in clone.registry()] == ["1"]


def test_a_shell_has_what_the_stage_has(clone: Clone) -> None:
    """Without CMD there is a shell: its arguments are the stage's, inputs cannot be written, outputs go beside."""
    typed = 'echo "$@"; id -u; touch data/processed/train.csv || echo REFUSED; python /app/train.py "$@" && ls models\n'
    done = clone.make("debug-train", stdin=typed)
    assert "--train_csv data/processed/train.csv --model models/model.json" in done.stdout
    assert "--n_estimators 100" in done.stdout and "REFUSED" in done.stdout
    assert (clone.path / SCRATCH / "model.json").read_bytes() == (clone.path / "models/model.json").read_bytes()
