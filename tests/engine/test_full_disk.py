"""No space left, in any stage or in MLflow, is one sentence; once there is space, the next run ends as it should."""

import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import STAGES, Clone, last_line, stages_line
from tests.killing import UNDISTURBED, Result, forget, left_behind, name_models, result, same, undisturbed  # noqa: F401  # fmt: skip

pytestmark = pytest.mark.docker

NO_ARTIFACTS = {"type": "tmpfs", "target": "/mlflow/artifacts", "tmpfs": {"size": 4096, "mode": 0o1777}}


@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=[] if name == "train" else pytest.mark.deep) for name in STAGES]
)
def test_a_stage_without_space(undisturbed: tuple[Clone, Result], stage: str) -> None:  # noqa: F811
    """A stage whose output does not fit ends in one sentence and leaves nothing; the next run ends as it should."""
    clone, expected = undisturbed
    forget(clone)
    full = clone.make("run", check=False, STOP_AT=f"{stage}@full")
    assert full.returncode == 2 and "Traceback" not in full.stdout
    sentence = (
        rf"error: {stage}: cannot write [\w./]+: No space left on device; expected a folder that uid \d+ may write, "
        r"with free space: mend that and run again"
    )
    assert re.fullmatch(sentence, last_line(full)), last_line(full)
    assert left_behind(clone) == []
    assert stages_line(clone.make("run")) == f"ran {', '.join(STAGES[STAGES.index(stage) :])}"
    found = result(clone, UNDISTURBED)
    assert (found.files, found.lock) == (expected.files, expected.lock)


@pytest.mark.deep
def test_mlflow_without_space(undisturbed: tuple[Clone, Result], restart: Callable[..., None]) -> None:  # noqa: F811
    """A server that cannot store a model costs no training: one sentence; with space, the next run publishes."""
    clone, expected = undisturbed
    name_models(clone, "kill-full0")
    restart(NO_ARTIFACTS)
    full = clone.make("run", check=False)
    assert full.returncode == 2 and "Traceback" not in full.stdout
    assert last_line(full).startswith("error: kill-full0 is trained, but not published: the MLflow server ")
    restart()
    again = clone.make("run")
    assert "published now" in again.stdout
    same(result(clone, "kill-full0"), expected)


@pytest.fixture
def restart(undisturbed: tuple[Clone, Result]) -> Iterator[Callable[..., None]]:  # noqa: F811
    """Restart the clone's MLflow server with other mounts beside its own."""
    clone = undisturbed[0]
    override = clone.path / "docker-compose.override.yml"

    def call(*volumes: dict) -> None:
        clone.make("down")
        override.write_text(json.dumps({"services": {"mlflow": {"volumes": list(volumes)}}}) if volumes else "{}")
        clone.make("ui")

    yield call
    override.unlink()
