"""`make ui`: says where MLflow is, and how one logs in; starts it if it is local."""

import os
from collections.abc import Sequence

import requests

from scripts import mlflow_server, settings
from scripts.pipeline import template
from scripts.pipeline.console import printable
from scripts.pipeline.stage import Model
from scripts.project import UserError
from scripts.registry import reader


def models() -> Sequence[Model]:
    """Return the pipeline's models; none of a template that is being edited, which keeps nobody from looking."""
    try:
        return template.load().models
    except UserError:
        return ()


def runs(known: Sequence[Model]) -> str:
    """Return the page with the runs of the models' experiment; of several, or of one that is not there, the list."""
    experiments = {model.experiment for model in known}
    try:
        number = reader.experiment(*experiments) if len(experiments) == 1 else None
    except (requests.RequestException, ValueError):
        number = None
    return f"experiments/{number}/runs" if number else "experiments"


def main(arguments: list[str]) -> None:
    known = models()
    if settings.is_local(os.environ):
        local(known)
    else:
        page = "" if settings.is_dagshub(os.environ) else f"/{mlflow_server.route('experiments')}"
        print(f"MLflow: {mlflow_server.address()}{page}")
    for model in (model for model in known if model.loader):
        print(printable(f'in Python: mlflow.pyfunc.load_model("models:/{model.name}@production"), MLflow 2.7 or later'))


def local(known: Sequence[Model]) -> None:
    """Start the local server, and print a link that logs in."""
    # Also where it answers: with another port, or another runner image, it is made anew.
    mlflow_server.start(even_if_it_answers=True)
    mlflow_server.wait()
    print(f"MLflow: {mlflow_server.link(runs(known))}")
    user, password = settings.mlflow_login(os.environ) or ("", "")
    print(f"for a program: {mlflow_server.address()}, user {user}, password {password}")
