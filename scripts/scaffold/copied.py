"""A new stage that is a copy of another one, under a name and with an output folder of its own."""

import ast
import io
import json
import re
import subprocess
import tokenize
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from scripts.pipeline.images import DOCKERFILE, Source, files_of
from scripts.pipeline.stage import Files, Stage
from scripts.project import UserError
from scripts.scaffold import text
from scripts.scaffold.stage import IMAGE, NewStage, formatted, is_importable


def copy_of(like: Stage, name: str, after: Stage, folder: str, root: Path, params: str) -> NewStage:
    """Return a copy of the stage `like`. What it reads it reads from `after`, if that writes a file of the same name.

    `params` is the text of params.yaml. Raise UserError for a program that cannot be copied.
    """
    there = _by_name(after.written.values())
    by_name = {path: there.get(name, path) for name, path in _by_name(like.inputs.values()).items()}
    inputs = {argument: by_name.get(path, path) for argument, path in like.inputs.items()}

    def moved(files: Files) -> Files:
        return {key: f"{folder}/{PurePosixPath(path).relative_to(like.folder)}" for key, path in files.items()}

    stage = replace(
        like, name=name, image=IMAGE, inputs=inputs, outputs=moved(like.outputs), metrics=moved(like.metrics),
        plots=moved(like.plots),
    )  # fmt: skip
    files = files_of(like.name, root / "stages")
    # A Dockerfile of its own names the files as they are called.
    if DOCKERFILE not in files:
        modules = {PurePosixPath(path).stem for path in files if path.endswith(".py")} | {name}
        files = {
            _renamed(path, like.name, name): _adapted(source, path, like, name, modules, root)
            for path, source in files.items()
        }
    return NewStage(stage, files, text.section_of(params, like.name, name))


def _by_name(paths: Iterable[str]) -> dict[str, str]:
    """Return paths by the names of their files, without those whose name another one has."""
    names = {path: PurePosixPath(path).name for path in paths}
    return {name: path for path, name in names.items() if list(names.values()).count(name) == 1}


def _renamed(path: str, old: str, new: str) -> str:
    folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
    names = {f"{old}.py": f"{new}.py", f"test_{old}.py": f"test_{new}.py", f"{old}_test.py": f"{new}_test.py"}
    return str(folder / names.get(name, name))


def _adapted(source: Source, path: str, like: Stage, name: str, modules: Iterable[str], root: Path) -> Source:
    """Return a file of `like` as that of the stage `name`: Python code imports the program by its new name."""
    if not path.endswith(".py") or source.kind == "link":
        return source
    try:
        code = source.data.decode()
        new = sections_renamed(imports_renamed(code, like.name, name), like.name, name, like.section or {})
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError) as error:
        raise UserError(
            f"stages/{like.name}/{path} is no Python ({' '.join(str(error).split())}); expected a program that can be "
            "copied: correct it; nothing was changed"
        ) from None
    except _CannotImport as error:
        raise UserError(
            f"stages/{like.name}/{path} has '{error}', which cannot import a program called {name}; expected a name "
            "that is one of Python's, too: choose one of letters, digits and _; nothing was changed"
        ) from None
    if new != code:
        new = _sorted(new, f"stages/{name}/{_renamed(path, like.name, name)}", modules, root)
    if "import importlib" in new and "import importlib" not in code:
        new = formatted(new, path)
    return source._replace(data=new.encode())


class _CannotImport(Exception):
    """An import that has no like for a module whose name is no name of Python's."""


