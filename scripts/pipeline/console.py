"""Prints what stages that run side by side say: each line with its stage's name; below, what is going on."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

LAST_LINES = 10
AT_ONCE = 200
"""Lines that a terminal is given at once; of more the last ones, since it draws each of them. The log has all."""
ESCAPE = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)?")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a cursor, breaks a line, turns the direction of a text, or cannot be printed at all."""
PLAIN = bytes(range(ord(" "), 127))


def harmless(line: str) -> str:
    """Return a line as it can be shown: without colours and cursor movements, of a progress bar its last state."""
    return CONTROL.sub("?", ESCAPE.sub("", line.rstrip("\r").rpartition("\r")[2]))


def all_harmless(lines: Sequence[str]) -> list[str]:
    """Return each line as `harmless` does: quickly where nothing is to be done, as in most of what programs print."""
    text = "".join(lines)
    if text.isascii() and not text.encode().translate(None, PLAIN):
        return list(lines)
    return [line if line.isprintable() else harmless(line) for line in lines]


def printable(text: object) -> str:
    """Return `text` with a ? for each character that would not stay on its place of a line."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def tell(text: str) -> None:
    """Print lines, some of whose words are a server's or a stage's, at once and without power over a terminal."""
    print("\n".join(all_harmless(text.split("\n"))), flush=True)


class Console:
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
            import rich.console
            from rich.live import Live

            # Not sys.stdout: that DVC wraps (colorama), and what moves a terminal's cursor gets lost there.
            console = rich.console.Console(file=sys.__stdout__, force_terminal=True, width=max(int(columns), 20))
            # Nothing is redirected: workers are forked from here, and print into pipes of their own.
            apart = {"redirect_stdout": False, "redirect_stderr": False}
            self._live = Live("", console=console, auto_refresh=False, transient=True, **apart)
        self._last = ""
        self._since = time.time()
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
        """Print a line of the stage, without what would move a terminal's cursor."""
        self.lines(stage, [text])

    def lines(self, stage: str, texts: Sequence[str]) -> None:
        """Print lines of the stage as `line` does, in one step."""
        self._print(stage, all_harmless(texts), mark="| ")

    def begins(self, stage: str) -> float:
        """Count the stage as running; what it does is printed when it is known. Return when: seconds since 1970."""
        self._began[stage] = time.time()
        return self._began[stage]

    def ends(self, stage: str, how: str) -> float:
        """Print how the stage ended, and how long it took. Return when it ended: seconds since 1970."""
        at = time.time()
        self._print(stage, [f"{how} ({at - self._began.pop(stage):.1f} s)"])
        return at

    def note(self, text: str) -> None:
        """Print a line that belongs to no stage."""
        self._last = ""
        self._show([text])

    def repeat(self, stage: str, lines: Sequence[str]) -> None:
        """Print the last of a stage's `lines` once more, unless they are the last ones printed anyway."""
        if lines and self._last != stage:
            self._print(stage, ["its last lines:"])
            for text in list(lines)[-LAST_LINES:]:
                self.line(stage, text)

    def goes_on(self, ended: int, stages: int, progress: Callable[[], str] = str) -> None:
        """Renew the line at the bottom: the time so far, what `progress` says of it, and how many stages are where."""
        if self._live:
            from rich.text import Text

            now = time.time()
            times = ", ".join(filter(None, [f"{now - self._since:.0f} s", printable(progress())]))
            running = ", ".join(f"{stage} {now - began:.0f} s" for stage, began in self._began.items())
            counts = {f"running ({running})": len(self._began), "waiting": stages - ended - len(self._began)}
            counted = [f"{ended} done", *(f"{count} {what}" for what, count in counts.items() if count)]
            self._live.update(Text(f"{times}: {', '.join(counted)}", no_wrap=True, overflow="ellipsis"), refresh=True)

    def _print(self, stage: str, texts: Sequence[str], mark: str = "") -> None:
        self._last = stage
        self._show(texts, before=f"{stage:<{self._width}} {mark}")

    def _show(self, lines: Sequence[str], before: str = "") -> None:
        text = before + f"\n{before}".join(lines)
        print(text, file=self._log, flush=True)
        if not self._live:
            print(text, flush=True)
            return
        if len(lines) > AT_ONCE:
            left_out = f"... ({len(lines) - AT_ONCE} lines are only in {self._log.name})"
            text = "\n".join([left_out, *(before + line for line in lines[-AT_ONCE:])])
        self._live.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
