"""The stage contract as a check: every folder of stages/, every block of the template, and params.yaml."""

import re
from collections.abc import Iterator, Mapping

from scripts.contract import folders, parameters, prediction, requirements, stability
from scripts.contract.finding import Finding, but_allowed
from scripts.contract.folders import Block
from scripts.contract.names import Program, Unreadable
from scripts.pipeline import images, template
from scripts.pipeline.images import BASE, Image
from scripts.pipeline.params import text_of
from scripts.pipeline.stage import Pipeline
from scripts.project import Project, UserError

RULES = {
    *stability.WHY,
    *("program", "block", "test", "requirements", "parameter", "comment", "output", "predict", "python", "template"),
}
CAN_REACH_OTHERS = re.compile(r"""["'](internet|mlflow)["']""")


def check(project: Project) -> list[Finding]:
    """Return what is found, in the order of files and lines. Raise UserError for what cannot be read at all."""
    known = images.load(project.stages)
    read = _Texts(project)
    found = [*_all(project, known, read)]
    texts = [(file, text) for name in known for file, text in _programs(name, known[name])]
    return sorted(but_allowed(found, texts, RULES, read))


class _Texts:
    """Reads files of the clone."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def __call__(self, file: str) -> str:
        path = self._project.root / file
        return path.read_text(errors="replace") if path.is_file() else ""


def _all(project: Project, known: Mapping[str, Image], read: _Texts) -> Iterator[Finding]:
    params = text_of(project.params)
    written = folders.blocks(text_of(project.root / template.TEMPLATE))
    pipeline: Pipeline | None = None
    try:
        pipeline = template.load(project.root, known)
    except UserError as error:
        yield _template(error)
    yield from folders.check(project, known, pipeline, written)
    yield from requirements.check(project.root)
    yield from parameters.comments(params)
    for name, image in known.items():
        yield from _of_programs(name, image, pipeline, written.get(name), params)


def _template(error: UserError) -> Finding:
    found = re.match(rf"{re.escape(template.TEMPLATE)}(?:, line (\d+))?: ", str(error))
    file, line = (template.TEMPLATE, int(found[1] or 1)) if found else (parameters.PARAMS, 1)
    what = " ".join(str(error)[found.end() if found else 0 :].split())
    why = "no run can begin, and without it blocks and parameters cannot be checked"
    return Finding(file, line, "template", what, why, "correct that first")


def _programs(name: str, image: Image) -> Iterator[tuple[str, str]]:
    """Yield the Python files of an image, with their texts."""
    for path, source in image.sources.items():
        if path.endswith(".py") and source.kind != "link":
            yield f"stages/{name}/{path}", source.data.decode(errors="replace")


def _of_programs(
    name: str, image: Image, pipeline: Pipeline | None, block: Block | None, params: str
) -> Iterator[Finding]:
    programs: dict[str, Program] = {}
    for file, _ in _programs(name, image):
        path = file.removeprefix(f"stages/{name}/")
        try:
            programs[file] = Program(image.sources[path].data)
        except Unreadable as why:
            what = f"it is no Python that can be read ({why})"
            yield Finding(file, why.line, "python", what, "the image could not be built", "correct it")
    stages = [stage for stage in pipeline.stages.values() if stage.block == name] if pipeline else []
    # A block may have a network only with some parameters: its text says whether it ever can.
    has_network = name == BASE or block is None or bool(CAN_REACH_OTHERS.search(block.text))
    for file, program in programs.items():
        for slip in stability.slips(program, has_network=has_network):
            why, do = stability.WHY[slip.rule]
            yield Finding(file, slip.node.lineno, slip.rule, slip.what, why, do, slip.node.end_lineno or 0)
    main = f"stages/{name}/{name}.py"
    if main in programs:
        beside = [program for file, program in programs.items() if file != main]
        line = block.line if block else 1
        found = [
            each for stage in stages for each in parameters.check(stage, main, programs[main], beside, params, line)
        ]
        yield from dict.fromkeys(found)  # of a foreach, what its stages have in common is said once
    if pipeline:
        yield from prediction.check(name, programs, pipeline)
