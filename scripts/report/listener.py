"""Notes what happens in a run, and makes its report when it ends. Quick to import: every run does it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from scripts.pipeline.console import tell
from scripts.pipeline.stage import Pipeline
from scripts.project import Project

if TYPE_CHECKING:
    from scripts.report.estimate import Left

ENDS_WITHIN = 1  # second


def listen(project: Project, pipeline: Pipeline, targets: Sequence[str]) -> "Recorder":
    return Recorder(project, pipeline, targets)


class Recorder:
    """Adds a line to a file for each fact, so that what a run that is killed had noted is there. A run that has nothing
    to do leaves nothing."""

    def __init__(self, project: Project, pipeline: Pipeline, targets: Sequence[str]) -> None:
        self._project, self._pipeline, self._targets = project, pipeline, targets
        self._folder: Path | None = None
        self._events: TextIO | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._lock = b""
        self._published: list[dict[str, Any]] = []
        self._jobs = 1
        self._needs: dict[str, Any] = {}  # of the stages that have not ended
        self._running: dict[str, float] = {}
        self._usual: dict[str, float] | None = None
        self._said = (0.0, "")

    def fact(self, kind: str, **values: Any) -> None:
        if kind == "published":
            self._published = values["models"]
            if not any(each["news"] for each in self._published):
                return
        self._begin()
        if kind != "published":
            self._note(kind, **values)
        if kind == "plan":
            self._jobs = values["jobs"]
            self._needs = {name: of for name, of in values["needs"].items() if name not in values["up_to_date"]}
            self._watch_containers()
        elif kind == "begins":
            self._running.setdefault(values["stage"], time.monotonic())
        elif kind == "ends":
            self._running.pop(values["stage"], None)
            self._needs.pop(values["stage"], None)

    def progress(self) -> str:
        """Return how long the run will still take, as far as earlier runs tell; reckoned again each second."""
        now = time.monotonic()
        if now - self._said[0] >= 1:
            self._said = (now, str(self._left(now)))
        return self._said[1]

    def _left(self, now: float) -> "Left":
        from scripts.report import estimate, facts, history

        if self._usual is None:
            earlier = (run for run in history.backwards(self._project) if run["outcome"] != facts.RUNNING)
            self._usual = estimate.usual(islice(earlier, estimate.RUNS))
        return estimate.left(self._usual, self._needs, self._running, self._jobs, now)

    def _begin(self) -> None:
        if self._folder:
            return
        from scripts.report import history

        self._folder = history.begin(self._project)
        self._events = (self._folder / history.EVENTS).open("a")
        self._lock = self._project.dvc_lock.read_bytes() if self._project.dvc_lock.exists() else b""
        stages = self._pipeline.stages.values()
        limits = {
            stage.name: {name: os.environ.get(f"{stage.prefix}_{name.upper()}") for name in ("memory", "cpus")}
            for stage in stages
        }
        words = "run" if not self._targets else " ".join(f"run-{target}" for target in self._targets)
        images = {stage.name: stage.image for stage in stages}
        self._note("begin", command=f"make {words}", limits=limits, images=images)

    def _note(self, kind: str, **values: Any) -> None:
        print(json.dumps({"kind": kind, "at": time.time()} | values), file=self._events, flush=True)

    def _watch_containers(self) -> None:
        program, clone = Path(__file__).with_name("watch.py"), os.environ.get("CLONE", "")
        command = [sys.executable, "-ISB", str(program), clone, self._events.name]
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._watch = subprocess.Popen(command, **quiet)

    def end(self, outcome: str, error: str) -> None:
        from scripts.report import facts

        if not self._folder and outcome == facts.WELL:
            return
        self._begin()
        self._note("end")
        if self._watch:
            self._watch.kill()  # it has noted all that it knows: a line each, in one piece
            self._watch.wait(ENDS_WITHIN)
            self._watch.stdin.close()
        self._events.close()
        self._report(outcome, error)

    def _report(self, outcome: str, error: str) -> None:
        from scripts.report import drawing, facts, history, page
        from scripts.report import outcome as at_end

        earlier = (run for run in history.backwards(self._project) if run["id"] != self._folder.name)
        last = next((run for run in earlier if run["outcome"] == facts.WELL), None)
        events = facts.read(self._folder / history.EVENTS)
        well = outcome == facts.WELL  # a server that is away would hold up a run that failed
        known = at_end.known(self._project, self._pipeline, self._lock, self._published, last, online=well)
        run = facts.run_of(self._folder.name, events, outcome=outcome, error=error, **known)
        drawn = drawing.drawings(self._project, self._pipeline) if well else []
        history.write(self._folder, run, page.page(run, drawn))
        place = (self._folder / history.PAGE).relative_to(self._project.root)
        tell(f"report    {place}")
