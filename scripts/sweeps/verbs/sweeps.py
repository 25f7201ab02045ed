"""`make sweeps`: the sweeps of this clone, the last one first."""

from collections.abc import Iterator

from scripts import tables
from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, UserError
from scripts.sweeps import study
from scripts.sweeps.study import DONE, FAILED, SAME, Study

COLUMNS = ("sweep", "began", "file", "sampler", "trials", "failed", "best", "score", "of", "state")


def row(found: Study) -> tuple[str, ...]:
    best = found.best
    return (
        found.id,
        found.began[:19].replace("T", " "),
        found.file,
        found.spec["sampler"],
        f"{found.counted(DONE, SAME)} of {found.planned}",
        str(found.counted(FAILED)),
        str(best.number) if best else "",
        f"{best.score:.6g}" if best else "",
        found.metric,
        "ended" if found.ended else "'make sweep' goes on",
    )


def lines(project: Project) -> Iterator[str]:
    found = list(study.studies(project))
    if not found:
        raise UserError("there is no sweep here yet; expected one: 'make sweep' runs one")
    yield tables.text(tables.Table(COLUMNS, [row(each) for each in reversed(found)]))


def main(arguments: list[str], project: Project = PROJECT) -> None:
    tell("\n".join(lines(project)))
