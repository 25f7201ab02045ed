"""A container may be started while the stage's inputs are still being made; its program then waits for them here.

`scripts/pipeline/prestart.py` has the other end of this.
"""

import importlib
import os
import sys
from collections.abc import Sequence

EARLY = "STARTED_EARLY"
"""Set in such a container; its program then waits for a line of standard input."""
WAITING = "waits for its inputs"
"""The line that it prints when it has imported all it needs."""


def for_inputs(imports: Sequence[str]) -> None:
    """Return when the inputs are there; end the program if nobody is left to say so.

    `imports` are modules that the stage imports only where it needs them: there is time for them if it has to wait.
    """
    if not os.environ.get(EARLY):
        return
    for name in imports:
        importlib.import_module(name)
    print(WAITING, flush=True)
    if not sys.stdin.readline():
        sys.exit()
