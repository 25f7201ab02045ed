"""The lines that say what became of the models of a run."""

import os
import sys
from collections.abc import Sequence
from urllib.parse import quote

from scripts import mlflow_server
from scripts.pipeline.console import printable
from scripts.registry.receipts import Published


def lines(published: Sequence[Published]) -> list[str]:
    """Return two lines a model, and where to look at them."""
    found = []
    for each in published:
        score = "not measured" if each.score is None else f"{words(each.metric)} {each.score:.4f}"
        news = "published now" if each.news else "published before"
        found.append(f"model     {each.model} version {each.version}, {news}: {score}")
        decision = f"{each.stage}: {each.reason}"
        found.append(f"decision  {decision if each.now == each.stage else f'{each.now} now; when it came, {decision}'}")
    if published:
        which = f"/{quote(published[0].model)}" if len(published) == 1 else ""
        found.append(f"look at   {_link(f'models{which}')}")
    return [printable(line) for line in found]  # a registry may answer with a reason of two lines


def _link(page: str) -> str:
    """Return the address of a page, which logs in where a person reads it; a log may be read by anybody."""
    by_a_person = os.environ.get("TERMINAL") or sys.stdout.isatty()
    return mlflow_server.link(page) if by_a_person else f"{mlflow_server.address()}/{mlflow_server.route(page)}"


def words(metric: str) -> str:
    """Return a metric's name as it is read: `f1_macro` -> `f1 macro`."""
    return metric.replace("_", " ").replace(".", " ")
