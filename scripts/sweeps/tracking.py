"""Shows a sweep in MLflow as it goes: one run for it, and below that one for each trial. Nothing is registered.

A process of its own reads what the sweep notes, so no trial waits for a server. What MLflow has is looked up by tags,
so a sweep that goes on adds what is missing. By plain REST calls, which are the same on 2.7 and 3.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, Self

import requests

from scripts import bounded, mlflow_server, settings
from scripts.faults import reason
from scripts.pipeline.params import as_written
from scripts.pipeline.stage import Pipeline
from scripts.pipeline.worker import FORK
from scripts.project import Project, UserError
from scripts.recovery import signals
from scripts.registry import reader
from scripts.registry.records import clean_names
from scripts.sweeps import study
from scripts.sweeps.study import FAILED, Study, Trial

PARENT, SWEEP, TRIAL = "mlflow.parentRunId", "sweep.id", "sweep.trial"
"""Tags: MLflow's own, by which it shows one run below another, and ours. The sweep's own run is trial 0."""
LOOKS = 1.0  # seconds between two looks at what is new
ENDS_WITHIN = 60  # seconds that the process has to send the rest
MOST = 500  # metrics of a trial
LONGEST = 500  # characters of a value, as old servers take them


class Tracker:
    """The process that sends a sweep to MLflow; to be used with `with`. `notes` say, at the end, what it could not."""

    def __init__(self, project: Project, pipeline: Pipeline, found: Study) -> None:
        self._project, self._study = project, found
        self._experiment = next((model.experiment for model in pipeline.models), "")
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        self._here, there = FORK.Pipe()
        place = study.folder(self._project, self._study.id)
        commit = settings.commit(self._project)
        self._process = FORK.Process(target=_work, args=(place, self._experiment, commit, there, self._here))
        if self._experiment:
            self._process.start()
        there.close()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Let it send what is left, and end."""
        if self._experiment:
            self._finish(well=kind is None)
        if kind is None and not self.notes:
            self._study.tracked = True
            study.save(self._study, self._project)

    def _finish(self, *, well: bool) -> None:
        try:
            self._here.send(well)
            if self._here.poll(ENDS_WITHIN if well else 5):
                self.notes += self._here.recv()
            else:
                self.notes.append("not all of the sweep is in MLflow: it took too long; 'make sweep' adds the rest")
        except (EOFError, OSError):
            self.notes.append(
                "not all of the sweep is in MLflow: the process that sends it ended; 'make sweep' adds it"
            )
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def _work(place: Any, experiment: str, commit: str, told: Connection, other_end: Connection) -> None:
    other_end.close()  # so that the end of whoever started this is seen
    signals.on_signal.clear()
    for number in signals.ENDING:
        signal.signal(number, signal.SIG_IGN)  # the sweep says when to end
    notes: list[str] = []
    well = None
    try:
        if settings.is_local(os.environ):
            mlflow_server.wait()
        sending = Sending(experiment, commit)
        while not told.poll(LOOKS):
            if found := study.load(place):
                sending.send(found)
        well = told.recv()
        if found := study.load(place):
            sending.send(found)
            sending.end(found, well=well)
    except EOFError:
        return
    except (requests.RequestException, ValueError, KeyError, TypeError, UserError) as error:
        why = str(error) if isinstance(error, UserError) else reason(error)
        notes.append(f"not all of the sweep is in MLflow ({why}); 'make sweep' adds it once that works")
        if well is None:
            told.recv()  # the sweep goes on without MLflow until it ends
    told.send(notes)


