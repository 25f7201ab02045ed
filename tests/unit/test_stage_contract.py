"""What each folder of stages/ owes: files, pinned packages, an image of its own, and arguments that match its block."""

import importlib
import re

import jinja2
import pytest

import stagekit
from scripts.pipeline import images, template
from scripts.project import ROOT

STAGES = images.stage_names()
PARAMS = template.read_params()
FILES = ["Dockerfile", "requirements.in", "requirements.txt", "{stage}.py", "test_{stage}.py"]


def template_blocks():
    """The blocks of the template by stage: what `stage(...)` is called with."""
    blocks = {}

    def stage(name, **block):
        blocks[name] = block
        return ""

    text = (ROOT / template.TEMPLATE).read_text()
    jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(params=PARAMS, stage=stage)
    return blocks


def pins(path):
    """The pinned lines of a requirements.txt, whole, by package."""
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    return {re.split(r"[=\[; ]", line)[0]: line for line in lines if re.match(r"\w", line)}


def version(line):
    found = re.match(r"\S+==(\S+)", line)
    return found and found[1]


BLOCKS = template_blocks()
RUNNER = pins(ROOT / "scripts" / "requirements.txt")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_stage_has_its_files(stage, file):
    """A stage's folder holds its program, its tests, its Dockerfile and its packages."""
    file = file.format(stage=stage)
    assert (ROOT / "stages" / stage / file).is_file(), f"stages/{stage} lacks {file}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_from_the_base(stage):
    """A stage's image starts from the base image, whose name comes from the build alone."""
    text = (ROOT / "stages" / stage / "Dockerfile").read_text()
    origins = re.findall(r"^FROM\s+(\S+)", text, re.MULTILINE)
    assert origins[-1:] == ["${BASE_IMAGE}"], (
        f"stages/{stage}/Dockerfile lacks a last 'FROM ${{BASE_IMAGE}}': {origins}"
    )
    assert re.search(r"^ARG BASE_IMAGE$", text, re.MULTILINE), (
        f"stages/{stage}/Dockerfile lacks an 'ARG BASE_IMAGE' without a default"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_own_program(stage):
    """A stage's container runs <stage>.py of its folder, whatever the arguments are."""
    text = (ROOT / "stages" / stage / "Dockerfile").read_text()
    found = re.findall(r"^ENTRYPOINT\s+(.*)$", text, re.MULTILINE)
    expected = f'["python", "/app/stages/{stage}/{stage}.py"]'
    assert found == [expected], f"stages/{stage}/Dockerfile lacks 'ENTRYPOINT {expected}': it has {found}"


@pytest.mark.parametrize("stage", ["base", *STAGES])
def test_every_package_is_pinned_with_a_hash(stage):
    """What is installed into an image is known to the byte."""
    for package, line in pins(ROOT / "stages" / stage / "requirements.txt").items():
        assert version(line), f"stages/{stage}/requirements.txt lacks the version of {package}: run 'make lock'"
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), (
            f"stages/{stage}/requirements.txt lacks a hash of {package}: run 'make lock'"
        )


@pytest.mark.parametrize("stage", ["base", *STAGES])
def test_an_image_has_the_versions_that_the_tests_ran_with(stage):
    """Each package has the same version in a stage's image as in the runner, where the stage's tests run."""
    for package, line in pins(ROOT / "stages" / stage / "requirements.txt").items():
        assert package in RUNNER, f"scripts/requirements.txt lacks {package} of stages/{stage}/requirements.txt"
        assert version(line) == version(RUNNER[package]), (
            f"stages/{stage}/requirements.txt lacks the runner's version of {package}: it has {version(line)}, "
            f"scripts/requirements.txt {version(RUNNER[package])}: run 'make lock'"
        )


@pytest.mark.parametrize("stage", ["base", *STAGES])
def test_what_a_stage_asks_for_is_pinned(stage):
    """Each package of requirements.in is in requirements.txt, or in the base's."""
    folder = ROOT / "stages" / stage
    pinned = pins(folder / "requirements.txt").keys() | pins(ROOT / "stages" / "base" / "requirements.txt").keys()
    for package in pins(folder / "requirements.in"):
        assert package in pinned, f"stages/{stage}/requirements.txt lacks {package} of requirements.in: run 'make lock'"


def test_the_runner_and_the_stages_talk_to_mlflow_in_one_version():
    """MLflow's client in a stage is of the version of the server that the runner starts."""
    assert version(RUNNER["mlflow-skinny"]) == version(RUNNER["mlflow"]), "scripts/requirements.txt: two MLflows"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_the_arguments_that_it_gets(stage):
    """The arguments that a stage declares are those of its block and of its section; missing may be optional ones."""
    module = importlib.import_module(f"stages.{stage}.{stage}")
    declared = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, stagekit.Args) and value is not stagekit.Args
    ]
    assert len(declared) == 1, f"stages/{stage}/{stage}.py lacks one subclass of stagekit.Args: it has {declared}"
    fields = declared[0].model_fields
    assert stage in BLOCKS, f"{template.TEMPLATE} lacks a block for stages/{stage}"
    files = [name for kind in ("inputs", "outputs", "metrics", "plots") for name in BLOCKS[stage].get(kind, {})]
    given = {*files, *PARAMS.get(stage, {})}
    assert given - set(fields) == set(), (
        f"stages/{stage}/{stage}.py lacks fields of its Args that {template.TEMPLATE} or params.yaml give: "
        f"{sorted(given - set(fields))}"
    )
    required = {name for name, field in fields.items() if field.is_required()}
    assert required - given == set(), (
        f"{template.TEMPLATE} or params.yaml lacks arguments that stages/{stage}/{stage}.py needs: "
        f"{sorted(required - given)}"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_program_can_be_imported_without_running(stage, capsys):
    """Importing a stage's program does nothing that can be seen, so that its tests can."""
    importlib.import_module(f"stages.{stage}.{stage}")
    assert capsys.readouterr().out == "", f"stages/{stage}/{stage}.py lacks an 'if __name__ == \"__main__\"'"


def test_template_and_folders_agree():
    """Every stage of the template has a folder, and every folder with a Dockerfile has a block."""
    for stage in BLOCKS.keys() - set(STAGES):
        pytest.fail(f"stages/{stage} lacks a Dockerfile: {template.TEMPLATE} has a block for it")
    for stage in set(STAGES) - BLOCKS.keys():
        pytest.fail(f"{template.TEMPLATE} lacks a block for stages/{stage}")


def uncommented(text):
    """The keys of the sections in params.yaml's text that no comment explains, beside them or right above."""
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
    assert uncommented((ROOT / "params.yaml").read_text()) == [], "params.yaml lacks a comment for these keys"


def test_a_parameter_without_a_comment_is_found():
    """The check above tells a key with a comment from one without."""
    text = "one:\n  # share\n  a: 1\n  b: 2 # trees\n  c: 3\n  d: x#y\ntwo:\n  e: 5\n"
    assert uncommented(text) == ["one.c", "one.d", "two.e"]


@pytest.mark.parametrize(("file", "most"), [("stages/base/stagekit.py", 150), ("Makefile", 120)])
def test_what_all_must_read_is_short(file, most):
    """The stage kit and the Makefile stay short enough to be read as a whole."""
    lines = len((ROOT / file).read_text().splitlines())
    assert lines <= most, f"{file} has {lines} lines; expected {most} at most"
