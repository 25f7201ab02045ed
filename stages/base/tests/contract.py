"""What a stage's program owes to its block of dvc.yaml.template and its section of params.yaml.

It runs in the image of each stage, beside the stage's own tests. STAGE_ARGUMENTS is what the stage is called with, as
JSON: {"files": [argument, ...], "section": [key, ...]}, or null if no block names the stage.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STAGE = os.environ["STAGE"]
GIVEN = json.loads(os.environ["STAGE_ARGUMENTS"])
stagekit = pytest.importorskip("stagekit", reason="the image does not start from the base")
if not Path(f"/app/{STAGE}.py").is_file():
    pytest.skip(f"the folder has no {STAGE}.py", allow_module_level=True)


def test_the_program_can_be_imported_without_running():
    """Importing a stage's program prints nothing and ends well, so that its tests can import it."""
    command = [sys.executable, "-c", f"import importlib; importlib.import_module({STAGE!r})"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, ""), f"{STAGE}.py lacks an 'if __name__ == \"__main__\"'"


@pytest.mark.skipif(GIVEN is None, reason="no block of dvc.yaml.template names the stage")
def test_arguments_match_block_and_section():
    """The program has one subclass of Args, with a field for each argument and none that is required beyond those."""
    declared = [
        value
        for value in vars(importlib.import_module(STAGE)).values()
        if isinstance(value, type) and issubclass(value, stagekit.Args) and value is not stagekit.Args
    ]
    assert len(declared) == 1, f"{STAGE}.py has {declared}; expected one subclass of stagekit.Args"
    fields, given = declared[0].model_fields, {*GIVEN["files"], *GIVEN["section"]}
    unknown = sorted(given - set(fields))
    missing = sorted(name for name, field in fields.items() if field.is_required() and name not in given)
    assert not unknown and not missing, (
        f"{STAGE}.py has no fields for {unknown} of dvc.yaml.template or params.yaml, which do not give {missing}"
    )
