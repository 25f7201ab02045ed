"""Adds a stage to a clone: its folder, its block, its section of params.yaml, and a line of .gitignore."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from scripts.pipeline import images, template
from scripts.pipeline.images import BASE, Image, is_test_or_document
from scripts.pipeline.params import parse
from scripts.pipeline.stage import Pipeline, Stage, prefix
from scripts.pipeline.template import TEMPLATE
from scripts.project import UserError
from scripts.scaffold import copied, stage, text
from scripts.scaffold.changes import Changes
from scripts.scaffold.stage import NewStage
from scripts.scaffold.text import BYTES

LONGEST = 60  # characters of a name: files, images and containers are called after it
PARAMS, IGNORE = "params.yaml", ".gitignore"
OF_THE_USER = "data/external"
TAKEN = {"stage": "all stages", "runner": "the runner"}
"""Whose the settings are that would be called after a stage of this name: STAGE_MEMORY."""


def add(root: Path, name: str, after: str, like: str = "") -> list[str]:
    """Add the stage `name` to the clone at `root`, below the stage `after`, as a copy of the stage `like` if one is
    named; return what to tell. Raise UserError for what cannot be, and change nothing then."""
    known = images.load(root / "stages")
    pipeline = template.load(root, known)
    check_name(root, name, pipeline)
    before = _named("AFTER", after, pipeline)
    model = _named("LIKE", like, pipeline) if like else None
    if model and model.name != model.block:
        raise UserError(
            f"LIKE is {like}, one of several stages of a block; expected one whose block makes one stage: copy that of "
            f"{model.block} by hand"
        )
    seen = {path: _bytes(root / path) for path in (TEMPLATE, PARAMS, IGNORE)}
    texts = {path: content.decode(errors=BYTES) for path, content in seen.items()}
    new = _made(name, before, model, pipeline, root, texts[PARAMS])
    changes = Changes(root)
    for path, source in new.files.items():
        changes.write(f"stages/{name}/{path}", source)
    if not is_ignored(root, new.stage):
        others = [each.folder for each in pipeline.stages.values()]
        texts[IGNORE] = text.with_folder(texts[IGNORE], new.stage.folder, others)
    if new.section:
        sections = [*pipeline.stages][: [*pipeline.stages].index(before.name) + 1]
        texts[PARAMS] = text.with_section(texts[PARAMS], name, new.section, new.stage.section or {}, sections)
    images_then = {**known, name: Image(name, new.stage.image, {})}
    texts[TEMPLATE] = text.with_block(
        texts[TEMPLATE], stage.block(new.stage), name, before.block, parse(texts[PARAMS]), images_then, root, pipeline
    )
    # In this order a kill between two of them leaves a pipeline that runs.
    for path in (IGNORE, TEMPLATE, PARAMS):
        if (content := texts[path].encode(errors=BYTES)) != seen[path]:
            changes.write(path, content, seen=seen[path] if (root / path).exists() else None)
    changes.apply(lambda: template.write(template.load(root), root))
    return list(_told(new, before, model, changes))


def _made(name: str, after: Stage, like: Stage | None, pipeline: Pipeline, root: Path, params: str) -> NewStage:
    """Return the new stage, with the first output folder that is its own."""
    folders = [f"{like.folder}-{name}"] if like else [f"data/{name}", f"data/{name}-output"]
    found = [
        copied.copy_of(like, name, after, folder, root, params) if like else stage.following(name, after, folder)
        for folder in folders
    ]
    return first_free(found, pipeline, root)


def first_free(found: list[NewStage], pipeline: Pipeline, root: Path) -> NewStage:
    """Return the first of the stages whose output folder nothing else uses. Raise UserError if there is none."""
    used = [OF_THE_USER]
    for each in pipeline.stages.values():
        used += [each.folder, *each.inputs.values()]
    for new in found:
        folder = new.stage.folder
        shared = [path for path in used if os.path.commonpath([folder, path]) in (folder, path)]
        if not shared and not any(os.path.lexists(root / path) for path in new.stage.written.values()):
            return new
    raise UserError(
        f"the stage would write to {' or '.join(f'{new.stage.folder}/' for new in found)}, where others read or write "
        "files; expected a folder of its own: choose another NAME, or move those files; nothing was changed"
    )


def check_name(root: Path, name: str, pipeline: Pipeline) -> None:
    """Raise UserError if a new stage cannot have this name."""
    if not images.NAME.fullmatch(name) or not name[0].isalpha() or len(name) > LONGEST:
        found = f"is {name[:100]!r}" if name else "is empty"
        raise UserError(
            f"NAME {found}; expected lower-case letters, digits, - and _, a letter first, {LONGEST} characters at "
            "most, as in NAME=features: choose one"
        )
    if problem := next(_problems(root, name, pipeline), None):
        raise UserError(f"NAME is {name}, {problem}; expected a new name: choose another one; nothing was changed")


def _problems(root: Path, name: str, pipeline: Pipeline) -> Iterator[str]:
    if name == BASE or name in pipeline.stages:
        yield "which is a stage's already" if name != BASE else "which is what all stages start from"
    if os.path.lexists(root / "stages" / name):
        yield f"and stages/{name} is there already"
    if name in pipeline.params:
        yield f"and {PARAMS} has a section of that name"
    if is_test_or_document(f"{name}.py"):
        yield f"so that {name}.py would be a test"
    if name in modules(root / "stages" / BASE):
        yield f"so that {name}.py would hide a Python module of that name"
    makefile = (root / "Makefile").read_text() if (root / "Makefile").is_file() else ""
    if found := re.search(rf"^(?:run|test)-{re.escape(name)}(?=:)", makefile, re.MULTILINE):
        yield f"and 'make {found[0]}' does something else"
    if name in TAKEN:
        yield f"so that its limits would be called like those of {TAKEN[name]}"
    if same := [each for each in pipeline.stages if prefix(each) == prefix(name)]:
        yield f"so that its limits would be called like those of {same[0]}"


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the packages that each module here comes from."""
    return packages_distributions()


