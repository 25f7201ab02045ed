"""`make ui`: says where MLflow is, and how one logs in; starts it if it is local."""

import os

from scripts import mlflow_server, settings


def main(arguments: list[str]) -> None:
    if settings.is_local(os.environ):
        # Also where it answers: with another port, or another runner image, it is made anew.
        mlflow_server.start(even_if_it_answers=True)
        mlflow_server.wait()
    print(f"MLflow: {mlflow_server.link()}")
    if settings.is_local(os.environ):
        user, password = settings.mlflow_login(os.environ) or ("", "")
        print(f"for a program: {mlflow_server.address()}, user {user}, password {password}")
