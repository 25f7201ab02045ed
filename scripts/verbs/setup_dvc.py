"""Renders dvc.yaml. (DVC's remote is set up before every verb.)"""

from scripts.pipeline import images, template


def main(arguments: list[str]) -> None:
    changed = template.write(images.load(), template.read_params())
    print("dvc.yaml: rendered" if changed else "dvc.yaml: up to date")
