"""The lines that say what became of the models of a run."""

from collections.abc import Sequence

from scripts import mlflow_server
from scripts.registry.publish import Published


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
        which = f"/{published[0].model}" if len(published) == 1 else ""
        found.append(f"look at   {mlflow_server.address()}/#/models{which}")
    return found


def words(metric: str) -> str:
    """Return a metric's name as it is read: `f1_macro` -> `f1 macro`."""
    return metric.replace("_", " ").replace(".", " ")
