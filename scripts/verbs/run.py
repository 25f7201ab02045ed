"""`make run`, `make run-<stage>`: renders, starts what is needed, runs the stages, publishes, reports."""

import os
import time

from scripts import mlflow_server, settings
from scripts.pipeline.at_rest import Look
from scripts.pipeline.console import tell
from scripts.project import PROJECT, UserError
from scripts.recovery import recover
from scripts.registry import receipts, summary
from scripts.registry.receipts import OnDisk, Published


def published_before(look: Look) -> list[Published] | None:
    """Return the models, if all that there is to see is as it was when a run had nothing to do, and the registry has
    them still; None if that is not so, or cannot be told."""
    noted = look.known()
    if noted is None:
        return None
    models = [OnDisk(*each) for each in noted]
    try:
        if settings.is_local(os.environ) and not models:
            mlflow_server.start()
        found = [receipts.find(model) for model in models]
    except UserError:
        return None  # that the server does not run, for example: who does it all over again starts it, or says why not
    return None if None in found else found


def main(targets: list[str]) -> None:
    started = time.monotonic()
    look = Look(PROJECT, targets, os.environ)
    ran: list[str] = []
    published = published_before(look)
    if published is None:
        from scripts import training

        recover.mend(ended_well=True, run_cache=False)  # else it was done before; the workers mend what they restore
        ran, published = training.train(targets, look)
    did = f"ran {', '.join(ran)}" if ran else "nothing to run, all stages are up to date"
    lines = ["", f"stages    {did} ({time.monotonic() - started:.0f} s)", *summary.lines(published)]
    tell(
        "\n".join(
            [*lines, "then      make metrics, make plots; git add dvc.* params.yaml stages, git commit, make push"]
        )
    )
