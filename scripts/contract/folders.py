"""What a stage's folder owes to the pipeline, and the pipeline to the folder: program, block, tests, outputs."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from scripts.contract.finding import Finding
from scripts.pipeline import images
from scripts.pipeline.images import BASE, DOCKERFILE, Image
from scripts.pipeline.stage import Pipeline
from scripts.pipeline.template import TEMPLATE
from scripts.project import Project

BLOCK = re.compile(r"""\bstage\(\s*["']([^"']+)["'].*?\)\s*[-+]?\}\}""", re.DOTALL)


class Block:
    """A block of the template: its line, and its text as it stands there."""

    def __init__(self, line: int, text: str) -> None:
        self.line, self.text = line, text

    def line_of(self, word: str) -> int:
        """Return the first line of the block that has a word; the block's own if none has."""
        before, found, _ = self.text.partition(word)
        return self.line + before.count("\n") if found else self.line


def blocks(template: str) -> dict[str, Block]:
    """Return the blocks of a template by stage, whatever its expressions mean."""
    code = re.sub(r"\{#.*?#\}", lambda comment: re.sub(r"[^\n]", " ", comment[0]), template, flags=re.DOTALL)
    return {found[1]: Block(code.count("\n", 0, found.start()) + 1, found[0]) for found in BLOCK.finditer(code)}


def check(
    project: Project, known: Mapping[str, Image], pipeline: Pipeline | None, written: Mapping[str, Block]
) -> Iterator[Finding]:
    """Check folders against blocks, and blocks against folders; `pipeline` is None without a template that renders."""
    listed = images.files(project.stages)
    with_block = {stage.block for stage in pipeline.stages.values()} if pipeline else written
    for name, image in known.items():
        if name != BASE:
            yield from _folder(project, name, image, listed[name], name in with_block)
    if pipeline:
        yield from _tests(pipeline, written, listed)
        yield from _outputs(project, pipeline, written)


def _folder(project: Project, name: str, image: Image, files: Sequence[str], has_block: bool) -> Iterator[Finding]:
    first = next((path for path in (f"{name}.py", DOCKERFILE, *image.sources) if path in files), files[0])
    own_image = (project.stages / name / DOCKERFILE).is_file()
    if f"{name}.py" not in image.sources and not own_image:
        what, why = f"the folder has no {name}.py", "the image of a stage without a Dockerfile of its own runs that"
        do = f"rename the program to {name}.py, or add a Dockerfile"
        yield Finding(f"stages/{name}/{first}", 1, "program", what, why, do)
    if not has_block:
        what, why = f'{TEMPLATE} has no block stage("{name}", ...)', "so no run ever runs this stage"
        yield Finding(f"stages/{name}/{first}", 1, "block", what, why, f"add it below 'stages:' in {TEMPLATE}")


def _tests(pipeline: Pipeline, written: Mapping[str, Block], listed: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    for name in dict.fromkeys(stage.block for stage in pipeline.stages.values()):
        if not any(map(images.is_test, listed.get(name, ()))):
            what, why = f"stages/{name} has no test", "'make test' then passes whatever the stage does"
            do = f"write stages/{name}/test_{name}.py, which 'make test-{name}' runs"
            yield Finding(TEMPLATE, _line(written, name), "test", what, why, do)


def _outputs(project: Project, pipeline: Pipeline, written: Mapping[str, Block]) -> Iterator[Finding]:
    paths = {path: stage.block for stage in pipeline.stages.values() for path in stage.written.values()}
    ignored = _git(project, "check-ignore", "-z", "--no-index", "--stdin", given=[*paths])
    for path, name in paths.items():
        line = written[name].line_of(path) if name in written else 1
        if tracked := _git(project, "ls-files", "-z", "--", f":(literal){path}"):
            what, why = f"git tracks {tracked[0]}, an output of {name}", "DVC refuses an output that git has as well"
            yield Finding(TEMPLATE, line, "output", what, why, f"call 'git rm -r --cached {path}'")
        if path not in ignored:
            what = f"git does not ignore {path}, an output of {name}"
            why = "until a run has ended well, 'git add' would take it for code"
            yield Finding(TEMPLATE, line, "output", what, why, _how_to_ignore(path))


def _how_to_ignore(path: str) -> str:
    folder = path.rpartition("/")[0]
    return f"add /{folder}/ to .gitignore, or call 'make run' and commit the {folder}/.gitignore that DVC writes then"


def _line(written: Mapping[str, Block], name: str) -> int:
    return written[name].line if name in written else 1


def _git(project: Project, *arguments: str, given: Sequence[str] = ()) -> list[str]:
    """Return the paths that git prints, each ended by a zero byte."""
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    text = "".join(f"{path}\0" for path in given)
    done = subprocess.run(command, cwd=project.root, input=text, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]
