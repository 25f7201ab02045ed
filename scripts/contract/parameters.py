"""What a program says of its arguments, against what its block and its section of params.yaml give it."""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scripts.contract.finding import Finding
from scripts.contract.names import Program, last_name
from scripts.pipeline.stage import Stage

KIT = "stagekit.Args"
PARAMS = "params.yaml"
WHOLE = {"model_dump", "model_dump_json", "dict", "vars", "asdict"}
"""What hands on all arguments at once, so that nothing can be said of one."""


class Key(NamedTuple):
    """A value of params.yaml below a section: `says` is whether a comment explains it."""

    section: str
    name: str
    line: int
    says: bool


def keys(text: str) -> Iterator[Key]:
    """Yield the keys of each section of params.yaml's text, as long as each has a line of its own."""
    section, above = "", False
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"(\w[\w-]*):", line):
            section = match[1]
        elif match := re.match(r"  (\w[\w-]*):(.*)", line):
            yield Key(section, match[1], number, above or bool(re.search(r"\s#\s*\S", match[2])))
        above = re.match(r"\s+#\s*\S", line) is not None


def comments(text: str) -> Iterator[Finding]:
    """Find the parameters that no comment explains, beside them or right above."""
    for each in keys(text):
        if not each.says:
            what, why = f"{each.section}.{each.name} has no comment", "whoever changes it cannot know its unit or range"
            yield Finding(PARAMS, each.line, "comment", what, why, "write both beside it, after a #")


class _Field(NamedTuple):
    node: ast.AnnAssign
    is_required: bool


def check(
    stage: Stage, file: str, program: Program, beside: Iterable[Program], text: str, block_line: int
) -> Iterator[Finding]:
    """Check the arguments of a stage's program; `beside` are the other programs of its folder, `text` is params.yaml.

    Nothing is found where it cannot be told: without one class of arguments that is made of the kit's alone.
    """
    declared = _declared(program)
    if declared is None:
        return
    lines = {each.name: each.line for each in keys(text) if each.section == stage.block}
    files, section = {**stage.inputs, **stage.written}, stage.section or {}
    fields = dict(_fields(declared))
    for name in [*files, *section]:
        if name not in fields:
            where = (PARAMS, lines[name]) if name in lines else ("dvc.yaml.template", block_line)
            what, why = f"{stage.block}.{name} is no field of {declared.name}", "the stage would refuse to start"
            yield Finding(*where, "parameter", what, why, f"add the field in {file}, or take it away here")
    for name, field in fields.items():
        if field.is_required and name not in files and name not in section:
            what = f"{declared.name}.{name} is required, and neither the block nor params.yaml gives it"
            do = f"add {stage.block}.{name} to params.yaml, or the file to the block, or take the field away"
            yield Finding(file, field.node.lineno, "parameter", what, "the stage would refuse to start", do)
    for name in sorted({*files, *section} & {*fields} - _read([program, *beside], declared)):
        what, why = f"{declared.name}.{name} is never read", "a change of it reruns the stage and changes nothing"
        do = "use it, or take it away here and where it is given"
        yield Finding(file, fields[name].node.lineno, "parameter", what, why, do)


def _declared(program: Program) -> ast.ClassDef | None:
    """Return the program's one class of arguments; None if there is none, or several, or one that is made of others,
    or that names its arguments otherwise than its fields."""
    classes = [node for node in program.nodes if isinstance(node, ast.ClassDef)]
    bases = {last_name(base) for node in classes for base in node.bases}
    found = [node for node in classes if any(program.full_name(base) == KIT for base in node.bases)]
    if len(found) != 1 or len(found[0].bases) != 1 or found[0].name in bases:
        return None
    words = [node.arg or "" for node in ast.walk(found[0]) if isinstance(node, ast.keyword)]
    return None if any("alias" in word for word in words) else found[0]


def _fields(declared: ast.ClassDef) -> Iterator[tuple[str, _Field]]:
    for node in declared.body:
        name = last_name(node.target) if isinstance(node, ast.AnnAssign) else "_"
        if not name.startswith("_") and last_name(node.annotation) != "ClassVar":
            yield name, _Field(node, _is_required(node))


def _is_required(node: ast.AnnAssign) -> bool:
    """Return whether a field has no default: neither a value nor one in a `Field(...)`."""
    inside = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    if any(keyword.arg in ("default", "default_factory") for call in inside for keyword in call.keywords):
        return False
    if isinstance(node.value, ast.Call) and last_name(node.value.func) == "Field":
        first = node.value.args[:1]
        return not first or (isinstance(first[0], ast.Constant) and first[0].value is ...)
    return node.value is None


def _read(programs: Iterable[Program], declared: ast.ClassDef) -> set[str]:
    """Return the names that some program reads as an attribute, as a text or as a keyword; all fields if one hands on
    all of them."""
    found: set[str] = set()
    for program in programs:
        for node in program.nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.Call) and _hands_on_all(node):
                found |= {name for name, _ in _fields(declared)}
    return found


def _hands_on_all(call: ast.Call) -> bool:
    return last_name(call.func) in WHOLE and not any(keyword.arg == "include" for keyword in call.keywords)
