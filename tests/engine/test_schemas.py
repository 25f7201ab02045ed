"""The files that GitHub, GitLab and Compose read are what their schemas say."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.project import ROOT
from tests.browser.image import browser_image
from tests.conftest import Clone

pytestmark = [pytest.mark.docker, pytest.mark.deep]  # its image is made for it

GITLAB = ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", "--default-filetype", "yaml")
SCHEMAS = {
    ".github/workflows/ci.yml": ("--builtin-schema", "vendor.github-workflows"),
    ".gitlab-ci.yml.example": GITLAB,
    "docker-compose.yml": ("--builtin-schema", "vendor.compose-spec"),
}
WRONG = {
    ".github/workflows/ci.yml": ("runs-on:", "run-on:"),
    ".gitlab-ci.yml.example": ("  script:", "  scripts:"),
    "docker-compose.yml": ("mem_limit:", "memory_limit:"),
}


@pytest.fixture(scope="module")
def checker() -> Iterator[str]:
    """Build the image of check-jsonschema; delete it after the tests."""
    with browser_image(Clone(ROOT), ROOT / "tests" / "schemas") as name:
        yield name


def check(checker: str, file: Path, options: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = ["docker", "run", "--rm", "--network", "none", "--label", Clone(ROOT).label]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={file},dst={file},readonly"]
    return subprocess.run([*command, checker, *options, str(file)], capture_output=True, text=True)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_is_what_its_reader_expects(checker: str, name: str) -> None:
    """It is valid by the published schema, which finds a wrong word in it."""
    done = check(checker, ROOT / name, SCHEMAS[name])
    assert done.returncode == 0, done.stdout + done.stderr
    right, wrong = WRONG[name]
    text = (ROOT / name).read_text()
    assert right in text
    spoilt = Path(os.environ["TEST_OUTPUT"], name).with_name(f"spoilt-{Path(name).name}")
    spoilt.parent.mkdir(parents=True, exist_ok=True)
    spoilt.write_text(text.replace(right, wrong))
    assert check(checker, spoilt, SCHEMAS[name]).returncode == 1


def test_no_workflow_is_forgotten() -> None:
    """Each workflow of GitHub's is checked."""
    assert [path for path in ROOT.glob(".github/workflows/*") if str(path.relative_to(ROOT)) not in SCHEMAS] == []
