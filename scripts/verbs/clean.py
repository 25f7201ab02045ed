"""`make clean`: deletes the stages' outputs in the working tree; the next run restores or makes them."""

import shutil

from scripts.pipeline import dvc_adapter
from scripts.project import PROJECT


def main(arguments: list[str]) -> None:
    with dvc_adapter.repository(PROJECT.root) as repo:
        for path in dvc_adapter.delete_outputs(repo):
            print(f"deleted {path}")
    shutil.rmtree(PROJECT.root / "dvc_plots", ignore_errors=True)
