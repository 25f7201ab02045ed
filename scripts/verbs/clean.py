"""Deletes the stages' outputs in the working tree; the next run restores them from DVC's cache, or makes them."""

import shutil

from dvc.repo import Repo

from scripts.project import ROOT


def main(arguments: list[str]) -> None:
    for stage in Repo(str(ROOT)).index.stages:
        # A stage without a command is what `dvc add` made of the user's own data: not ours to delete.
        for out in stage.outs if stage.cmd else []:
            if out.exists:
                out.remove()
                print(f"deleted {out}")
    shutil.rmtree(ROOT / "dvc_plots", ignore_errors=True)
