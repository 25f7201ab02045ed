"""Metrics that a stage prints while it runs: `::metric loss=0.31 accuracy=0.9 step=12`.

What a stage prints is a stranger's: names and values are checked here, before anything is logged.
"""

import math
import re
from typing import NamedTuple

MARK = "::metric "
MOST = 100  # values in a line
NAME = re.compile(r"[\w./-]{1,100}")
LAST_STEP = 2**63 - 1  # what MLflow's database can hold


class LiveMetric(NamedTuple):
    """Values by name, at a step."""

    values: dict[str, float]
    step: int

    def __str__(self) -> str:
        return " ".join(f"{name}={value:g}" for name, value in self.values.items()) + f" step={self.step}"


def parse(line: str) -> LiveMetric | None:
    """Return the metrics of a line that a stage printed; None if it is another line, or holds no such thing.

    `step` is a whole number from 0, by default 0. A value is a number: NaN and infinity are numbers.
    """
    if not line.startswith(MARK):
        return None
    pairs = [word.partition("=") for word in line.removeprefix(MARK).split()]
    given = {name: text for name, _, text in pairs}
    step = given.pop("step", "0")
    if not given or len(given) > MOST or not re.fullmatch(r"[0-9]{1,19}", step) or int(step) > LAST_STEP:
        return None
    values = {name: _number(text) for name, text in given.items() if NAME.fullmatch(name)}
    found = {name: value for name, value in values.items() if value is not None}
    return LiveMetric(found, int(step)) if len(found) == len(given) else None


def _number(text: str) -> float | None:
    if not re.fullmatch(r"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf(inity)?)", text, re.ASCII | re.I):
        return None
    value = float(text)
    return value if math.isfinite(value) or text.lower().lstrip("+-")[:3] in ("nan", "inf") else None
