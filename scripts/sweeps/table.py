"""Shows a sweep in the terminal: a line for each trial that has ended, and below, on a terminal, how far it is."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self

from scripts import tables
from scripts.pipeline.console import all_harmless, tell
from scripts.pipeline.params import as_written
from scripts.sweeps.study import DONE, FAILED, SAME, Study, Trial

MOST_ROWS = 10
LONGEST = 200  # characters of a sentence


class Table:
    """Prints to standard output; to be used with `with`. TERMINAL in the environment is the width of a terminal."""

    def __init__(self, study: Study) -> None:
        self._study, self._began = study, time.monotonic()
        columns = os.environ.get("TERMINAL", "")
        self._live = None
        if columns.isdecimal():
            import rich.console
            from rich.live import Live

            console = rich.console.Console(file=sys.__stdout__, force_terminal=True, width=max(int(columns), 20))
            apart = {"redirect_stdout": False, "redirect_stderr": False}  # processes are forked from here
            self._live = Live("", console=console, auto_refresh=False, transient=True, **apart)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def ended(self, trial: Trial) -> None:
        """Print the line of a trial that has ended."""
        (line,) = all_harmless([ended(self._study, trial)])
        if self._live:
            self._live.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def goes_on(self, running: Sequence[str]) -> None:
        """Renew what stands below: how many trials ended, which stages run, and the best so far."""
        if self._live:
            from rich.text import Text

            text = (
                f"{so_far(self._study)}; running: {', '.join(running) or '-'} ({time.monotonic() - self._began:.0f} s)"
            )
            self._live.update(Text(*all_harmless([text]), no_wrap=True, overflow="ellipsis"), refresh=True)


def ended(study: Study, trial: Trial) -> str:
    """Return what is to be said of a trial that has ended: `trial 7  fit.depth 4  cv_accuracy 0.95 (2.1 s)  best`."""
    head = f"trial {trial.number:>{len(str(study.planned))}}  {values(trial)}"
    if trial.score is None:
        return f"{head}  failed: {trial.outcome.sentence[:LONGEST]}"
    best = study.best
    mark = "  best so far" if best.number == trial.number else ""
    return f"{head}  {study.metric} {trial.score:.6g} ({trial.outcome.seconds:.1f} s){mark}"


def values(trial: Trial) -> str:
    return "  ".join(f"{name} {as_written(value)}" for name, value in trial.values.items())


def so_far(study: Study) -> str:
    failed = f", {study.counted(FAILED)} failed" if study.counted(FAILED) else ""
    best = f"best: trial {study.best.number}, {study.metric} {study.best.score:.6g}" if study.best else "none is scored"
    return f"{study.counted(DONE, SAME)} of {study.planned} trials done{failed}; {best}"


def summary(study: Study) -> Iterator[str]:
    """Yield the lines of a sweep that has ended: the best trials, and what to do next."""
    sign = -1 if study.goal == "maximize" else 1
    ranked = sorted(
        (trial for trial in study.trials if trial.score is not None and trial.same_as is None),
        key=lambda trial: (sign * trial.score, trial.number),
    )
    rows = [
        (str(trial.number), f"{trial.score:.6g}", *map(as_written, trial.values.values()))
        for trial in ranked[:MOST_ROWS]
    ]
    yield tables.text(tables.Table(("trial", study.metric, *study.parameters), rows, right=(0, 1)))
    if len(ranked) > MOST_ROWS:
        yield f"... and {len(ranked) - MOST_ROWS} more: see the page"
    yield ""
    yield so_far(study)


def show(study: Study) -> None:
    tell("\n".join(summary(study)))