class Sending:
    """What MLflow has of a sweep, and is sent."""

    def __init__(self, experiment: str, commit: str) -> None:
        self._name, self._commit = experiment, commit
        self._experiment = ""
        self._runs: dict[int, str] = {}  # by the number of the trial, 0 for the sweep

    def send(self, found: Study) -> None:
        """Send what is new. Raise RequestException if the server fails, ValueError if it answers what is no answer."""
        if not self._experiment:
            self._experiment = reader.experiment(self._name) or self._new_experiment()
            self._runs = dict(self._known(found))
        if 0 not in self._runs:
            tags = {"mlflow.runName": f"sweep {found.id}", TRIAL: "0"}
            self._runs[0] = self._begin(found, tags, milliseconds(found.began))
            settings_ = {"sampler": found.spec["sampler"], "trials": found.planned, "goal": found.goal}
            self._log(self._runs[0], {"objective": found.metric, **settings_}, {})
        for trial in found.trials:
            if trial.outcome and trial.same_as is None and trial.number not in self._runs:
                self._runs[trial.number] = self._add(found, trial)

    def end(self, found: Study, *, well: bool) -> None:
        """Say in the sweep's own run how it ended."""
        failed = {"trials_failed": found.counted(FAILED), "trials_ended": len(found.outcomes)}
        best = {found.metric: found.best.score, "best_trial": found.best.number} if found.best else {}
        self._log(self._runs[0], {}, failed | best)
        self._finish(self._runs[0], "FINISHED" if well else "KILLED")

    def _add(self, found: Study, trial: Trial) -> str:
        now = round(time.time() * 1000)
        tags = {"mlflow.runName": f"trial {trial.number}", TRIAL: str(trial.number), PARENT: self._runs[0]}
        if trial.outcome.sentence:
            tags["mlflow.note.content"] = trial.outcome.sentence[:LONGEST]
        run = self._begin(found, tags, now - round(trial.outcome.seconds * 1000))
        self._log(run, trial.values, trial.outcome.metrics)
        self._finish(run, "FAILED" if trial.score is None else "FINISHED")
        return run

    def _known(self, found: Study) -> Iterator[tuple[int, str]]:
        query: dict[str, Any] = {
            "experiment_ids": [self._experiment], "filter": f"tags.{SWEEP} = '{found.id}'", "max_results": 1000
        }  # fmt: skip
        for _ in range(bounded.PAGES):
            page = _post("runs/search", **query)
            for run in page.get("runs", []):
                tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
                if run["info"]["status"] != "RUNNING" or tags[TRIAL] == "0":
                    yield int(tags[TRIAL]), run["info"]["run_id"]
            if not page.get("next_page_token"):
                return
            query["page_token"] = page["next_page_token"]

    def _new_experiment(self) -> str:
        return str(_post("experiments/create", name=self._name)["experiment_id"])

    def _begin(self, found: Study, tags: Mapping[str, str], at: int) -> str:
        tags = {SWEEP: found.id, "mlflow.source.name": found.file, "mlflow.source.git.commit": self._commit, **tags}
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        named = {"run_name": tags["mlflow.runName"], "start_time": at}
        answer = _post("runs/create", experiment_id=self._experiment, tags=listed, **named)
        return str(answer["run"]["info"]["run_id"])

    def _log(self, run: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        now = round(time.time() * 1000)
        names = clean_names({name: name for name in [*params, *metrics]})
        listed = [
            {"key": names[name], "value": float(value), "timestamp": now, "step": 0}
            for name, value in [*metrics.items()][:MOST]
        ]
        texts = [{"key": names[name], "value": as_written(value)[:LONGEST]} for name, value in params.items()]
        _post("runs/log-batch", run_id=run, metrics=listed, params=texts[:100])

    def _finish(self, run: str, status: str) -> None:
        _post("runs/update", run_id=run, status=status, end_time=round(time.time() * 1000))


def milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def _post(call: str, **body: Any) -> dict[str, Any]:
    """Return MLflow's answer to a call. Raise RequestException, or ValueError for what is no answer of MLflow's."""
    url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/{call}"
    response = requests.post(url, json=body, auth=settings.mlflow_login(os.environ), timeout=20)
    response.raise_for_status()
    answer = bounded.json(response)
    if not isinstance(answer, dict):
        raise ValueError(reader.NOT_MLFLOWS)
    return answer
