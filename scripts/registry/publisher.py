"""The process that publishes models beside the stages of a run.

The run writes what happens, a line each, into a file that this process follows, so no stage ever waits for a registry.
`Publisher` is the run's side of it; `main` is the process.
"""

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any, Self, TextIO

from scripts import mlflow_server, settings
from scripts.pipeline.console import printable, tell
from scripts.pipeline.containers import stop_stages
from scripts.pipeline.images import Image
from scripts.pipeline.live_metrics import LiveMetric
from scripts.pipeline.stage import Model, Pipeline
from scripts.pipeline.worker import CACHE
from scripts.project import ROOT, Project, Unavailable, UserError
from scripts.registry import plots
from scripts.registry.publish import Job, Publication, receipt
from scripts.registry.receipts import NotPublished, Published, not_published

PAUSE = 0.05  # seconds between two looks at the file
AT_ONCE = 1000  # live values logged in one call
ENDS_WITHIN = 10  # seconds that the process has to end after it was told to
EVENTS, JOB, LOG = "events.jsonl", "job.pickle", "publish.log"
LOGGER = logging.getLogger(__name__)


class Publisher:
    """The publishing process of one run; hears of the run as a `Listener` of scripts/pipeline/execution.py.

    To be used with `with`: the process has ended when the block ends. `wanted` are the images of the code as it is now.
    """

    def __init__(
        self, project: Project, pipeline: Pipeline, models: Sequence[Model], wanted: Mapping[str, Image]
    ) -> None:
        self._project, self._pipeline, self._models, self._wanted = project, pipeline, models, wanted
        self._aside = ThreadPoolExecutor(1)
        self._job: Future[Job] | None = None
        self._folder = project.publish
        self._process: subprocess.Popen[bytes] | None = None
        self._events: TextIO | None = None

    def __enter__(self) -> Self:
        """Begin to take the snapshot: DVC plans meanwhile."""
        self._job = self._aside.submit(self._take_job) if self._models else None
        return self

    def __exit__(self, *error: object) -> None:
        """End the process, if it runs; what it began the next run finishes."""
        self._aside.shutdown()
        if not self.has_begun:
            return
        self._end(signal.SIGTERM)
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._end(signal.SIGKILL)
            self._process.wait()
        if self._process.returncode:
            self._stop_measuring()
        self._close()

    def _stop_measuring(self) -> None:
        """Remove the scorer's container that a process that was killed may have left, and what it worked on."""
        with suppress(UserError):  # the engine is away: the next run removes it
            stop_stages(grace=0)
        shutil.rmtree(self._project.score, ignore_errors=True)

    def _end(self, number: int) -> None:
        """Send a signal to the process, and to the scorer's container that it may have started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    @property
    def has_begun(self) -> bool:
        return self._process is not None

    def _take_job(self) -> Job:
        return Job.of(self._project, self._pipeline, self._models, self._wanted, settings.who(os.environ))

    def begin(self) -> None:
        """Start the process, unless it runs or there is nothing to publish. Raise UserError as `Job.of` does."""
        if self.has_begun or not self._models:
            return
        job = self._job.result() if self._job else self._take_job()
        self._aside.shutdown()  # a run's processes are forked later, and no thread is to be about then
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._events = (self._folder / EVENTS).open("a")
        (self._folder / JOB).write_bytes(pickle.dumps(job))
        command = [sys.executable, "-m", "scripts.registry.publisher", str(self._folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # at the end of its input the process ends, too
        self._process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)

    def metric(self, stage: str, metric: LiveMetric) -> None:
        self._tell(stage=stage, step=metric.step, values=metric.values)

    def ended(self, stage: str) -> None:
        self._tell(ended=stage)

    def fact(self, kind: str, **values: Any) -> None:
        """Pass on that a stage's files are in their places: DVC takes them over, and they can be read."""
        if kind == "step" and values["step"] == CACHE:
            self._tell(made=values["stage"])

    def _tell(self, **event: Any) -> None:
        if self._events:
            print(json.dumps(event), file=self._events, flush=True)

    def finish(self, *, well: bool = True) -> list[Published]:
        """Wait until all models whose scorer has ended are published; return them.

        `well` is whether the stages ended well; if not, the other models are left to the next run. Raise UserError if
        one could not be published (Unavailable if only servers failed), after a line for each that is.
        """
        self._tell(finish=well)
        printed = self._process.stdout.read()  # to its end; standard input stays open until then
        self._process.wait()
        self._close()
        answers = [json.loads(line) for line in printed.splitlines()]
        for note in (answer["note"] for answer in answers if "note" in answer):
            tell(f"note: {note}")
        done = [Published(**answer["published"]) for answer in answers if "published" in answer]
        failed = [answer["error"] for answer in answers if "error" in answer]
        passing = all(answer.get("passing") for answer in answers if "error" in answer)
        if self._process.returncode and not failed:
            failed, passing = [_untimely(self._process.returncode)], self._process.returncode < 0
        if failed:
            if done:
                tell("\n".join(map(sentence, done)))
            raise (Unavailable if passing else UserError)("\nerror: ".join(failed))
        return done

    def publish_all(self) -> list[Published]:
        """Publish what the registry lacks of the models on disk; return all of them, in the pipeline's order.

        The process is started only if there is something to publish.
        """
        if not self.has_begun:
            found = [receipt(self._project, self._pipeline, model) for model in self._models]
            if all(found):
                return found
            self.begin()
        by_name = {each.model: each for each in self.finish()}
        return [by_name[model.name] for model in self._models]

    def _close(self) -> None:
        for stream in (self._events, self._process.stdin, self._process.stdout):
            stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _untimely(code: int) -> str:
    """Return what to say of a process that ended with this code and without a word."""
    if code < 0:
        more = "; if it is killed again, raise RUNNER_MEMORY in .env" if code == -signal.SIGKILL else ""
        how = f"was killed (signal {-code}); expected it to end by itself: 'make run' continues{more}"
    else:
        how = (
            f"ended with exit code {code}; expected it to end by itself: 'make doctor', or report what it printed above"
        )
    return f"the publishing process {how}"


