"""`make ui`: says where MLflow is, and starts it if it is local."""

import os

from scripts import mlflow_server, settings


def main(arguments: list[str]) -> None:
    if settings.is_local(os.environ):
        # Also where it answers: with another port, or another runner image, it is made anew.
        mlflow_server.start(even_if_it_answers=True)
        mlflow_server.wait()
    print(f"MLflow: {mlflow_server.address()}")
