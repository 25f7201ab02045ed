"""Starts the server: `python -m model_server`."""

import gc
import os
import sys

gc.disable()  # what is imported stays: to look through it again and again takes a tenth of the start

from .server import main  # noqa: E402

sys.exit(main(dict(os.environ)))
