"""What the shell scripts on the host share."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scripts.project import ROOT


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_made_for_a_while_goes_with_the_script(tmp_path: Path, number: int | None) -> None:
    """Also with Ctrl-C, and with a terminal that is closed; the code says which signal it was."""
    made = tmp_path / "made"
    rest = "false" if number is None else "sleep 60"
    script = f'set -e; . scripts/host/lib.sh; touch "{made}"; at_end \'rm "{made}"\'; touch "{made}.ready"; {rest}'
    shell = subprocess.Popen(["sh", "-c", script], cwd=ROOT, start_new_session=True)
    while number and not Path(f"{made}.ready").exists():
        time.sleep(0.01)
    if number:
        os.killpg(shell.pid, number)
    assert shell.wait(60) == (128 + number if number else 1)
    assert not made.exists()
