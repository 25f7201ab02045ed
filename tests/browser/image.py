"""Builds the images of browsers that look at pages."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conftest import Clone


@contextmanager
def browser_image(clone: Clone, folder: Path = Path(__file__).parent, **given: str) -> Iterator[str]:
    """Build the image of a folder, with these arguments of its Dockerfile; give its name, delete it in the end."""
    name = f"stages/clone-{clone.label.partition('=')[2]}:test-{folder.name}"
    command = ["docker", "buildx", "build", "--quiet", "--pull=false", "--tag", name]
    for argument, value in {"PYTHON_IMAGE": os.environ["PYTHON_IMAGE"], **given}.items():
        command += ["--build-arg", f"{argument}={value}"]
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        command += ["--build-arg", variable]
    with TemporaryDirectory() as temporary:
        pip = Path(temporary, "pip.conf")
        index = os.environ.get("PIP_INDEX_URL")
        pip.write_text(f"[global]\nindex-url = {index}\n" if index else "")
        subprocess.run([*command, "--secret", f"id=pip.conf,src={pip}", str(folder)], check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "image", "rm", name], check=True, capture_output=True)
