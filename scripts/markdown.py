"""Strangers' words in a Markdown text: as they are, with no markup, no link and nobody mentioned."""

import html
import re

from scripts.pipeline.console import printable

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~])")
LONGEST = 200  # characters of a cell


def escaped(value: object, longest: int = LONGEST) -> str:
    """Return a text as Markdown that shows it, cut to a length."""
    text = str(value)
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    shown = html.escape(SPECIAL.sub(r"\\\1", printable(text)), quote=False)
    return shown.replace("@", "@\u200b").replace("://", ":\u200b//")
