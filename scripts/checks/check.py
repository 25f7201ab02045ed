"""One line of `make doctor`."""

from typing import NamedTuple

from scripts.pipeline.console import harmless

SIGNS = {True: "ok  ", False: "BAD ", None: "note"}


class Check(NamedTuple):
    """What was found. `good`: False if a run would fail, None if a run works but a person should know."""

    name: str
    good: bool | None
    found: str
    advice: str = ""  # what is expected and what to do, if it is not good

    def __str__(self) -> str:
        line = f"{SIGNS[self.good]}  {self.name:<10} {self.found}"
        if self.advice and not self.good:
            line += f"; {self.advice}"
        return harmless(line.replace("\n", " "))  # some of it is a server's
