"""Follows a file that says which version serves: loads a new one beside the old one, tries it, then exchanges them."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .model import Model, Unusable, read_sample

LOOKS = 0.5  # seconds between two looks
AGAIN = 30.0  # seconds until a version that could not be loaded is tried again
SOON = 3.0  # the same while nothing serves
WANTED, SAMPLE = "wanted.json", "sample.json"
log = logging.getLogger("serving")


class Serving:
    """What serves: `current`, `shadow` beside it, and why a version that is wanted does not serve, if that is so.

    Only `look` changes it, and only by one assignment at a time: who reads `current` has one model, the old or the new.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current: Model | None = None
        self.shadow: Model | None = None
        self.since = 0.0  # when `current` began to serve, in seconds since 1970
        self.refused: dict[str, str] = {}  # "current" and "shadow": a sentence each
        self.switches = 0
        self.registry: Mapping[str, Any] = {}  # how the registry answered the last time, as the file says it
        self._tried: dict[str, tuple[str, float]] = {}

    def look(self) -> None:
        """Make what serves what is wanted, if that works. It takes as long as loading takes."""
        try:
            wanted = json.loads((self.folder / WANTED).read_text())
        except (OSError, ValueError):
            return
        try:
            self.registry = wanted.get("registry") or {}
            for role in ("current", "shadow"):
                self._follow(role, wanted.get(role))
        except (KeyError, TypeError, AttributeError) as error:  # it is written by the runner alone, in one step
            log.warning("what is wanted cannot be read (%s)", type(error).__name__)

    def _follow(self, role: str, about: Mapping[str, Any] | None) -> None:
        now: Model | None = getattr(self, role)
        if about is None:
            if role == "shadow":  # what serves goes on serving: there is nothing better
                self.shadow = None
                self.refused.pop(role, None)
            return
        if now and (now.version, now.sha256) == (about["version"], about["sha256"]):
            self.refused.pop(role, None)
            self._tried.pop(role, None)
            return
        what = f"{about['version']} {about['sha256']}"
        tried, when = self._tried.get(role, ("", 0.0))
        if tried == what and time.monotonic() - when < (AGAIN if now else SOON):
            return
        self._tried[role] = what, time.monotonic()
        try:
            self._exchange(role, about)
        except Unusable as error:
            self.refused[role] = str(error)
            log.warning("%s", error)
            if error.__cause__:
                log.warning("because of", exc_info=error.__cause__)

    def _exchange(self, role: str, about: Mapping[str, Any]) -> None:
        try:
            model = Model(about, self.folder)
        except (KeyError, TypeError, ValueError) as error:
            raise Unusable(f"the record of a version cannot be read ({type(error).__name__})") from error
        model.try_on(read_sample(self.folder / SAMPLE))
        setattr(self, role, model)
        self.refused.pop(role, None)
        if role == "current":
            self.since, self.switches = time.time(), self.switches + 1
        log.info("%s: version %d", role, model.version)

    async def follow(self) -> None:
        """Look again and again, in a thread, beside the requests."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception:  # what serves goes on serving
                log.exception("the state cannot be followed")
            await asyncio.sleep(LOOKS)
