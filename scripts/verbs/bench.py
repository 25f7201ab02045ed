"""`make bench`: measures what benchmarks/README.md says, and keeps it in benchmarks/results.json and results.png.

QUICK=1 measures something small, once, into .local/bench/ instead: it shows that all works, and says nothing of speed.
"""

import importlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import engine, report
from benchmarks.bench import Bench
from benchmarks.comparisons import NAMES
from benchmarks.measure import Record
from scripts import copies
from scripts.project import LOCAL, ROOT, UserError

RESULTS = ROOT / "benchmarks" / "results.json"
QUICK_RESULTS = LOCAL / "bench" / "results.json"


def chosen(only: str) -> list[str]:
    """The comparisons that ONLY names (all if it is empty), in their order. Raises UserError for an unknown one."""
    wanted = [name.strip() for name in only.split(",") if name.strip()] or NAMES
    for name in wanted:
        if name not in NAMES:
            raise UserError(
                f"ONLY has {name!r}; expected names out of {', '.join(NAMES)}, with a comma between: correct it"
            )
    return [name for name in NAMES if name in wanted]


def commit() -> str:
    """The commit that is measured, with `-dirty` if there is more to it than that."""
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    status = ["git", "status", "--porcelain", "--", ".", ":(exclude)benchmarks/results.*"]
    changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    return head.stdout.strip() + ("-dirty" if changed else "")


def measure(names: list[str], *, quick: bool, path: Path) -> None:
    """Runs the comparisons and writes each one's results when it has ended; those of others stay."""
    about = {"commit": commit(), "machine": engine.machine(), "quick": quick}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with copies.working_tree("bench") as source, Progress(*columns, console=Console(soft_wrap=True)) as progress:
        bench, task = Bench(source, quick), progress.add_task("", total=len(names))

        def say(text: str) -> None:
            progress.console.print(text, highlight=False, markup=False)

        for name in names:
            progress.update(task, description=name)
            record = Record(say)
            importlib.import_module(f"benchmarks.comparisons.{name}").compare(bench, record)
            date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            found = report.read(path) | {name: {"date": date, **about, **record.as_json()}}
            report.write(path, {each: found[each] for each in NAMES if each in found})
            progress.advance(task)


def main(arguments: list[str]) -> int:
    given = dict(argument.split("=", 1) for argument in arguments)
    quick = given.get("quick", "") not in ("", "0")
    path = QUICK_RESULTS if quick else RESULTS
    names = chosen(given.get("only", ""))
    measure(names, quick=quick, path=path)
    results = {name: result for name, result in report.read(path).items() if name in names}
    if quick:
        print("\nQUICK=1: all works; none of this says how fast anything is")
    print(
        f"\n{report.tables(results)}\n\nresults: {path.relative_to(ROOT)}, {path.with_suffix('.png').relative_to(ROOT)}"
    )
    return 0
