"""Runs the machinery's tests on a copy of the working tree, so that nothing that a test does touches the tree itself.

Arguments are pytest's, or T=... with several. The stages' own tests: see test_stage.
"""

import subprocess
import sys

from scripts import copies
from scripts.project import LOCAL, words

OUTPUT = LOCAL / "test-output"
"""What tests leave for people to look at: screenshots of MLflow's pages."""


def main(arguments: list[str]) -> int:
    with copies.working_tree("test") as source:
        OUTPUT.mkdir(exist_ok=True)
        # Three files at a time, also on two cores: the tests wait for containers more than they compute.
        command = [sys.executable, "-m", "pytest", "--numprocesses", "3", "--dist", "loadfile", *words(arguments)]
        environ = copies.clean_environment() | {"TEST_OUTPUT": str(OUTPUT)}
        return subprocess.run(command, cwd=source, env=environ).returncode
