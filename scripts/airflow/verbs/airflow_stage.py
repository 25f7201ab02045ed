"""`make airflow-stage STAGE=`: what a task does in its clone; STAGE=publish is the last one.

Exit codes: scripts/airflow/codes.py. scripts/airflow/task.sh adds `run`, `main` (the clone that it was called in) and
`network` (that clone's).
"""

import os
from pathlib import Path

from scripts.airflow import task


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    if network := given.get("network"):
        os.environ["MLFLOW_NETWORK"] = network
    if main_clone := given.get("main"):
        task.check_remote(Path(main_clone))
    if given.get("stage") == task.PUBLISH:
        task.publish(given.get("run", ""))
    else:
        task.run_stage(given.get("stage", ""))
