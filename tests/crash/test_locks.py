"""Many stages at once, one of which DVC hashes and caches for seconds: none fails on one of DVC's locks."""

import shutil
from pathlib import Path

from tests.unit.conftest import docker, empty_repository, project  # noqa: F401
from tests.unit.pipeline.test_execution import run, stages  # noqa: F401

RUNS, STAGES = 20, 20


def test_a_large_output_makes_no_neighbour_fail(stages, run, monkeypatch) -> None:  # noqa: F811
    """Twenty runs with JOBS=8 of twenty stages, one with 1 GB to cache, end well, and give the same dvc.lock."""
    monkeypatch.setenv("JOBS", "8")
    fan = {f"s{number}": f"sleep 0.{number % 10}; echo {number}" for number in range(STAGES)}
    stages(**fan | {"s0": "head -c 1G /dev/zero | tr '\\0' x > large"})
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("- s0.out", "- s0.out\n    - large", 1))
    locks = set()
    for _ in range(RUNS):
        shutil.rmtree(".dvc/cache", ignore_errors=True)
        Path("dvc.lock").unlink(missing_ok=True)
        assert len(run()) == STAGES
        locks.add(Path("dvc.lock").read_text())
    assert len(locks) == 1
