"""`make run`: render, start what is needed, run the stages, publish, report."""

import functools
import os
import sys
import time

from scripts import mlflow_server, settings
from scripts.pipeline import execution, images, template
from scripts.registry import publish
from scripts.registry.ahead import Ahead


def report(ran: list[str], outcome: publish.Published, seconds: float) -> str:
    """The five lines that say what happened and where to look."""
    did = f"ran {', '.join(ran)}" if ran else "nothing to run, all stages are up to date"
    decision = f"{outcome.stage}: {outcome.reason}"
    if outcome.now != outcome.stage:
        decision = f"{outcome.now} now; when it came, {decision}"
    news = "published now" if outcome.news else "published before"
    return "\n".join(
        [
            "",
            f"stages    {did} ({seconds:.0f} s)",
            f"model     {outcome.model} version {outcome.version}, {news}: test accuracy {outcome.accuracy:.4f}",
            f"decision  {decision}",
            f"look at   {mlflow_server.address()}/#/models/{outcome.model}",
            "then      make metrics, make plots; git commit dvc.yaml dvc.lock, make push",
        ]
    )


def main(arguments: list[str]) -> None:
    started = time.monotonic()
    params, wanted = template.read_params(), images.load()
    os.environ.update(settings.for_a_run(params))
    if template.write(wanted, params):
        print("dvc.yaml: rendered", flush=True)
    comes_up = settings.is_local(os.environ) and mlflow_server.start()
    take_snapshot = functools.cache(lambda: publish.snapshot(wanted))
    publishing = Ahead("publish", publish.get_ready, publish.publish_all)

    def before_the_first_stage() -> None:
        take_snapshot()
        if not arguments:
            publishing.start()

    ran = execution.reproduce(
        arguments,
        wanted,
        before_first=before_the_first_stage,
        before_mlflow=mlflow_server.wait if comes_up else None,
    )
    if arguments:
        print(f"\nran {', '.join(ran) or 'nothing, all is up to date'}; 'make run' runs the rest and publishes")
        return
    if comes_up:
        mlflow_server.wait()
    outcome: publish.Published = publish.published_before() or publishing(take_snapshot())
    print(report(ran, outcome, time.monotonic() - started), file=sys.stdout)
