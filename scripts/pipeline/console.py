"""What a person sees of stages that run side by side: each line with its stage's name, and below what goes on."""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

LAST_LINES = 10


class Screen:
    """Prints to standard output and into the file `log`. To be used with `with`.

    On a terminal (TERMINAL in the environment is its width in columns) one line below all others says what goes on.
    """

    def __init__(self, stages: Iterable[str], log: Path) -> None:
        self._width = max(map(len, stages))
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("w")
        columns = os.environ.get("TERMINAL", "")
        self._live = None
        if columns.isdecimal():
            from rich.console import Console
            from rich.live import Live

            # Not sys.stdout: that DVC wraps (colorama), and what moves a terminal's cursor gets lost there.
            console = Console(file=sys.__stdout__, force_terminal=True, width=max(int(columns), 20))
            # Nothing is redirected: workers are forked from here, and print into pipes of their own.
            apart = {"redirect_stdout": False, "redirect_stderr": False}
            self._live = Live("", console=console, auto_refresh=False, transient=True, **apart)
        self._last = ""
        self._began: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()
        self._log.close()

    def line(self, stage: str, text: str) -> None:
        """A line that the stage printed."""
        self._print(stage, f"| {text}")

    def begins(self, stage: str) -> None:
        """Counts the stage as one that goes on; what it does is said when it is known."""
        self._began[stage] = time.monotonic()

    def ends(self, stage: str, how: str) -> None:
        self._print(stage, f"{how} ({time.monotonic() - self._began.pop(stage):.1f} s)")

    def note(self, text: str) -> None:
        """A line of no stage's."""
        self._last = ""
        self._show(text)

    def repeat(self, stage: str, lines: Sequence[str]) -> None:
        """The last of a stage's `lines` once more, unless they are the last on the screen anyway."""
        if lines and self._last != stage:
            self._print(stage, "said at last:")
            for text in list(lines)[-LAST_LINES:]:
                self.line(stage, text)

    def goes_on(self, ended: int, stages: int) -> None:
        """Renews the line at the bottom: how many of how many have ended, and since when the others run."""
        if self._live:
            from rich.text import Text

            now = time.monotonic()
            running = ", ".join(f"{stage} {now - began:.0f} s" for stage, began in self._began.items())
            text = f"{ended} of {stages} stages ended; running: {running or '-'}"
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _print(self, stage: str, text: str) -> None:
        self._last = stage
        self._show(f"{stage:<{self._width}} {text}")

    def _show(self, line: str) -> None:
        print(line, file=self._log, flush=True)
        if self._live:
            self._live.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(line, flush=True)