def sentence(each: Published) -> str:
    """Return the line for a model that was published in a run that failed."""
    return printable(f"{each.model} version {each.version} is published: {each.stage}: {each.reason}")


# --- the process


def follow(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield what was added to the file since the last time, as lists of events; the last one has the event `finish`."""
    rest = ""
    with path.open() as file:
        while True:
            *lines, rest = (rest + file.read()).split("\n")
            events = [json.loads(line) for line in lines]
            if events:
                yield events
            if any("finish" in event for event in events):
                return
            time.sleep(PAUSE)


class Crashed(UserError):
    """An error in this code that nobody foresaw. The text is its place and its words, and which log has the rest."""


def crashed(error: Exception) -> Crashed:
    """Return the error that says where another one arose. To be called beside `LOGGER.exception`."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT) or frame == frames[0]][-1]
    place = frame.filename.removeprefix(f"{ROOT}/")
    words = " ".join(printable(error).split())[:300]
    return Crashed(
        f"{type(error).__name__}: {words or 'without a word'} ({place}:{frame.lineno}), which is an error in scripts/ "
        f"and not yours; the next run ends with it as well: report it, with .local/logs/{LOG}"
    )


class Process:
    """Follows a run and publishes each model as soon as it is scored."""

    def __init__(self, job: Job, say: Callable[[dict[str, Any]], None]) -> None:
        from scripts.registry.mlflow import RegistryError

        self._fault = RegistryError
        self._job, self._say = job, say
        self._left = {model.name: Publication(job, model) for model in job.models}
        self._ended: set[str] = set()
        self._uploaded: set[str] = set()
        self._in_touch = False
        self._silent = False  # whether live metrics are given up: the server does not take them

    def _get_in_touch(self) -> None:
        """Wait for a local server that is coming up; end the runs that an interrupted run of this clone left open."""
        if self._in_touch:
            return
        if settings.is_local(os.environ):
            mlflow_server.wait()
        for publication in self._left.values():
            publication.end_abandoned()
        self._in_touch = True

    def take(self, events: list[dict[str, Any]]) -> None:
        """Do what the events ask for; the values of many are logged in one call."""
        live: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
        for event in events:
            if "values" in event:
                live[event["stage"]] += [(name, event["step"], value) for name, value in event["values"].items()]
        for stage, found in live.items():
            self._log_live(stage, found)
        self._ended |= {event["ended"] for event in events if "ended" in event}
        finish = next((event["finish"] for event in events if "finish" in event), None)
        if finish is None:
            self._upload()
            self._draw_ahead({event["made"] for event in events if "made" in event} - self._ended)
        self._publish(everything=finish is True)
        if finish is not None:
            self._give_up()

    def _failure(self, step: Callable[[], object]) -> Exception | None:
        """Take a step; return what went wrong, None if nothing did. One model's failure costs no other one."""
        try:
            step()
        except (self._fault, UserError) as error:
            return error
        except Exception as error:
            LOGGER.exception("publishing")
            return crashed(error)
        return None

    def _failure_in_touch(self, step: Callable[[], object]) -> Exception | None:
        """Take a step as `_failure` does, as soon as the server can be expected to answer."""
        return self._failure(self._get_in_touch) or self._failure(step)

    def _log_live(self, stage: str, found: list[tuple[str, int, float]]) -> None:
        for publication in self._left.values():
            for some in batched(found, AT_ONCE, strict=False):
                if stage in publication.stages and not self._silent:
                    error = self._failure_in_touch(partial(publication.log_live, list(some)))
                    if error:
                        self._silent = True
                        self._say({"note": f"live metrics are not logged: {error}"})

    def _upload(self) -> None:
        """Upload the models whose scorer may run by now: their files are made."""
        for name, publication in self._left.items():
            needs = self._job.pipeline.needs(publication.model.scorer)
            if name in self._uploaded or publication.model.scorer in self._ended or not set(needs) <= self._ended:
                continue
            self._uploaded.add(name)
            self._failure_in_touch(publication.upload)  # publishing does it again, and says why it cannot

    def _draw_ahead(self, made: set[str]) -> None:
        for publication in self._left.values():
            if publication.model.scorer in made:
                self._failure(publication.draw_ahead)  # publishing does it again, and says why it cannot

    def _publish(self, *, everything: bool) -> None:
        for name, publication in list(self._left.items()):
            if not everything and publication.model.scorer not in self._ended:
                continue
            error = self._failure_in_touch(lambda each=publication: self._say({"published": each.publish()._asdict()}))
            if isinstance(error, Crashed):
                self._say({"error": f"{name} is trained, but not published: {error}"})
            elif error:
                said = isinstance(error, NotPublished)
                passing = {"passing": True} if isinstance(error, (self._fault, Unavailable)) else {}
                self._say({"error": str(error if said else not_published(publication.model, str(error))), **passing})
            del self._left[name]

    def _give_up(self) -> None:
        for publication in self._left.values():
            self._failure(publication.give_up)  # the next run ends it


def die_with_the_run() -> None:
    """End this process, and what it started, when the run that started it has ended: standard input ends then."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.killpg(0, signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def work(folder: Path, say: Callable[[dict[str, Any]], None]) -> None:
    """Do the job in the folder, as the events there tell of its run."""
    job = pickle.loads((folder / JOB).read_bytes())
    process = Process(job, say)
    if job.pipeline.plots:
        plots.warm_up()  # while the first stages run
    for events in follow(folder / EVENTS):
        process.take(events)


def main(folder: Path) -> None:
    Path("/proc/self/comm").write_text("publish")
    die_with_the_run()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    keep_tracebacks(Project(folder.parents[1]).logs / LOG)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    code = 0
    try:
        work(folder, say)
    except Exception as error:
        LOGGER.exception("publishing")
        say({"error": f"nothing is published: {crashed(error)}"})
        code = 1
    os._exit(code)  # the thread that waits for standard input would hold up an ordinary end


def keep_tracebacks(path: Path) -> None:
    """Let LOGGER write into a file, which is there when there is something in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.propagate = False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
