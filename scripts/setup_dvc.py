"""Renders dvc.yaml. (DVC's remote is set up before every verb.)"""

from scripts import images, render


def main(arguments: list[str]) -> None:
    changed = render.write(images.load(), render.read_params())
    print("dvc.yaml: rendered" if changed else "dvc.yaml: up to date")
