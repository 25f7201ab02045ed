"""`make down`: stops this clone's services."""

from scripts import mlflow_server


def main(arguments: list[str]) -> None:
    mlflow_server.stop()