def imports_renamed(code: str, old: str, new: str) -> str:
    """Return Python code that imports the module `new` where it imported `old`, under the same names as before.

    Raise _CannotImport for one that imports more than `old`, or everything of it, if `new` is no name of Python's.
    """
    by_statement = is_importable(new)
    edits, last, moved, needs_importlib = [], 0, [], False
    tree = ast.parse(code)
    for node in ast.walk(tree):
        at_top = node in tree.body
        if at_top and isinstance(node, ast.Import | ast.ImportFrom):
            last = max(last, node.end_lineno or 0)
        is_from = isinstance(node, ast.ImportFrom) and node.module == old and not node.level
        if name := _named_in_a_call(node, old):
            edits.append((name, json.dumps(new)))
        elif is_from and by_statement:
            statement = ast.get_source_segment(code, node) or ""
            edits.append((node, re.sub(rf"^from\s+{re.escape(old)}\b", f"from {new}", statement)))
        elif isinstance(node, ast.Import) and by_statement:
            for alias in node.names:
                if alias.name == old:
                    edits.append((alias, f"{new} as {alias.asname or old}"))
        elif is_from or (isinstance(node, ast.Import) and any(alias.name == old for alias in node.names)):
            assigned = _assigned(node, new)
            if not at_top and len(assigned) > 1:
                raise _CannotImport(ast.unparse(node))
            # At the top, below the other imports; as many lines stay as there were.
            edits.append((node, "\n" * ((node.end_lineno or 0) - node.lineno) if at_top else assigned[0]))
            moved += assigned if at_top else []
            needs_importlib = True
    edited = _edited(code, edits)
    if not needs_importlib:
        return edited
    lines = edited.split("\n")
    lines[last:last] = ["", *moved] if moved else []
    return _with_importlib("\n".join(lines))


def _named_in_a_call(node: ast.AST, module: str) -> ast.AST | None:
    """Return where a call like import_module("module") names it, if a node is one."""
    if not isinstance(node, ast.Call) or not node.args or not ast.unparse(node.func).endswith("import_module"):
        return None
    name = node.args[0]
    return name if isinstance(name, ast.Constant) and name.value == module else None


def _assigned(node: ast.Import | ast.ImportFrom, new: str) -> list[str]:
    """Return the statements that do as an import does, for a module that no import can name."""
    module = f"importlib.import_module({json.dumps(new)})"
    if (len(node.names) > 1 and isinstance(node, ast.Import)) or node.names[0].name == "*":
        raise _CannotImport(ast.unparse(node))
    if isinstance(node, ast.Import):
        return [f"{node.names[0].asname or node.names[0].name} = {module}"]
    return [f"{alias.asname or alias.name} = {module}.{alias.name}" for alias in node.names]


def _with_importlib(code: str) -> str:
    """Return code that imports importlib, after its docstring and what it imports from the future."""
    body = ast.parse(code).body
    head = [
        node
        for number, node in enumerate(body)
        if (number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]
    lines = code.split("\n")
    lines.insert(head[-1].end_lineno if head else 0, "import importlib")
    return "\n".join(lines)


def _edited(code: str, edits: Iterable[tuple[ast.AST, str]]) -> str:
    """Return code with other texts in place of nodes; their columns count the bytes of UTF-8."""
    lines = code.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    data = b"".join(lines)
    places = [
        (starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset, new)
        for node, new in edits
    ]
    for start, end, new in sorted(places, reverse=True):
        data = data[:start] + new.encode() + data[end:]
    return data.decode()


def sections_renamed(code: str, old: str, new: str, keys: Iterable[str]) -> str:
    """Return Python code whose texts name a parameter `new.key` where they named it `old.key`: what a message says."""
    names = "|".join(map(re.escape, keys))
    named = re.compile(rf"(?<![\w.-]){re.escape(old)}(?=\.({names})\b)")
    if not names or not named.search(code):
        return code
    lines = io.StringIO(code, newline="").readlines()
    texts = {tokenize.STRING, tokenize.FSTRING_MIDDLE}
    tokens = [token for token in tokenize.generate_tokens(iter(lines).__next__) if token.type in texts]
    for token in reversed(tokens):
        (first, start), (last, end) = token.start, token.end
        for row in range(last, first - 1, -1):
            line = lines[row - 1]
            left, right = start if row == first else 0, end if row == last else len(line)
            lines[row - 1] = line[:left] + named.sub(new, line[left:right]) + line[right:]
    return "".join(lines)


def _sorted(code: str, path: str, modules: Iterable[str], root: Path) -> str:
    """Return code with its imports in the order that `make lint` wants. `modules` are those beside it."""
    own = f"lint.isort.known-first-party={json.dumps(sorted(modules))}"
    command = ["ruff", "check", "--quiet", "--fix", "--exit-zero", "--select", "I", "--config", own]
    done = subprocess.run(
        [*command, "--stdin-filename", path, "-"], input=code, capture_output=True, text=True, cwd=root
    )
    return code if done.returncode else done.stdout  # with settings of ruff's that it refuses, 'make lint' says so
