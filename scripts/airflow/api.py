"""Airflow's REST API, as far as a run needs it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from scripts import bounded
from scripts.airflow import drawing, keys
from scripts.airflow.plan import files
from scripts.project import PROJECT, Project, Unavailable, UserError

URL = "http://airflow-api:8080"
TIMEOUT = 20  # seconds; the first answer of a server that has just started takes some
DIRECT = {"no_proxy": "airflow-api"}


class Away(Unavailable):
    """Airflow does not answer."""


class Api:
    """Airflow's API server on this clone's network, asked as its one user."""

    def __init__(self, project: Project = PROJECT) -> None:
        self._project = project
        self._token = ""

    def health(self) -> Mapping[str, Any]:
        """Return the state of each of Airflow's parts. Raise Away if it does not answer."""
        return self._answer("GET", "/api/v2/monitor/health", asked=False)

    def begin(self, run: str, conf: Mapping[str, Any], dag: str = drawing.DAG) -> None:
        """Start a run of the pipeline, or of another DAG, as all that follows may be of one."""
        body = {"dag_run_id": run, "logical_date": None, "conf": dict(conf)}
        self._answer("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)

    def state(self, run: str, dag: str = drawing.DAG) -> str:
        return self._answer("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]

    def stop(self, run: str, dag: str = drawing.DAG) -> None:
        """End a run, and what runs of it."""
        self._answer("PATCH", f"/api/v2/dags/{dag}/dagRuns/{run}?update_mask=state", json={"state": "failed"})

    def runs(self, dag: str = drawing.DAG) -> list[str]:
        """Return the runs that have not ended."""
        path = f"/api/v2/dags/{dag}/dagRuns?state=running&state=queued"
        return [run["dag_run_id"] for run in self._answer("GET", path)["dag_runs"]]

    def tasks(self, run: str, dag: str = drawing.DAG) -> Sequence[Mapping[str, Any]]:
        """Return the task instances of a run; Airflow gives some of them at a time."""
        found: list[Mapping[str, Any]] = []
        while True:
            path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances?limit=100&offset={len(found)}"
            page = self._answer("GET", path)
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def log(
        self, run: str, task: str, number: int, dag: str = drawing.DAG, place: int = -1
    ) -> Sequence[Mapping[str, Any]]:
        """Return the lines of one try of a task; of a mapped one, of the instance at this place."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}"
        return self._answer("GET", f"{path}?full_content=true&map_index={place}")["content"]

    def tags(self) -> list[str] | None:
        """Return the tags of the pipeline's DAG; None if Airflow has not read it yet."""
        try:
            return [tag["name"] for tag in self._answer("GET", f"/api/v2/dags/{drawing.DAG}")["tags"]]
        except _Refused as refused:
            if refused.status == 404:
                return None
            raise

    def read_again(self) -> None:
        """Ask for the DAG's file to be read at once."""
        token = self._answer("GET", f"/api/v2/dags/{drawing.DAG}")["file_token"]
        self._answer("PUT", f"/api/v2/parseDagFile/{token}")

    def faults(self) -> list[str]:
        """Return why a DAG's file cannot be read, the last line of each traceback."""
        found = self._answer("GET", "/api/v2/importErrors")["import_errors"]
        return [each["stack_trace"].strip().splitlines()[-1] for each in found]

    def pools(self, wanted: Mapping[str, int]) -> None:
        """Make the pools of these sizes; others stay."""
        known = {pool["name"]: pool["slots"] for pool in self._answer("GET", "/api/v2/pools?limit=1000")["pools"]}
        for name, slots in wanted.items():
            if name not in known:
                self._answer("POST", "/api/v2/pools", json={"name": name, "slots": slots})
            elif known[name] != slots:
                self._answer("PATCH", f"/api/v2/pools/{name}?update_mask=slots", json={"pool": name, "slots": slots})

    def _answer(self, method: str, path: str, *, asked: bool = True, **options: Any) -> Any:
        """Return the JSON of an answer. Raise Away if there is none, UserError if Airflow refuses."""
        try:
            if asked and not self._token:
                login = {"username": keys.USER, "password": keys.load(self._project)["password"]}
                done = requests.post(f"{URL}/auth/token", json=login, timeout=TIMEOUT, proxies=DIRECT)
                self._token = _read(done)["access_token"]
            options |= {"timeout": TIMEOUT, "proxies": DIRECT}
            if asked:
                options["headers"] = {"Authorization": f"Bearer {self._token}"}
            if method == "GET":
                return _read(bounded.get(f"{URL}{path}", **options))
            return _read(requests.request(method, f"{URL}{path}", **options))
        except requests.RequestException as error:
            raise Away(
                f"Airflow does not answer at {URL} ({type(error).__name__}); expected it on this clone's network: "
                "'make airflow' starts it"
            ) from None


class _Refused(UserError):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _read(response: requests.Response) -> Any:
    if response.status_code >= 500:
        raise requests.ConnectionError(f"{response.status_code}")
    if not response.ok:
        said = " ".join(response.text.split())[:500]
        raise _Refused(
            response.status_code,
            f"Airflow refused {response.request.method} {response.request.path_url} ({response.status_code}: {said}); "
            "expected it to answer: 'make airflow' starts it anew",
        )
    return response.json() if response.content else None


def page(address: str, run: str, dag: str = drawing.DAG) -> str:
    """Return where a browser sees a run."""
    return f"{address}/dags/{dag}/runs/{run}"


def address(project: Project = PROJECT) -> str:
    """Return where a browser on this machine finds Airflow, as `make airflow` has noted it."""
    noted = files(project) / "address"
    return noted.read_text().strip() if noted.exists() else os.environ.get("AIRFLOW_API_URL", URL)
