"""Resolves each requirements.in into requirements.txt: exact versions with hashes, the same in every image."""

import subprocess
import sys

from scripts.project import ROOT

RUNNER = ROOT / "scripts" / "requirements.txt"


def main(arguments: list[str]) -> int:
    # The runner's first: the tests run the stages' code there, so the images get the versions that were tested.
    for source in [
        RUNNER.with_suffix(".in"),
        *sorted([*ROOT.glob("stages/*/requirements.in"), *ROOT.glob("tests/*/requirements.in")]),
    ]:
        target = source.with_suffix(".txt")
        command = ["uv", "pip", "compile", "--quiet", "--no-emit-index-url", "--generate-hashes"]
        command += ["--python", sys.executable, "--custom-compile-command", "make lock", *arguments]
        if target != RUNNER:
            command += ["--constraint", str(RUNNER.relative_to(ROOT))]
        command += [str(source.relative_to(ROOT)), "--output-file", str(target.relative_to(ROOT))]
        print(f"{target.relative_to(ROOT)} ...", flush=True)
        if code := subprocess.run(command).returncode:
            return code
    return 0
