"""Follows the registry for a server: it alone has credentials. It fetches files, and writes down what is to serve."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from scripts.project import UserError
from scripts.registry import reader, records
from scripts.registry.records import State
from scripts.serving.choice import version_of
from scripts.serving.kept import About, Kept

LOOKS = 5.0  # seconds between two looks at the registry
SOON = 1.0  # the same while there is nothing to serve


class Wish(NamedTuple):
    """What is to serve: an alias or a version's number; and what in its shadow, if anything."""

    which: str
    shadow: str


class Agent:
    """Looks at the registry, and keeps what it finds there. `say` tells a person what has changed."""

    def __init__(self, kept: Kept, wish: Wish, say: Callable[[str], None]) -> None:
        self._kept, self._wish, self._say = kept, wish, say
        self.current: About | None = None
        self.shadow: About | None = None
        self._remembered: About | None = None
        self._answered: float | None = None  # when the registry did the last time, in seconds since 1970
        self._last = dict.fromkeys(("registry", "shadow", "serves", "refused", "files", "disk"), "")

    def begin(self) -> bool:
        """Write down what served last by the same wish, for a server that starts before the registry was asked.

        Return False if there is no such version.
        """
        self.current = self._kept.remembered(self._wish.which)
        if self.current:
            self._want({"ok": False, "why": "it was not asked yet"})
        return self.current is not None

    def look(self) -> None:
        """Look once: at the records, for the files, and write down what is to serve. What fails changes nothing."""
        registry: dict[str, Any] = {"ok": True, "why": ""}
        try:
            state = reader.look_up(self._kept.model)
            self.current = self._kept.fetch(version_of(state, self._kept.model, self._wish.which))
            self._answered = time.time()
            self._note("registry", "")
            self.shadow = self._shadow(state)
            self._note("files", "")
        except (UserError, records.Unclear) as error:
            registry = {"ok": False, "why": str(error)}
            self._note("registry", f"{error} ({self._instead()})")
        except OSError as error:
            registry = {"ok": True, "why": _unwritten(error)}
            self._note("files", f"{_unwritten(error)} ({self._instead()})")
        self._want(registry)

    def _instead(self) -> str:
        """Return what serves in place of what cannot be fetched."""
        if self.current is None:
            self.current = self._kept.remembered(self._wish.which)
        return f"version {self.current['version']} stays" if self.current else "nothing serves until then"

    def _want(self, registry: dict[str, Any]) -> None:
        try:
            self._kept.want(self.current, self.shadow, registry | {"answered": self._answered})
            self._note("disk", "")
        except OSError as error:
            self._note("disk", f"{_unwritten(error)}: what serves stays")

    def _shadow(self, state: State | None) -> About | None:
        """Return the version in the shadow; the one of before if it cannot be fetched, none if there is none."""
        if not self._wish.shadow:
            return None
        try:
            version = version_of(state, self._kept.model, self._wish.shadow)
        except UserError as error:
            self._note("shadow", f"nothing is in the shadow: {error}")
            return None
        self._note("shadow", "")
        return self._kept.fetch(version)

    def heard(self, told: dict[str, Any]) -> None:
        """Take what the server says of itself: say what is new, and remember a version that serves."""
        if told.get("version") is not None:
            shadow = f", version {told['shadow']} in its shadow" if told.get("shadow") else ""
            self._note("serves", f"version {told['version']} serves{shadow}")
        refused = told.get("refused") or {}
        self._note("refused", "; ".join(f"{why}: what serves stays" for why in refused.values()))
        now = self.current
        if (
            now
            and now != self._remembered
            and (told.get("version"), told.get("sha256")) == (now["version"], now["sha256"])
        ):
            with suppress(OSError):  # again the next time
                self._kept.remember(now, self._wish.which)
                self._remembered = now
                self._kept.forget_others({about["sha256"] for about in (now, self.shadow) if about})

    def _note(self, what: str, text: str) -> bool:
        """Say a text that is another one than the last of its kind; return whether it is."""
        if text == self._last[what]:
            return False
        before, self._last[what] = self._last[what], text
        if text:
            self._say(f"{time.strftime('%H:%M:%S')} {text}")
        elif before:
            self._say(f"{time.strftime('%H:%M:%S')} {'the registry answers' if what == 'registry' else 'mended'} again")
        return True


def _unwritten(error: OSError) -> str:
    name = Path(error.filename).name if isinstance(error.filename, str) else "a file"
    return f"{name} cannot be written ({error.strerror or error})"
