"""`make ui`: says where MLflow is, and how one logs in; starts it if it is local."""

import os

import requests

from scripts import mlflow_server, settings
from scripts.pipeline import template
from scripts.project import UserError
from scripts.registry import reader


def runs() -> str:
    """Return the page with the runs of the pipeline's experiment; of several, or of one that is not there, the list."""
    try:
        experiments = {model.experiment for model in template.load().models}
    except UserError:  # a template that is being edited keeps nobody from looking
        experiments = set()
    try:
        number = reader.experiment(*experiments) if len(experiments) == 1 else None
    except (requests.RequestException, ValueError):
        number = None
    return f"experiments/{number}/runs" if number else "experiments"


def main(arguments: list[str]) -> None:
    if not settings.is_local(os.environ):
        page = "" if settings.is_dagshub(os.environ) else f"/{mlflow_server.route('experiments')}"
        print(f"MLflow: {mlflow_server.address()}{page}")
        return
    # Also where it answers: with another port, or another runner image, it is made anew.
    mlflow_server.start(even_if_it_answers=True)
    mlflow_server.wait()
    print(f"MLflow: {mlflow_server.link(runs())}")
    user, password = settings.mlflow_login(os.environ) or ("", "")
    print(f"for a program: {mlflow_server.address()}, user {user}, password {password}")
