"""Deletes the stages' outputs in the working tree. DVC's cache keeps them: the next run restores them."""

import shutil

from dvc.repo import Repo

from scripts.project import ROOT


def main(arguments: list[str]) -> None:
    for out in Repo(str(ROOT)).index.outs:
        if out.exists:
            out.remove()
            print(f"deleted {out}")
    shutil.rmtree(ROOT / "dvc_plots", ignore_errors=True)
