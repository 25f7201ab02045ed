"""Lets a synthetic pipeline be up to date without running it, in its runner: `python benchmarks/settle.py`.

Writes each output, a few bytes, brings it into DVC's cache, and writes dvc.lock as the runs of all stages leave it. DVC
itself reads and writes that once a stage, so a thousand stages would take most of an hour.
"""

import json
from pathlib import Path

from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import dump_yaml


def write(path: Path) -> None:
    """Write an output: one that is no other's, or a score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"score": 0.5}) if path.suffix == ".json" else f"{path}\n")


def main() -> None:
    with Repo() as repo, repo.lock:
        stages = list(repo.index.stages)
        for out in (out for stage in stages for out in stage.outs):
            write(Path(str(out)))
        entries = {}
        for stage in stages:
            stage.save()
            stage.commit()
            entries[stage.name] = to_single_stage_lockfile(stage)
        dump_yaml("dvc.lock", {"schema": "2.0", "stages": entries})


if __name__ == "__main__":
    main()
