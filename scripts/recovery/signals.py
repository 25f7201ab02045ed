"""Ctrl-C, SIGTERM and SIGHUP end a verb in order, and so does the end of whoever called it."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN = 0.05  # seconds after which an exception is raised again that Python could not raise at once

on_signal: list[Callable[[], None]] = []
"""Called as soon as such a signal has come, before anything is stopped."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the process; not an Exception, so that nothing takes it for an error."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = signal.Signals(number).name


def _stop(number: int, frame: object) -> NoReturn:
    for each in ENDING:  # one is enough: the orderly end must not be interrupted by another
        signal.signal(each, signal.SIG_IGN)
    for call in on_signal:
        call()
    raise Stopped(number)


def raise_stopped() -> None:
    """From now on raise Stopped at such a signal; with LIFELINE=1, take the end of standard input for SIGTERM.

    scripts/host/runner.sh holds the other end of standard input, which closes with make and with the docker client.
    """
    for number in ENDING:
        signal.signal(number, _stop)
    sys.unraisablehook = _raise_later
    if os.environ.pop("LIFELINE", "") == "1":
        threading.Thread(target=_watch, daemon=True).start()


def _raise_later(lost: "sys.UnraisableHookArgs") -> None:
    """Raise a Stopped again that was lost: Python drops what is raised in a callback of fork or in `__del__`."""
    if not isinstance(lost.exc_value, Stopped):
        return sys.__unraisablehook__(lost)
    number = lost.exc_value.number
    signal.signal(signal.SIGALRM, lambda *_: _raise(number))
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def _raise(number: int) -> NoReturn:
    raise Stopped(number)


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
