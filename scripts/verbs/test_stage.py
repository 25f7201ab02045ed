"""`make test-<stage>`: a stage's own tests, in the stage's own image with pytest added.

Without a name, the tests of the base and of all stages.
"""

import json
import os
import subprocess
from pathlib import Path

from scripts.pipeline import build, images, template
from scripts.pipeline.images import BASE, Image
from scripts.pipeline.stage import Pipeline
from scripts.project import PROJECT, UserError, words

TESTS = PROJECT.stages / BASE / "tests"
HERE, CONTRACT = "/opt/tests", "contract.py"
"""Where a container finds the folder TESTS, and the test that each stage must pass."""


def main(arguments: list[str]) -> int:
    """Run the tests of the stage that is named first, with the other arguments for pytest; return the exit code."""
    known = images.load()
    pipeline = template.load(images=known)
    names, options = arguments[:1] or list(known), words(arguments[1:])
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no folder stages/{unknown[0]}; expected one of {', '.join(known)}: correct the name")
    build.ensure({name: known[name] for name in dict.fromkeys([BASE, *names])})
    return max(_test(known[name], pipeline, options) for name in names)


def _test(image: Image, pipeline: Pipeline, options: list[str]) -> int:
    folder = PROJECT.stages / image.name
    print(f"--- stages/{image.name}", flush=True)
    if not any(True for pattern in ("test_*.py", "*_test.py") for _ in folder.rglob(pattern)):
        print(f"stages/{image.name} has no tests; expected test_{image.name}.py, or another file test_*.py", flush=True)
        return 0
    if not build.has_python(image):
        print(f"the image of stages/{image.name} has no Python, so its tests cannot run in it", flush=True)
        return 0
    with_pytest = images.on_top(image, "tests", TESTS, (images.DOCKERFILE, "requirements.txt"))
    if with_pytest.tag not in build.on_this_machine():
        build.build(with_pytest, image)
    return _run(image, with_pytest.tag, pipeline, options)


def _run(image: Image, tag: str, pipeline: Pipeline, options: list[str]) -> int:
    """Run pytest in a container that can do no more than a stage's, and sees the folder with its tests as /app."""
    container = f"pipeline-{os.environ['CLONE']}-test-{image.name}-{os.getpid()}"
    command = ["docker", "run", "--rm", "--init", "--pull", "never", "--name", container]
    command += ["--label", f"pipeline.clone={os.environ['CLONE']}", "--label", "pipeline.role=test"]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--read-only", "--tmpfs", "/tmp", "--network", "none"]
    command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    command += ["--env", "HOME=/tmp", "--env", f"STAGE={image.name}"]
    command += ["--env", f"STAGE_ARGUMENTS={_arguments(image.name, pipeline)}"]
    command += [*_mount(PROJECT.stages / image.name, "/app"), *_mount(TESTS, HERE), tag]
    command += ["--config-file", f"{HERE}/pytest.ini", "--rootdir", "/app", *options, "/app"]
    command += [] if image.name == BASE else [f"{HERE}/{CONTRACT}"]
    try:
        return subprocess.run(command).returncode
    except BaseException:  # the client is gone, its container is not
        subprocess.run(["docker", "container", "rm", "--force", container], capture_output=True)
        raise


def _arguments(name: str, pipeline: Pipeline) -> str:
    """Return the names of a stage's arguments, as contract.py of the base's tests expects them."""
    stage = next((stage for stage in pipeline.stages.values() if stage.block == name), None)
    if stage is None:
        return "null"
    return json.dumps({"files": [*stage.inputs, *stage.written], "section": list(stage.section or {})})


def _mount(source: Path, target: str) -> list[str]:
    return ["--mount", f"type=bind,src={source},dst={target},readonly"]
