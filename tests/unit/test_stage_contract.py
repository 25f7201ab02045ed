"""What each folder of stages/ owes, as far as it can be seen without importing it: the rest is tested in its image."""

import re

import pytest

from scripts.pipeline import images, template
from scripts.pipeline.images import BASE
from scripts.pipeline.params import read_params
from scripts.project import PROJECT, ROOT
from scripts.verbs import lock

STAGES = PROJECT.stages
NAMES = images.stage_names()
LOCKS = [(source, agreed) for source, agreed in lock.locks(ROOT) if source.parts[0] == "stages"]


def pins(path):
    """Return the pinned lines of a requirements.txt, whole, by package; without the file, none."""
    if not path.exists():
        return {}
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    return {re.split(r"[=\[;@<>~! ]", line)[0].lower(): line for line in lines if re.match(r"\w", line)}


def version(line):
    found = re.match(r"\S+==(\S+)", line)
    return found and found[1]


@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_has_a_program(stage):
    """A stage's folder holds <stage>.py, which the base's shape runs, or a Dockerfile of its own."""
    files = images.load()[stage].sources
    own = (STAGES / stage / images.DOCKERFILE).is_file()
    assert own or f"{stage}.py" in files, f"stages/{stage} has no {stage}.py; expected it, or a Dockerfile of its own"


@pytest.mark.parametrize("stage", [BASE, *NAMES])
def test_every_package_is_pinned_with_a_hash(stage):
    """What is installed into an image is known to the byte."""
    for package, line in pins(STAGES / stage / "requirements.txt").items():
        assert version(line), f"stages/{stage}/requirements.txt lacks the version of {package}: run 'make lock'"
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), (
            f"stages/{stage}/requirements.txt lacks a hash of {package}: run 'make lock'"
        )


@pytest.mark.parametrize(("source", "agreed"), LOCKS, ids=[str(source.parent) for source, _ in LOCKS])
def test_a_stage_agrees_with_the_base(source, agreed):
    """A package that is in the base's image, too, or that tests need, has the same version in a stage's."""
    for package, line in pins(ROOT / source.with_suffix(".txt")).items():
        for other in agreed:
            own, theirs = version(line), version(pins(ROOT / other).get(package, line))
            assert own == theirs, f"{source.parent} has {package} {own}, {other} has {theirs}: run 'make lock'"


@pytest.mark.parametrize("source", [source for source, _ in LOCKS], ids=lambda source: str(source.parent))
def test_what_a_stage_asks_for_is_pinned(source):
    """Each package of a requirements.in is in the requirements.txt beside it."""
    pinned = pins(ROOT / source.with_suffix(".txt"))
    for package in pins(ROOT / source):
        assert package.replace("_", "-") in pinned, f"{source.with_suffix('.txt')} lacks {package}: run 'make lock'"


def test_template_and_folders_agree():
    """Every stage of the template has a folder, and every folder a block."""
    blocks = template.load().stages
    for stage in NAMES:
        assert stage in blocks, f"{template.TEMPLATE} has no block for stages/{stage}: add it, or delete the folder"


def uncommented(text):
    """Return the keys of the sections in params.yaml's text that no comment explains, beside them or right above."""
    found, section, above = [], "", False
    for line in text.splitlines():
        if match := re.match(r"(\w[\w-]*):", line):
            section = match[1]
        elif (match := re.match(r"  (\w[\w-]*):(.*)", line)) and not (above or re.search(r"\s#\s*\S", match[2])):
            found.append(f"{section}.{match[1]}")
        above = re.match(r"\s+#\s*\S", line) is not None
    return found


def test_every_parameter_says_what_it_means():
    """Each key of params.yaml has a comment with its unit or range."""
    assert read_params()
    assert uncommented((ROOT / "params.yaml").read_text()) == [], "params.yaml lacks a comment for these keys"


def test_a_parameter_without_a_comment_is_found():
    """The check above finds a key without a comment among those with one."""
    text = "one:\n  # share\n  a: 1\n  b: 2 # trees\n  c: 3\n  d: x#y\ntwo:\n  e: 5\n"
    assert uncommented(text) == ["one.c", "one.d", "two.e"]


@pytest.mark.parametrize(("file", "most"), [("stages/base/stagekit.py", 150), ("Makefile", 190)])
def test_what_all_must_read_is_short(file, most):
    """The stage kit and the Makefile stay short enough to be read as a whole."""
    lines = len((ROOT / file).read_text().splitlines())
    assert lines <= most, f"{file} has {lines} lines; expected {most} at most"
