"""`make sweeps`: the sweeps of this clone, the last one first."""

from collections.abc import Iterator

from scripts import tables
from scripts.pipeline.console import tell
from scripts.project import PROJECT, Project, UserError
from scripts.sweeps import study
from scripts.sweeps.study import DONE, FAILED, SAME, Study

COLUMNS = ("sweep", "began", "file", "trials", "failed", "best", "score", "state")
OPEN = "open"


def row(found: Study) -> tuple[str, ...]:
    best = found.best
    return (
        found.id,
        found.began[:16].replace("T", " "),
        found.file,
        f"{found.counted(DONE, SAME)} of {found.planned}",
        str(found.counted(FAILED)),
        str(best.number) if best else "",
        f"{best.score:.6g}" if best else "",
        "ended" if found.ended else OPEN,
    )


def lines(project: Project) -> Iterator[str]:
    found = list(study.studies(project))
    if not found:
        raise UserError("there is no sweep here yet; expected one: 'make sweep' runs one")
    rows = [row(each) for each in reversed(found)]
    yield tables.text(tables.Table(COLUMNS, rows))
    if any(OPEN in each for each in rows):
        yield f"\n'make sweep' goes on with what is {OPEN}"


def main(arguments: list[str], project: Project = PROJECT) -> None:
    tell("\n".join(lines(project)))
