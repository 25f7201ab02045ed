"""Resolves each requirements.in into requirements.txt: exact versions with hashes.

The runner's and the stages' do not depend on each other. Those of stages agree with the base's, from which their images
start, and with what their tests need.
"""

import subprocess
import sys

from scripts.contract.requirements import locks
from scripts.project import PROJECT

EXCLUDES = "excludes.txt"
"""Beside a requirements.in: packages that others ask for, and that are not to be installed."""


def main(arguments: list[str]) -> int:
    for source, constraints in locks(PROJECT.root):
        target = source.with_suffix(".txt")
        command = ["uv", "pip", "compile", "--quiet", "--no-emit-index-url", "--generate-hashes"]
        command += ["--python", sys.executable, "--custom-compile-command", "make lock", *arguments]
        for path in constraints:
            command += ["--constraint", str(path)]
        if (PROJECT.root / source).with_name(EXCLUDES).exists():
            command += ["--excludes", str(source.with_name(EXCLUDES))]
        print(f"{target} ...", flush=True)
        if code := subprocess.run([*command, str(source), "--output-file", str(target)], cwd=PROJECT.root).returncode:
            return code
    return 0