def modules(base: Path) -> set[str]:
    """Return the modules that a program may import in a stage's image: a program of such a name would stand before."""
    locks = [base / "requirements.txt", base / "tests" / "requirements.txt"]
    lines = [line for lock in locks if lock.is_file() for line in lock.read_text().splitlines()]
    packages = {match[0].lower() for line in lines if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))}
    theirs = {
        module
        for module, distributions in _distributions().items()
        if {re.sub(r"[-_.]+", "-", each).lower() for each in distributions} & packages
    }
    usual = {re.sub(r"^(scikit|python)-", "sk" if each.startswith("scikit") else "", each) for each in packages}
    own = {path.stem for path in base.glob("*.py")}
    return own | theirs | {each.replace("-", "_") for each in packages | usual} | set(sys.stdlib_module_names)


def _named(variable: str, name: str, pipeline: Pipeline) -> Stage:
    if name not in pipeline.stages:
        found = f"is {name[:100]!r}, which is no stage of {TEMPLATE}" if name else "is empty"
        expected = f"expected one of {', '.join(pipeline.stages)}: correct it" if pipeline.stages else "it has none"
        raise UserError(f"{variable} {found}; {expected}")
    return pipeline.stages[name]


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def is_ignored(root: Path, new: Stage) -> bool:
    """Return whether git ignores what the stage will write, in every clone."""
    command = [
        "git",
        "-C",
        str(root),
        "-c",
        "core.excludesFile=/dev/null",
        "check-ignore",
        "--no-index",
        "-z",
        "--stdin",
    ]
    paths = b"".join(os.fsencode(path) + b"\0" for path in new.written.values())
    return subprocess.run(command, input=paths, capture_output=True).stdout == paths


def _told(new: NewStage, after: Stage, like: Stage | None, changes: Changes) -> Iterator[str]:
    name, written = new.stage.name, new.stage
    yield f"stages/{name}: {', '.join(new.files)}"
    yield f"{TEMPLATE}: a block below that of {after.name}"
    yield f"  reads  {', '.join(written.inputs.values()) or 'nothing'}"
    yield f"  writes {', '.join(written.written.values())}"
    if new.section:
        yield f"{PARAMS}: the section {name}"
    if IGNORE in changes.written:
        yield f"{IGNORE}: /{written.folder}/"
    yield "dvc.yaml: rendered"
    if like and not set(written.inputs.values()) & set(after.written.values()):
        yield f"note: {after.name} writes no file that {like.name} reads, so it reads what {like.name} does"
    if not like:
        yield f"your work goes where stages/{name}/{name}.py says YOUR WORK"
    yield f"then   make run, make test-{name}; git add --all, git commit"
