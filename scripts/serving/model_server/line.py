"""Requests stand in line: each round predicts, in one call, for all that have come while the last one went on."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pandas as pd

from .model import Model

MOST_ROWS = 10_000
"""Of a round; a request that has more is a round of its own."""
LONGEST = 200_000
"""Rows that may stand in line."""
log = logging.getLogger("serving")


class Full(Exception):
    """More is waiting than can be answered in time."""


class Waiting(NamedTuple):
    """A request that waits: by which model it was read, its rows, and where the answer is expected."""

    model: Model
    features: pd.DataFrame
    answer: asyncio.Future[pd.DataFrame]


type After = Callable[[Model, pd.DataFrame, pd.DataFrame], Any]


class Line:
    """The requests that wait, and the thread that predicts.

    `after` is asked in each round for what is then called there with each answer (model, rows, what it said of them).
    """

    def __init__(self, after: Callable[[], After | None] = lambda: None) -> None:
        self._waiting: deque[Waiting] = deque()
        self._rows = 0
        self._thread = ThreadPoolExecutor(1, "predict")
        self._busy = False
        self._after = after
        self._tasks: set[asyncio.Task[None]] = set()

    async def predict(self, model: Model, features: pd.DataFrame) -> pd.DataFrame:
        """Return what the model says of the rows. Raise Full, or what the model raises."""
        if self._rows and self._rows + len(features) > LONGEST:
            raise Full
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(model, features, answer))
        self._rows += len(features)
        if not self._busy:
            self._busy = True
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        """Answer until nobody waits. Whatever fails, the next round begins."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if some := self._take():
                    found = await loop.run_in_executor(self._thread, _round, some)
                    for waiting, result in zip(some, found, strict=True):
                        _give(waiting.answer, result)
                    if after := self._after():
                        await loop.run_in_executor(self._thread, _afterwards, after, some, found)
        finally:
            self._busy = False

    def _take(self) -> list[Waiting]:
        """Take the first requests of the line that one model answers; those whose client has gone are left out."""
        some: list[Waiting] = []
        rows = 0
        while self._waiting:
            first = self._waiting[0]
            if some and (first.model is not some[0].model or rows + len(first.features) > MOST_ROWS):
                break
            self._waiting.popleft()
            self._rows -= len(first.features)
            if not first.answer.done():
                some.append(first)
                rows += len(first.features)
        return some


def _afterwards(after: After, some: list[Waiting], found: list[pd.DataFrame | Exception]) -> None:
    """Show each answer to `after`. What fails there is noted: the answers are given, and others wait."""
    for waiting, result in zip(some, found, strict=True):
        if isinstance(result, pd.DataFrame):
            try:
                after(waiting.model, waiting.features, result)
            except Exception:
                log.exception("what follows an answer failed")


def _give(answer: asyncio.Future[pd.DataFrame], result: pd.DataFrame | Exception) -> None:
    if answer.done():  # its client has gone, or has waited long enough
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _round(some: list[Waiting]) -> list[pd.DataFrame | Exception]:
    """Return the answer to each request, or what went wrong with it: with all at once, or else one after the other."""
    model = some[0].model
    if len(some) > 1:
        try:
            found = model.predict(pd.concat([waiting.features for waiting in some], ignore_index=True))
        except Exception:  # noqa: BLE001 - one of them may be at fault: each by itself then
            return [answer for waiting in some for answer in _round([waiting])]
        answers, begin = [], 0
        for waiting in some:
            end = begin + len(waiting.features)
            answers.append(found.iloc[begin:end].reset_index(drop=True))
            begin = end
        return answers
    return [_attempt(model, some[0].features)]


def _attempt(model: Model, features: pd.DataFrame) -> pd.DataFrame | Exception:
    """Return what the model says, or what went wrong: the one who waits for it hears of it."""
    try:
        return model.predict(features)
    except Exception as error:  # noqa: BLE001
        return error
