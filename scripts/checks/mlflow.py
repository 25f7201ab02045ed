"""The MLflow server: whether it answers, what it supports, where it keeps artifacts, and its clock."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from scripts import bounded, mlflow_server, settings
from scripts.checks.check import Check
from scripts.checks.servers import TIMEOUT, wrong
from scripts.pipeline import template
from scripts.project import PROJECT, Project, UserError

SKEW = 300  # seconds by which S3 servers let the clocks differ at most
PROBES: Mapping[str, str] = {
    "stages": "registered-models/get-latest-versions?name=doctor",
    "aliases": "registered-models/alias?name=doctor&alias=doctor",
    "logged models": "logged-models/doctor",
}
"""Calls that read what is not there: a server that knows the call says so in JSON, another knows no such call."""


def mlflow(project: Project = PROJECT) -> Iterator[Check]:
    """Check the server that is in use; the local one only if it runs."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if settings.is_local(os.environ) and not mlflow_server.answers():
        yield Check("MLflow", True, "the local server is not running: the next run starts it")
        return
    try:
        response = _call("experiments/search?max_results=1")
        newest = _body(response).get("experiments", [])
        known = [name for name, path in PROBES.items() if _knows(_call(path))]
        experiments = [*_existing(_experiment_names(project))] or newest
    except (requests.RequestException, ValueError) as error:
        yield wrong("MLflow", uri, error, "MLFLOW_TRACKING_URI")
        return
    yield Check("MLflow", True, f"{uri} answers")
    supported = ", ".join(known) or "none"
    needed = "stages" in known or "aliases" in known
    yield Check("registry", needed, f"supports {supported}", "expected stages or aliases: MLflow 2.7 on")
    yield from artifacts(experiments, uri)
    yield from clock(response.headers.get("Date"), uri)


def artifacts(experiments: Iterable[Mapping[str, Any]], uri: str) -> Iterator[Check]:
    """Check that the artifacts of experiments, as MLflow describes them, go to the server at `uri` or to a bucket."""
    for experiment in experiments:
        location = str(experiment.get("artifact_location"))
        found = f"those of the experiment {experiment.get('name')} are kept at {location}"
        scheme, host = _split(location)
        if scheme in ("", "file"):
            advice = (
                "expected mlflow-artifacts:/... or a bucket, since each client writes to a folder of its own: start "
                "the server with --artifacts-destination and without --default-artifact-root, and name a new "
                "experiment in params.yaml"
            )
            yield Check("artifacts", False, f"{found}, which is not on the server", advice)
        elif scheme == "mlflow-artifacts" and host not in (None, urlsplit(uri).hostname):
            advice = f"expected {uri}, whose user and token {host} would get: name a new experiment in params.yaml"
            yield Check("artifacts", False, f"{found}, which is another server", advice)
        else:
            yield Check("artifacts", True, found)


def _split(location: str) -> tuple[str, str | None]:
    """Return the scheme and the host of an address, an empty scheme for a path."""
    try:
        address = urlsplit(location)
        return ("" if len(address.scheme) < 2 else address.scheme), address.hostname  # C: is a drive
    except ValueError:
        return "", None


def clock(date: str | None, uri: str) -> Iterator[Check]:
    """Compare this machine's clock with the `Date` of an answer."""
    try:
        skew = abs(time.time() - parsedate_to_datetime(date or "").timestamp())
    except ValueError:
        return
    found = f"{skew:.0f} s apart from {urlsplit(uri).hostname}'s"
    yield Check("clock", skew < SKEW, found, f"expected under {SKEW} s, S3 refuses more: set this machine's clock")


def _experiment_names(project: Project) -> set[str]:
    """Return the experiments of the pipeline's models, none if the pipeline cannot be read."""
    try:
        return {model.experiment for model in template.load(project.root).models}
    except UserError:  # another check reports it
        return set()


def _existing(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return those experiments that the server has."""
    for name in sorted(names):
        answer = _call("experiments/get-by-name", experiment_name=name)
        if not (answer.status_code == 404 and _knows(answer)):
            yield _body(answer).get("experiment", {})


def _call(path: str, **query: str) -> requests.Response:
    url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/{path}"
    return bounded.get(url, params=query, auth=settings.mlflow_login(os.environ), timeout=TIMEOUT)


def _body(answer: requests.Response) -> dict[str, Any]:
    """Return the JSON object of an answer. Raise RequestException for a refusal, ValueError for anything else."""
    answer.raise_for_status()
    body = bounded.json(answer)
    if not isinstance(body, dict):
        raise ValueError("it answers with something else than an MLflow server: correct its address")
    return body


def _knows(answer: requests.Response) -> bool:
    """Return True if the server knows the call, whether it has what was asked for or not."""
    try:
        body = answer.json()
    except ValueError:
        return False
    code = body.get("error_code") if isinstance(body, dict) else ""
    return answer.ok or code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
