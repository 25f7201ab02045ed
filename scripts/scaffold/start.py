"""Takes the stages of a clone out, and leaves one small stage to begin with."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.pipeline import images, template
from scripts.pipeline.images import BASE
from scripts.pipeline.stage import Pipeline, Stage
from scripts.pipeline.template import TEMPLATE
from scripts.project import UserError
from scripts.scaffold import new_stage, stage, text
from scripts.scaffold.changes import Changes
from scripts.scaffold.new_stage import IGNORE, PARAMS
from scripts.scaffold.stage import NewStage
from scripts.scaffold.text import BYTES

NAME = "load"
"""What the first stage is called, unless it is told otherwise."""
HEAD = re.compile(r"\s*\{#.*?#\}", re.DOTALL)
"""The comment at the top of a template, which says what it may hold."""
NAMES = {"model": "my-model", "experiment": "my-experiment"}
LATER = "# Uncomment these for a line model(...) of the template; what a model has no use for stays a comment.\n"


@dataclass(frozen=True)
class Start:
    """What is to be done: all changes of files, the stages that go with their outputs, and the one that is left."""

    changes: Changes
    stages: list[Stage]
    outputs: list[Path]
    new: NewStage

    def told(self) -> Iterator[str]:
        """Yield what would be deleted and written, by folder."""
        for path in self.changes.deleted:
            yield f"delete  {path}"
        for path in self.outputs:
            yield f"delete  {path.relative_to(self.changes.root)}, which DVC's cache keeps"
        for path in self.changes.written:
            yield f"write   {path}"
        yield "write   dvc.yaml"

    def apply(self) -> None:
        """Do it. Whatever is raised, no file that git has is changed."""
        root = self.changes.root
        self.changes.apply(lambda: template.write(template.load(root), root))
        for path in self.outputs:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for each in self.stages:
            _remove_empty(root / each.folder, root)


def _remove_empty(folder: Path, root: Path) -> None:
    """Delete `folder` and those around it, up to `root`, that hold nothing."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def planned(root: Path, name: str = "") -> Start:
    """Return what it takes to begin anew with a stage `name`.

    Raise UserError if git does not have all that would be gone, or for a name that cannot be; nothing is changed.
    """
    _check_committed(root)
    name = name or NAME
    known = images.load(root / "stages")
    pipeline = template.load(root, known)
    emptied = Pipeline("", {}, params={})
    if name not in pipeline.stages:
        new_stage.check_name(root, name, emptied)
    possible = [stage.first(name, f"data/{folder}") for folder in (name, f"{name}-output")]
    new = new_stage.first_free(possible, emptied, root)
    changes = Changes(root)
    for path in [*_tracked(root, "stages"), *_tracked(root, "dvc.lock")]:
        if path == "dvc.lock" or _stage_of(path) not in ("", BASE):
            changes.delete(path)
    for path, source in new.files.items():
        changes.write(f"stages/{name}/{path}", source)
    seen = {path: (root / path).read_bytes() if (root / path).exists() else b"" for path in (TEMPLATE, PARAMS, IGNORE)}
    texts = {path: content.decode(errors=BYTES) for path, content in seen.items()}
    changes.write(PARAMS, _params(texts[PARAMS], new, pipeline).encode(), seen=seen[PARAMS])
    changes.write(TEMPLATE, _template(texts[TEMPLATE], new).encode(), seen=seen[TEMPLATE])
    if not new_stage.is_ignored(root, new.stage):
        folders = [each.folder for each in pipeline.stages.values()]
        changes.write(IGNORE, text.with_folder(texts[IGNORE], new.stage.folder, folders).encode(errors=BYTES))
    written = [root / path for each in pipeline.stages.values() for path in each.written.values()]
    return Start(changes, list(pipeline.stages.values()), [path for path in written if path.exists()], new)


def _stage_of(path: str) -> str:
    """Return the folder of stages/ that a path is in; empty for a file beside them."""
    folder, _, rest = path.removeprefix("stages/").partition("/")
    return folder if rest else ""


def _check_committed(root: Path) -> None:
    status = ["git", "-C", str(root), "-c", "core.fsmonitor=false", "status", "--porcelain", "-z"]
    done = subprocess.run(status, capture_output=True)
    if done.returncode:
        raise UserError(f"git cannot say what is not committed ({' '.join(done.stderr.decode().split())}); mend that")
    if changed := [line[3:] for line in done.stdout.decode(errors="replace").split("\0") if line]:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{changed[0]}{others} is not committed; expected a clean tree, so that git has all that would be gone: "
            "commit or stash it; nothing was changed"
        )


def _tracked(root: Path, path: str) -> list[str]:
    command = ["git", "-C", str(root), "ls-files", "-z", "--", path]
    listed = subprocess.run(command, capture_output=True, check=True).stdout
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _template(old: str, new: NewStage) -> str:
    """Return a template of one stage, under the comment that is at the top of the old one."""
    head = match[0] if (match := HEAD.match(old)) else ""
    end = "\r\n" if "\r\n" in old else "\n"
    block = f"stages:\n{stage.block(new.stage)}\n".replace("\n", end)
    return f"{head}{end}{block}" if head else block


def _params(old: str, new: NewStage, pipeline: Pipeline) -> str:
    """Return params.yaml with the section of the new stage alone; what is read of a model is a comment in it."""
    lines = old.splitlines(keepends=True)
    head = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            break
        head.append(line)
    names = {each.name: NAMES["model"] for each in pipeline.models}
    names |= {each.experiment: NAMES["experiment"] for each in pipeline.models}
    kept = []
    for section in pipeline.params:
        if section not in pipeline.stages and (place := text.section_of(old, section, section)):
            for word, other in names.items():
                place = re.sub(rf"^(  \S+: ){re.escape(word)}(?![\w-])", rf"\g<1>{other}", place, flags=re.MULTILINE)
            kept.append("\n".join(f"# {line}".rstrip() for line in place.split("\n")))
    later = f"\n{LATER}{'\n\n'.join(kept)}\n" if kept else ""
    body = f"{new.section}\n{later}"
    return "".join(head) + (body.replace("\n", "\r\n") if "\r\n" in old else body)
