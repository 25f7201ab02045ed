"""A signal ends a verb wherever it comes."""

import subprocess
import sys

import pytest

from scripts.project import ROOT

SIGNAL = "os.kill(os.getpid(), signal.SIGTERM)"
PROGRAM = f"""
import os, signal, time
from scripts.recovery import signals

class Last:
    def __del__(self):
        {SIGNAL}

def after_fork():
    {SIGNAL}

signals.raise_stopped()
try:
    WHERE
    time.sleep(60)
except signals.Stopped as stopped:
    print(stopped.name)
"""
FORK = "os.register_at_fork(after_in_parent=after_fork)\n    os.fork() or os._exit(0)"


@pytest.mark.parametrize("where", [SIGNAL, FORK, "Last()"], ids=["anywhere", "in a callback of fork", "in __del__"])
def test_a_signal_is_not_lost(where: str) -> None:
    """It is raised in the main thread, soon after if Python drops the exception where the signal came."""
    command = [sys.executable, "-c", PROGRAM.replace("WHERE", where)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("SIGTERM\n", "")
