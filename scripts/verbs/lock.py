"""Resolves each requirements.in into requirements.txt: exact versions with hashes.

The runner's and the stages' do not depend on each other. Those of stages agree with the base's, from which their images
start, and with what their tests need.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.project import PROJECT

NAME = "requirements.in"


def main(arguments: list[str]) -> int:
    for source, constraints in locks(PROJECT.root):
        target = source.with_suffix(".txt")
        command = ["uv", "pip", "compile", "--quiet", "--no-emit-index-url", "--generate-hashes"]
        command += ["--python", sys.executable, "--custom-compile-command", "make lock", *arguments]
        for path in constraints:
            command += ["--constraint", str(path)]
        print(f"{target} ...", flush=True)
        if code := subprocess.run([*command, str(source), "--output-file", str(target)], cwd=PROJECT.root).returncode:
            return code
    return 0


def locks(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Give each requirements.in below `root`, in the order of resolving, with the locks that it must agree with."""
    runner, base = Path("scripts", NAME), Path("stages", "base", NAME)
    with_tests = base.parent / "tests" / NAME
    found = [path.relative_to(root) for room in ("stages", "tests") for path in sorted(root.glob(f"{room}/*/{NAME}"))]
    yield runner, []
    yield base, []
    yield with_tests, [base.with_suffix(".txt")]
    for source in found:
        if source != base:
            own = [base, with_tests] if source.parts[0] == "stages" else [runner]
            yield source, [path.with_suffix(".txt") for path in own]
