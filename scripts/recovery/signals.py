"""Ctrl-C, SIGTERM and SIGHUP end a verb in order, and so does the end of whoever called it."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

first: list[Callable[[], None]] = []
"""What is called as soon as such a signal has come, before anything is stopped."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the process; no Exception, so that nothing takes it for a fault."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = signal.Signals(number).name


def _stop(number: int, frame: object) -> NoReturn:
    for each in ENDING:  # once is enough: what stops now is not to be stopped
        signal.signal(each, signal.SIG_IGN)
    for call in first:
        call()
    raise Stopped(number)


def raise_stopped() -> None:
    """From here on such a signal raises Stopped; with LIFELINE=1, the end of standard input is a SIGTERM.

    scripts/host/runner.sh holds the other end of it: it goes with make, and with the docker client.
    """
    for number in ENDING:
        signal.signal(number, _stop)
    if os.environ.pop("LIFELINE", "") == "1":
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
