"""`make predict`: what a version says of the rows of a table, beside them."""

import os
from collections.abc import Sequence

from scripts.pipeline.console import tell
from scripts.project import PROJECT
from scripts.recovery.signals import Stopped
from scripts.registry import reader
from scripts.serving import choice, containers, predicting
from scripts.serving.kept import Kept


def main(arguments: Sequence[str]) -> None:
    given = reader.parse(arguments)
    source = predicting.source_of(given.get("in", ""), PROJECT)
    target = predicting.target_of(given.get("out", ""), source, PROJECT)
    chosen = choice.choose(given, PROJECT)
    reader.start_server()
    state = reader.look_up(chosen.model.name)
    version = choice.version_of(state, chosen.model.name, given.get("version") or given.get("alias") or "")
    kept = Kept(PROJECT, chosen.model.name)
    about = kept.fetch(version)
    image = containers.image_for(source.suffix, chosen)
    try:
        facts = predicting.predict(about, kept, image, source, target)
    except Stopped as stopped:
        tell(f"\nstopped by {stopped.name}; nothing was written")
        raise
    shown = os.path.relpath(target, PROJECT.root)
    tell(f"{shown}: {facts['rows']} rows by {facts['model']} version {facts['version']}; where from: {shown}.json")
