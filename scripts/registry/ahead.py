"""A function that takes longer to get ready than to do its work: in a process of its own, while other work goes on."""

import gc
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scripts.pipeline.worker import FORK
from scripts.project import UserError
from scripts.recovery import signals


class Ahead:
    """Calls `function` in a process that has called `get_ready` by then, if `start` was called; else in this one.

    `name` is what the process is called in messages and in lists of processes (15 letters at most).
    """

    def __init__(self, name: str, get_ready: Callable[[], None], function: Callable[..., Any]) -> None:
        self._name, self._get_ready, self._function = name, get_ready, function
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        """Forks the process. It ends with this one."""
        self._connection, there = FORK.Pipe()
        arguments = (self._name, self._get_ready, self._function, self._connection, there)
        self._process = FORK.Process(target=_work, args=arguments, name=self._name, daemon=True)
        self._process.start()
        there.close()

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for `arguments`; to be called once. Raises UserError where that does."""
        if not self._process:
            return self._function(*arguments)
        try:
            self._connection.send(arguments)
            good, result = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise UserError(
                f"{self._name} was killed (exit code {self._process.exitcode}); expected it to end by itself: run "
                "again, which goes on"
            ) from None
        if not good:
            raise UserError(result)
        return result


def _work(
    name: str,
    get_ready: Callable[[], None],
    function: Callable[..., Any],
    parents: Connection,
    connection: Connection,
) -> None:
    parents.close()  # else this would never see the parent's end of it close
    for number in signals.ENDING:
        signal.signal(number, signal.SIG_DFL)
    Path("/proc/self/comm").write_text(name)
    get_ready()
    gc.freeze()  # what is there now stays: the collector need not walk through it
    try:
        arguments = connection.recv()
    except EOFError:
        return
    try:
        connection.send((True, function(*arguments)))
    except UserError as error:
        connection.send((False, str(error)))
