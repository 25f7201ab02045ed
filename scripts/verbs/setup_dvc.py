"""`make setup-dvc`: renders dvc.yaml. (DVC's remote is set up before every verb.)"""

from scripts.pipeline import template


def main(arguments: list[str]) -> None:
    changed = template.write(template.load())
    print("dvc.yaml: rendered" if changed else "dvc.yaml: up to date")
