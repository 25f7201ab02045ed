"""What a task does: it takes from DVC's remote what its stage needs, runs this stage alone, and gives the remote the
result. No task writes what another one reads but this: the run-cache on the remote is where they meet.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import mlflow_server, places, settings, transfer
from scripts.airflow.codes import NotDeterministic, OtherStage
from scripts.pipeline import dvc_adapter, execution, images, template
from scripts.pipeline.console import tell
from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, UserError
from scripts.registry import summary
from scripts.registry.publisher import Publisher

PUBLISH = "publish"
"""The name of the last task."""
VERB = "airflow-stage"


def run_stage(name: str) -> None:
    """Run one stage, or restore it if the remote has its result, and push that: the data first.

    Raise OtherStage if what it reads is not on the remote, NotDeterministic if the remote has another result of it.
    """
    wanted, pipeline = _load()
    with _remote("fetched") as repo:
        with dvc_adapter.errors():
            planned = dvc_adapter.plan(repo, [name])
        own = planned.named([name])
        _fetch(repo, planned, own)
    ran = execution.reproduce(
        PROJECT, pipeline, wanted, [name], alone=True, before_mlflow=mlflow_server.wait if _is_local() else None
    )
    with _remote("pushed") as repo:
        for each in own:
            if not dvc_adapter.push_result(repo, each):
                raise UserError(
                    f"stage {each} has neither inputs nor parameters, so DVC runs it each time and keeps no result; "
                    "expected one of them, for the next task to find it: add a parameter to its section"
                )
    tell("\n".join(f"{each}: {'ran' if each in ran else 'restored'}, and pushed" for each in own))


def publish(run: str) -> None:
    """Make dvc.lock anew of what the remote has, run nothing, and publish the models; put dvc.lock on the remote.

    Raise OtherStage if a stage would have to run.
    """
    wanted, pipeline = _load()
    with _remote("fetched") as repo:
        with dvc_adapter.errors():
            planned = dvc_adapter.plan(repo, [])
        _fetch_all(repo, planned)
    execution.reproduce(PROJECT, pipeline, wanted, may_run=False)
    with Publisher(PROJECT, pipeline, pipeline.models, wanted) as publisher:
        published = publisher.publish_all()
    if run:
        with _remote("pushed") as repo:
            dvc_adapter.put(repo, PROJECT.dvc_lock, f"airflow/{run}/dvc.lock")
    found = [line for line in summary.lines(published) if not (_is_local() and line.startswith("look at"))]
    tell("\n".join(["ran nothing: dvc.lock is what the tasks made", *found]))  # the server is another clone's


def check_remote(main: Path) -> None:
    """Raise UserError if DVC's remote is a folder that goes with this clone: it must be one of the `main` clone's."""
    for what, folder in places.configured(PROJECT):
        if Path(os.path.realpath(folder)).is_relative_to(PROJECT.root):
            raise UserError(
                f"{what} is {folder}, which is deleted with the clone of this task; expected a place that stays: name "
                f"an absolute folder in DVC_REMOTE_URL of {main}/.env"
            )


def _load() -> tuple[dict[str, images.Image], Pipeline]:
    wanted = images.load()
    pipeline = template.load(images=wanted)
    if PUBLISH in pipeline.stages:
        raise UserError(f"a stage is called {PUBLISH}, as the last task is; expected another name: rename it")
    if template.write(pipeline):
        print("dvc.yaml: rendered", flush=True)
    places.check_paths(pipeline.paths, os.environ)
    return wanted, pipeline


def _is_local() -> bool:
    return settings.is_local(os.environ)


@contextmanager
def _remote(did: str) -> Iterator[dvc_adapter.Repo]:
    """Open the repository. Raise Unavailable if the remote fails, NotDeterministic if it has two results of a stage."""
    try:
        with transfer.repository(did, VERB) as repo:
            yield repo
    except dvc_adapter.Ambiguous as error:
        raise NotDeterministic(error.stage, error.outputs) from None
    finally:
        dvc_adapter.handle_logs(logging.StreamHandler())  # a stage that runs then does not stop at what DVC logs


def _fetch(repo: dvc_adapter.Repo, planned: dvc_adapter.Plan, own: list[str]) -> None:
    """Put in place what the stages `own` read, and fetch their results if there are some. Raise OtherStage."""
    results = dvc_adapter.Results(repo, planned)
    for name in planned.stages:
        is_known = results.find(name)
        if name not in own and not is_known:
            raise OtherStage(own[0], [name])
        if is_known and name in own:
            results.fetch(name)
    for name in own:
        if lost := [each for each in results.give_inputs(name) if each not in own]:
            raise OtherStage(name, lost)


def _fetch_all(repo: dvc_adapter.Repo, planned: dvc_adapter.Plan) -> None:
    """Fetch the results of all stages. Raise OtherStage if one is not there."""
    results = dvc_adapter.Results(repo, planned)
    for name in planned.stages:
        if not results.find(name) or not results.fetch(name):
            raise OtherStage(PUBLISH, [name])
