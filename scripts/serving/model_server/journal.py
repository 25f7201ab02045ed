"""The log of requests: a line of JSON for some of them, in files that are exchanged as they grow. Off by default."""

import json
import logging
import random
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import pandas as pd

SIZE, FILES = 10 << 20, 5  # bytes of a file, and how many older ones are kept


class Journal:
    """Notes a `share` of the requests, in [0, 1], in `folder`; what was sent and answered only with `values`."""

    def __init__(self, folder: Path, share: float, *, values: bool) -> None:
        self._share, self._values = share, values
        self._log = logging.Logger("requests")
        if share > 0:
            self._log.addHandler(_Quiet(folder / "requests.jsonl", maxBytes=SIZE, backupCount=FILES, delay=True))

    def note(self, features: pd.DataFrame | None = None, answer: pd.DataFrame | None = None, **facts: Any) -> None:
        if self._share <= 0 or random.random() >= self._share:
            return
        line: dict[str, Any] = {"at": round(time.time(), 3), **facts}
        if features is not None:
            line["rows"] = len(features)
            if self._values:
                line["inputs"] = features.to_dict("list")
        if answer is not None and self._values:
            line["predictions"] = answer.to_dict("list")
        self._log.info(json.dumps(line, default=str))


class _Quiet(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a full disk keeps nobody from an answer."""
