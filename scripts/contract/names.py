"""What the names of a Python program mean, as far as its imports say it; the program itself is never imported."""

import ast
from collections.abc import Iterator

LARGEST = 1_000_000
"""Bytes of a program; a longer one is data."""


class Unreadable(Exception):
    """The text is no Python that can be read; the argument says why, `line` where."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


class Program:
    """A program as a tree; `parents` leads from each node to the one around it."""

    def __init__(self, data: bytes) -> None:
        self.tree = _parsed(data)
        self.nodes = list(ast.walk(self.tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self._imported = dict(_imported(self.nodes))
        self._bound = set(_bound(self.nodes))

    def full_name(self, node: ast.AST) -> str:
        """Return what an expression names, as `numpy.random.default_rng`; empty if its imports do not say."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._imported:
            return ""
        return ".".join([self._imported[node.id], *reversed(parts)])

    def is_builtin(self, node: ast.AST, name: str) -> bool:
        """Return whether an expression is Python's own function of that name."""
        return isinstance(node, ast.Name) and node.id == name and name not in self._bound | {*self._imported}

    def imports(self) -> Iterator[tuple[str, ast.stmt]]:
        """Yield the modules that are imported, and where."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Yield each call, with the full name of what is called."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                yield node, self.full_name(node.func)

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes around one, the nearest first."""
        while node in self.parents:
            node = self.parents[node]
            yield node


def last_name(node: ast.AST | None) -> str:
    """Return the last part of what an expression names: `Field` of `pydantic.Field`, `ClassVar` of `ClassVar[int]`."""
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _parsed(data: bytes) -> ast.Module:
    if len(data) > LARGEST:
        raise Unreadable(f"it has more than {LARGEST} bytes", 1)
    try:
        return ast.parse(data)
    except SyntaxError as error:
        raise Unreadable(error.msg, error.lineno or 1) from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; an expression that is too deep
        raise Unreadable(str(error) or "it is too deep", 1) from None


def _imported(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` binds a, `import a.b as c` binds a.b
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _bound(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
