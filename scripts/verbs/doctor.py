"""`make doctor`: looks at everything a run needs and changes nothing; a line a check, exit 0 only if a run would work.

Each line says what was found and, if that is not good, what is expected and what to type next.
"""

import importlib
from collections.abc import Callable, Iterator

from scripts.checks import clone, machine
from scripts.checks.check import Check
from scripts.checks.dagshub import dagshub
from scripts.checks.mlflow import mlflow
from scripts.checks.remote import remote
from scripts.project import ROOT, UserError

CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    machine.engine,
    machine.folder,
    machine.disk,
    machine.base_image,
    clone.dotenv,
    clone.pipeline,
    clone.leftovers,
    dagshub,
    mlflow,
    remote,
)


def of_rooms() -> Iterator[Callable[[], Iterator[Check]]]:
    """Yield the checks of optional rooms: the CHECKS of a module `checks` beside a room's targets."""
    for path in sorted(ROOT.glob("scripts/*/targets.mk")):
        if path.with_name("checks.py").exists():
            yield from importlib.import_module(f"scripts.{path.parent.name}.checks").CHECKS


def main(arguments: list[str]) -> int:
    good = True
    for check in (*CHECKS, *of_rooms()):
        try:
            for line in check():
                print(line, flush=True)
                good = good and line.good is not False
        except UserError as error:
            print(Check(check.__name__, False, str(error)), flush=True)
            good = False
    print("a run would work" if good else "a run would not work: see the lines marked BAD")
    return 0 if good else 1
