"""Stages are renamed and deleted: nothing but the template and params.yaml names them."""

import re
from collections.abc import Callable

import pytest

from tests.conftest import Clone, Make, stages_line

pytestmark = pytest.mark.docker

VERBS = ("doctor", "run", "models", "lineage", "reproduce")


@pytest.fixture(scope="module")
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    return clone_at("other stages")


def assert_all_works(done: Make) -> None:
    """Check what VERBS printed."""
    assert "a run would work" in done.stdout
    assert re.search(r"^model +iris-classifier version \d+, published now: accuracy 0\.\d{4}$", done.stdout, re.M)
    assert re.search(r"^model: iris-classifier$", done.stdout, re.M)
    assert re.search(r"^file +model/model\.json, SHA-256\n +\w{64}$", done.stdout, re.M)
    assert re.search(r"^version \d+ of iris-classifier: identical", done.stdout, re.M)


def test_a_stage_is_renamed(clone: Clone) -> None:
    """After `git mv stages/train stages/fit`, and the new name in template and params.yaml, everything works."""
    clone.git("mv", "stages/train", "stages/fit")
    clone.git("mv", "stages/fit/train.py", "stages/fit/fit.py")
    clone.git("mv", "stages/fit/test_train.py", "stages/fit/test_fit.py")
    clone.edit("stages/fit/test_fit.py", "import train", "import fit as train")
    clone.edit("dvc.yaml.template", 'stage("train"', 'stage("fit"')
    clone.edit("dvc.yaml.template", "stages/train/loader.py", "stages/fit/loader.py")
    clone.edit("params.yaml", "\ntrain:\n", "\nfit:\n")
    done = clone.make(*VERBS)
    assert stages_line(done) == "ran ingest, preprocess, fit, evaluate"
    assert_all_works(done)
    assert re.search(r"^fit +stages/fit:\w+$", done.stdout, re.M)


@pytest.mark.deep
def test_a_stage_is_deleted(clone: Clone) -> None:
    """Without stages/ingest, and with a file of the user's below data/external/ in its place, everything works."""
    external = clone.path / "data" / "external" / "flowers.csv"
    external.parent.mkdir(parents=True)
    flowers = (clone.path / "stages" / "ingest" / "iris.csv").read_text().splitlines(keepends=True)
    external.write_text("".join(flowers[:-10]))
    clone.git("rm", "-r", "--quiet", "stages/ingest")
    replace(clone, "dvc.yaml.template", r"\{%- set source.*?(?=stages:)", "")
    replace(clone, "dvc.yaml.template", r'\{\{ stage\("ingest".*?\}\}\n(?=\{\{ stage)', "")
    clone.edit("dvc.yaml.template", '"data/raw/iris.csv"', '"data/external/flowers.csv"')
    replace(clone, "params.yaml", r"\ningest:.*?(?=\n\n)", "")
    clone.git("commit", "--quiet", "--all", "--message", "data of our own, which git does not have")
    done = clone.make(*VERBS, "VERSION=2")
    assert stages_line(done) == "ran preprocess, fit, evaluate"
    assert_all_works(done)
    assert re.search(r"^data/external/flowers\.csv +given ", done.stdout, re.M)


def replace(clone: Clone, name: str, pattern: str, new: str) -> None:
    """Replace the one match of `pattern` in a file."""
    text, count = re.subn(pattern, new, (clone.path / name).read_text(), flags=re.DOTALL)
    assert count == 1, f"{name} has {count} of {pattern}"
    (clone.path / name).write_text(text)
