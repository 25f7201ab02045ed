"""What a new stage is made of: its program and test, its block, its section of params.yaml."""

import json
import keyword
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2

from scripts.pipeline.images import Source
from scripts.pipeline.stage import Files, Stage

WIDTH = 120
IMAGE = "none yet"
"""The image of a stage that has no folder yet."""


@dataclass(frozen=True)
class NewStage:
    """A stage to be, the files of its folder, and the lines of its section of params.yaml; None if it has none."""

    stage: Stage
    files: Mapping[str, Source]
    section: str | None


def first(name: str, folder: str) -> NewStage:
    """Return a stage that reads nothing and writes a small table."""
    outputs = {"out_table": f"{folder}/table.csv"}
    section = f"{name}:\n  rows: 10 # of the table, 1 to 1000000"
    stage = Stage(name, IMAGE, outputs=outputs, section={"rows": 10})
    return NewStage(stage, _files(stage, "Makes a small table."), section)


def following(name: str, after: Stage, folder: str) -> NewStage:
    """Return a stage that copies what another one writes."""
    made = after.outputs or after.written
    places = {path: str(PurePosixPath(path).relative_to(after.folder)) for path in made.values()}
    words = _words(places)
    inputs = {f"in_{words[path]}": path for path in places}
    outputs = {f"out_{words[path]}": f"{folder}/{place}" for path, place in places.items()}
    comment = "of a file the first lines, of a folder the first files by name, 1 or more; null: all"
    section = f"{name}:\n  keep: null # {comment}"
    stage = Stage(name, IMAGE, inputs, outputs, section={"keep": None})
    return NewStage(stage, _files(stage, f"Copies what {after.name} writes."), section)


def _words(places: Mapping[str, str]) -> dict[str, str]:
    """Return a word of its own for each path, of what a Python name may have: as short as the others allow."""
    found: dict[str, str] = {}
    for path, place in places.items():
        short = PurePosixPath(place).with_suffix("").name
        clear = sum(PurePosixPath(other).with_suffix("").name == short for other in places.values()) == 1
        word = unique = re.sub(r"\W+", "_", short if clear else place, flags=re.ASCII).strip("_").lower() or "file"
        while unique in found.values():
            unique = f"{word}_{len(found)}"
        found[path] = unique
    return found


def is_importable(name: str) -> bool:
    """Return whether a module of this name can be imported by a statement."""
    return name.isidentifier() and not keyword.iskeyword(name)


def _files(stage: Stage, summary: str) -> dict[str, Source]:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True, trim_blocks=True, autoescape=False,
    )  # fmt: skip
    importable = is_importable(stage.name)
    words: dict[str, Any] = {
        "name": stage.name,
        "module": stage.name if importable else "program",
        "importable": importable,
        "title": "".join(word.capitalize() for word in re.split(r"[-_]+", stage.name)),
        "inputs": list(stage.inputs),
        "outputs": list(stage.outputs),
        "summary": summary,
    }
    files = {f"{stage.name}.py": "program.py.jinja", f"test_{stage.name}.py": "test.py.jinja"}
    rendered = {path: environment.get_template(source).render(words) for path, source in files.items()}
    return {path: Source(formatted(text, path).encode()) for path, text in rendered.items()}


def formatted(code: str, path: str) -> str:
    """Return Python code as `make fmt` would format it."""
    command = ["ruff", "format", "--quiet", "--isolated", "--line-length", str(WIDTH), "--stdin-filename", path, "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout


def block(stage: Stage) -> str:
    """Return the block of a stage, as the template has it."""
    arguments = [f'"{stage.name}"']
    for kind in ("inputs", "outputs", "metrics", "plots"):
        if files := getattr(stage, kind):
            arguments.append(_mapping(kind, files))
    if stage.network != "none":
        arguments.append(f'network="{stage.network}"')
    if stage.env:
        arguments.append(f"env=[{', '.join(f'"{name}"' for name in stage.env)}]")
    limits = {"gpus": stage.gpus, "shm": stage.shm, "tmp": stage.tmp, "options": [*stage.options] or None}
    arguments += [f"{name}={json.dumps(value)}" for name, value in limits.items() if value is not None]
    return f"{{{{ stage({f',\n{" " * 9}'.join(arguments)}) }}}}"


def _mapping(kind: str, files: Files) -> str:
    start = f"{' ' * 9}{kind}={{"
    lines = [start]
    for number, (argument, path) in enumerate(files.items(), 1):
        entry = f'"{argument}": "{path}"' + ("," if number < len(files) else "}")
        if lines[-1] == start:
            lines[-1] += entry
        elif len(lines[-1]) + len(entry) + 1 <= WIDTH - len(") }}"):
            lines[-1] += f" {entry}"
        else:
            lines.append(" " * len(start) + entry)
    return "\n".join(lines).lstrip()
