"""Generated files, cut off at every sixteenth: healed, or told in one sentence; never a wrong result."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Clone, last_line
from tests.killing import OUTPUTS, UNDISTURBED, Result, left_behind, result, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker

RWLOCK = '{"write": {"/data/raw/iris.csv": {"pid": 1, "cmd": "dvc repro"}}, "read": {"/params.yaml": []}}'


def dvc_lock(clone: Clone) -> Path:
    return clone.path / "dvc.lock"


def dvc_yaml(clone: Clone) -> Path:
    return clone.path / "dvc.yaml"


def rwlock(clone: Clone) -> Path:
    path = clone.path / ".dvc" / "tmp" / "rwlock"
    path.write_text(RWLOCK)
    return path


def cached(clone: Clone) -> Path:
    """The largest file in DVC's cache, the model; the outputs are gone, so that they are taken from there."""
    for name in OUTPUTS:
        shutil.rmtree(clone.path / name)
    files = (clone.path / ".dvc" / "cache" / "files" / "md5").glob("*/*")
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("sixteenths", range(16))
@pytest.mark.parametrize("file", [dvc_lock, dvc_yaml, rwlock, cached])
def test_a_cut_file_is_healed(
    undisturbed: tuple[Clone, Result],  # noqa: F811
    file: Callable[[Clone], Path],
    sixteenths: int,
) -> None:
    """The next run ends as an undisturbed one, and leaves nothing."""
    clone, expected = undisturbed
    path = file(clone)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[: len(whole) * sixteenths // 16])
    path.chmod(0o444 if file is cached else 0o644)  # DVC trusts a file that is read-only
    clone.make("run")
    files = [path for folder in OUTPUTS for path in (clone.path / folder).rglob("*") if path.is_file()]
    assert {str(path.relative_to(clone.path)): path.read_bytes() for path in files} == expected.files
    assert (clone.path / "dvc.lock").read_text() == expected.lock
    assert left_behind(clone) == []


@pytest.mark.parametrize("sixteenths", range(16))
def test_a_cut_database_is_told(undisturbed: tuple[Clone, Result], sixteenths: int) -> None:  # noqa: F811
    """MLflow is not started on it, and one sentence says what to do; with a copy in its place, all is as before."""
    clone, expected = undisturbed
    clone.make("down")
    path = clone.path / ".local" / "mlflow" / "mlflow.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * sixteenths // 16])
    try:
        told = clone.make("run", check=False)
    finally:
        path.write_bytes(whole)
    assert told.returncode == 2 and "Traceback" not in told.stdout
    sentence = "not published: MLflow's database .local/mlflow/mlflow.db is damaged ("
    assert last_line(told).startswith("error: ") and sentence in last_line(told)
    if sixteenths == 15:
        clone.make("run")
        assert result(clone, UNDISTURBED) == expected
