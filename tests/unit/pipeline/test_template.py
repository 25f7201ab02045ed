"""dvc.yaml is rendered from its template: what the text promises, and which templates are refused."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts import settings
from scripts.pipeline import images, template
from scripts.project import ROOT, UserError

BUILT = {name: images.Image(name, f"stages/{name}:0123456789ab", {}) for name in ("base", "one", "two", "my-stage")}
TEMPLATE = (ROOT / template.TEMPLATE).read_text()
OUT = 'outputs={"out": "data/a/x.csv"}'


def pipeline(blocks, params=None):
    """The stages that a template of these blocks renders to, as DVC reads them."""
    lines = "\n".join(f"{{{{ {block} }}}}" for block in blocks)
    return yaml.safe_load(template.render(f"stages:\n{lines}\n", params or {}, BUILT))["stages"]


def split(command):
    """The words of a command, as the shell splits them."""
    return shlex.split(command.replace("\\\n", " "))


def words(stage):
    """The words of a stage's docker command."""
    return split(stage["cmd"][1])


def values(stage, option):
    """What follows each `option` in a stage's docker command."""
    command = words(stage)
    return [after for word, after in itertools.pairwise(command) if word == option]


def refusal(*blocks, params=None):
    """The text with which a template of these blocks, which begin in its second line, is refused."""
    with pytest.raises(UserError) as caught:
        pipeline(blocks, params)
    return str(caught.value)


@pytest.fixture(scope="module")
def real_params():
    return template.read_params()


@pytest.fixture(scope="module")
def text(real_params):
    """What the project's own template renders to."""
    return template.render(TEMPLATE, real_params, images.load())


@pytest.fixture(scope="module")
def stages(text):
    return yaml.safe_load(text)["stages"]


def ingest(real_params, source):
    """The block of ingest in the project's own template with another source."""
    params = real_params | {"ingest": real_params["ingest"] | {"source": source}}
    return yaml.safe_load(template.render(TEMPLATE, params, images.load()))["stages"]["ingest"]


# --- The committed file ---------------------------------------------------------------------------------------------


def test_committed_dvc_yaml_is_what_the_template_renders_to(text):
    """dvc.yaml in git never differs from its template, params.yaml and stages/."""
    assert (ROOT / "dvc.yaml").read_text() == text, "dvc.yaml is not up to date: run 'make setup-dvc' and commit it"


def test_the_header_says_what_to_edit(text):
    """Who opens dvc.yaml reads in its first line that it is generated, from what and by what."""
    first = text.splitlines()[0]
    assert first.startswith("#") and "GENERATED" in first and "make setup-dvc" in first and template.TEMPLATE in first


def test_rendering_again_gives_the_same_bytes_on_any_machine(text, real_params, monkeypatch, tmp_path):
    """Neither the place, nor the clone, nor the environment in which it is rendered changes dvc.yaml."""
    monkeypatch.chdir(tmp_path)
    for name in ("CLONE", "HOME", "USER", "STAGE_USER", "MLFLOW_NETWORK", "TRAIN_MEMORY", "LOCAL"):
        monkeypatch.setenv(name, "elsewhere")
    assert template.render(TEMPLATE, real_params, images.load()) == text


def test_writing_again_leaves_the_file_alone(tmp_path, monkeypatch, real_params):
    """A second rendering says that nothing changed and does not touch dvc.yaml; a first one makes it."""
    monkeypatch.setattr(template, "ROOT", tmp_path)
    (tmp_path / template.TEMPLATE).write_text(TEMPLATE)
    assert template.write(images.load(), real_params)
    before = (tmp_path / "dvc.yaml").stat()
    assert not template.write(images.load(), real_params)
    after = (tmp_path / "dvc.yaml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nothing_of_the_machine_is_rendered(text, stages):
    """No path of this clone, no user and no clone id stands in dvc.yaml: absolute are only places in the container."""
    assert str(ROOT) not in text and str(Path.home()) not in text and os.environ["CLONE"] not in text
    for stage in stages.values():
        assert values(stage, "--user") == ["$STAGE_USER"]
        assert values(stage, "--label")[0] == "pipeline.clone=$CLONE"
        assert all(re.match(r"type=bind,src=\$PWD/[^,]+,dst=/work/[^,]+", mount) for mount in values(stage, "--mount"))
        assert [word for word in words(stage) if word.startswith("/")] == ["/tmp"]
        limits = [value for option in ("--memory", "--cpus", "--pids-limit") for value in values(stage, option)]
        assert len(limits) == 3 and all(re.fullmatch(r"\$[A-Z][A-Z_]+", limit) for limit in limits)


def test_every_name_in_dvc_yaml_is_in_the_environment_of_a_run(text, monkeypatch, real_params):
    """Each $NAME of dvc.yaml has a value, never an empty one, when DVC runs the command."""
    monkeypatch.setenv("CLONE", "abc")
    settled = settings.load() | settings.for_a_run(real_params) | {"PWD": "/"}
    names = set(re.findall(r"\$([A-Z][A-Z_]*)", text))
    assert names and {name for name in names if not settled.get(name)} == set()


def test_secrets_go_by_name_alone(text, monkeypatch, real_params):
    """A secret of the environment is in dvc.yaml as `--env NAME`, never with its value."""
    secrets = ("MLFLOW_TRACKING_PASSWORD", "DAGSHUB_TOKEN", "AWS_SECRET_ACCESS_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "s3cr3t")
    rendered = template.render(TEMPLATE, real_params, images.load())
    assert "s3cr3t" not in rendered
    variables = re.findall(r"(?:--env|-e)[ =](\S+)", text)
    assert "MLFLOW_TRACKING_PASSWORD" in variables
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", variable) for variable in variables), variables


def test_a_stage_is_confined_unless_its_block_says_otherwise(stages):
    """Every stage runs read-only, without capabilities or new privileges, within limits, from an image at hand."""
    for name, stage in stages.items():
        command = words(stage)
        assert {"--rm", "--init", "--read-only"} <= set(command), name
        for option, value in (("--pull", "never"), ("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges")):
            assert values(stage, option) == [value], (name, option)
        assert values(stage, "--memory") and values(stage, "--cpus") and values(stage, "--pids-limit"), name
        writable = [mount for mount in values(stage, "--mount") if not mount.endswith(",readonly")]
        assert len(writable) == 1, (name, writable)


# --- A block --------------------------------------------------------------------------------------------------------


def test_an_input_is_written_once_and_appears_three_times():
    """An input of the template is a dep, a read-only mount and an argument."""
    stage = pipeline(['stage("one", inputs={"raw": "data/in/r.csv"}, ' + OUT + ")"])["one"]
    assert stage["deps"] == ["data/in/r.csv"]
    assert values(stage, "--raw") == ["data/in/r.csv"]
    assert "type=bind,src=$PWD/data/in/r.csv,dst=/work/data/in/r.csv,readonly" in values(stage, "--mount")


@pytest.mark.parametrize(("kind", "key"), [("outputs", "outs"), ("metrics", "metrics"), ("plots", "plots")])
def test_an_output_is_written_once_and_appears_three_times(kind, key):
    """An output of any kind is listed under DVC's key, lies in the one writable mount, and is an argument."""
    stage = pipeline([f'stage("one", {kind}={{"result": "data/a/x.csv"}})'])["one"]
    assert stage[key] == ["data/a/x.csv"]
    assert values(stage, "--result") == ["data/a/x.csv"]
    assert values(stage, "--mount") == ["type=bind,src=$PWD/data/a,dst=/work/data/a"]
    assert stage["cmd"][0] == "mkdir -p data/a", "the folder must be there before docker mounts it"


def test_a_stage_without_parameters_has_none():
    """A stage that params.yaml does not know has neither `params` nor a ${...} in its command."""
    stage = pipeline([f'stage("one", {OUT})'], {"mlflow": {"model": "m"}})["one"]
    assert "params" not in stage and "${" not in str(stage["cmd"])


def test_a_section_that_nothing_reads_is_refused():
    """A section of params.yaml that is no stage's and not publishing's is refused by its name, as a slip of the pen."""
    assert "section oen" in refusal(f'stage("one", {OUT})', params={"oen": {"seed": 1}})


def test_a_stage_with_parameters_has_them_as_arguments():
    """A stage with a section in params.yaml depends on that section and gets it unpacked, after its image."""
    stage = pipeline([f'stage("one", {OUT})'], {"one": {"seed": 1}})["one"]
    assert stage["params"] == ["one"]
    assert words(stage)[-1] == "${one}"


@pytest.mark.parametrize(
    ("network", "expected"), [("none", "none"), ("internet", "bridge"), ("mlflow", "$MLFLOW_NETWORK")]
)
def test_networks(network, expected):
    """Each network of the template is one of Docker's; none is what a block without one gets."""
    assert values(pipeline([f'stage("one", {OUT}, network="{network}")'])["one"], "--network") == [expected]
    assert values(pipeline([f'stage("one", {OUT})'])["one"], "--network") == ["none"]


def test_variables_go_to_the_stages_that_name_them():
    """A stage sees the variables of its block and no others."""
    blocks = [f'stage("one", {OUT}, env=["REGISTRY"])', 'stage("two", outputs={"out": "data/b/x"})']
    stages = pipeline(blocks)
    assert values(stages["one"], "--env") == ["REGISTRY"] and values(stages["two"], "--env") == []


def test_a_path_with_a_space_is_one_argument():
    """A file of the user's with a space in its name reaches the stage as one argument, and as one folder mkdir."""
    block = 'stage("one", inputs={"raw": "data/in/my r.csv"}, outputs={"out": "data/my a/x.csv"})'
    stage = pipeline([block])["one"]
    assert values(stage, "--raw") == ["data/in/my r.csv"]
    assert values(stage, "--out") == ["data/my a/x.csv"]
    assert shlex.split(stage["cmd"][0]) == ["mkdir", "-p", "data/my a"]


# --- ingest ---------------------------------------------------------------------------------------------------------


def test_ingest_has_a_network_only_with_a_url(real_params):
    """The bundled source needs no network and gets none; a URL gets Docker's bridge."""
    assert values(ingest(real_params, "bundled"), "--network") == ["none"]
    assert values(ingest(real_params, "https://example.com/iris.csv"), "--network") == ["bridge"]


def test_a_file_of_the_users_is_an_input_of_ingest(real_params):
    """With a source below data/external/ that file is a dep and a mount, and ingest has no network."""
    stage = ingest(real_params, "data/external/x.csv")
    assert stage["deps"] == ["data/external/x.csv"]
    assert "type=bind,src=$PWD/data/external/x.csv,dst=/work/data/external/x.csv,readonly" in values(stage, "--mount")
    assert values(stage, "--external") == ["data/external/x.csv"]
    assert values(stage, "--network") == ["none"]
    assert "deps" not in ingest(real_params, "bundled")


# --- What is refused ------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_an_error_with_its_line():
    """A misspelt name in the template is refused with the name and the line where it stands."""
    message = refusal(f'stage("one", {OUT})', 'stage("two", inputs={"raw": sorce}, outputs={"out": "data/b/x"})')
    assert "sorce" in message and f"{template.TEMPLATE}, line 3:" in message


def test_an_unknown_parameter_is_an_error_with_its_line():
    """A key that params.yaml lacks is refused with its name, not rendered as nothing."""
    message = refusal(f'stage("one", {OUT}, network=params.one.net)', params={"one": {}})
    assert "net" in message and "line 2" in message


def test_a_broken_template_is_an_error_with_its_line():
    """A template that Jinja2 cannot read is refused with the line."""
    with pytest.raises(UserError, match="line 2"):
        template.render("stages:\n{{ stage('one' }}\n", {}, BUILT)


@pytest.mark.parametrize(
    ("block", "named"),
    [
        (f'stage("one", {OUT}, output={{"o": "data/a/y"}})', ["output"]),
        (f'stage("three", {OUT})', ["three", "stages/three"]),
        (f'stage("base", {OUT})', ["base"]),
        (f'stage("one", {OUT}, network="host")', ["host", "none", "internet", "mlflow"]),
        ('stage("one")', ["one", "outputs"]),
        ('stage("one", outputs={"o": "/srv/x.csv"})', ["one", "/srv/x.csv"]),
        ('stage("one", outputs={"o": "../x/y.csv"})', ["one", "../x/y.csv"]),
        ('stage("one", outputs={"o": "data/../../x.csv"})', ["one", "data/../../x.csv"]),
        ('stage("one", outputs={"o": "x.csv"})', ["one", "x.csv"]),
        ('stage("one", outputs={"o": "data/x"}, metrics={"m": "metrics/y"})', ["one", "data/x", "metrics/y"]),
        (f'stage("one", inputs=["data/in/r.csv"], {OUT})', []),
    ],
    ids=[
        "unknown keyword",
        "stage without a folder",
        "the base is no stage",
        "unknown network",
        "no output",
        "absolute output",
        "output beside the clone",
        "output out of the clone by a detour",
        "output in the clone's top",
        "two folders",
        "inputs as a list",
    ],
)
def test_a_block_that_cannot_work_is_refused(block, named):
    """A mistake in a block is a UserError of one line that names the template's line and what is wrong."""
    message = refusal(block)
    assert "\n" not in message and f"{template.TEMPLATE}, line 2:" in message
    assert [word for word in named if word not in message] == []


@pytest.mark.parametrize(
    ("one", "two"),
    [("data/a", "data/a"), ("data/a", "data/a/b"), ("data/a/b", "data/a")],
    ids=["the same", "within", "around"],
)
def test_no_two_stages_write_below_one_folder(one, two):
    """Two stages that write one folder, or one within the other, are refused by name; neighbours are not."""
    blocks = [f'stage("one", outputs={{"o": "{one}/x"}})', f'stage("two", outputs={{"o": "{two}/y"}})']
    message = refusal(*blocks)
    assert "'one'" in message and "'two'" in message and "line 3" in message
    assert pipeline([blocks[0], 'stage("two", outputs={"o": "data/ab/y"})'])


@pytest.mark.parametrize("kind", ["inputs", "outputs", "metrics", "plots"])
def test_a_parameter_never_has_the_name_of_a_file_argument(kind):
    """A key of params.yaml that is also a file's argument is refused, since one would hide the other."""
    files = {"inputs": {}, "outputs": {"out": "data/a/x"}, "metrics": {}, "plots": {}}
    files[kind] = {"seed": "data/a/y" if kind != "inputs" else "data/in/y"}
    block = "stage('one', " + ", ".join(f"{key}={value}" for key, value in files.items()) + ")"
    message = refusal(block, params={"one": {"seed": 1}})
    assert "one.seed" in message


@pytest.mark.parametrize(
    "block",
    [
        'stage("one", inputs={"data": "data/in/x"}, outputs={"data": "data/a/x"})',
        'stage("one", outputs={"data": "data/a/x"}, metrics={"data": "data/a/y"})',
    ],
    ids=["input and output", "output and metric"],
)
def test_an_argument_never_names_two_files(block):
    """One argument for two files of a stage is refused, since the stage would be told of one alone."""
    assert "data" in refusal(block)


def test_a_stage_has_one_block():
    """A second block of a stage is refused, since YAML would keep one of the two alone."""
    assert "one" in refusal(f'stage("one", {OUT})', 'stage("one", outputs={"out": "data/b/x"})')


@pytest.mark.parametrize("env", ['["TOKEN=s3cr3t"]', '"REGISTRY"'], ids=["a value", "a text instead of a list"])
def test_env_takes_names_alone(env):
    """A block that gives a variable's value, or no list, is refused: a value would end in git."""
    message = refusal(f'stage("one", {OUT}, env={env})')
    assert "line 2" in message and "s3cr3t" not in message


# --- params.yaml ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [None, b"train: [1, 2\n", b"\xff\xfe\x00", b"- train\n- evaluate\n", b"train: 3\n", b"train:\n", b""],
    ids=["missing", "no YAML", "no text", "a list", "a number as a section", "an empty section", "empty"],
)
def test_a_params_file_without_sections_is_refused_in_one_line(tmp_path, content):
    """params.yaml that is missing, unreadable or no mapping of sections is a UserError of one line with its name."""
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        template.read_params(path)
    assert str(caught.value).startswith("params.yaml") and "\n" not in str(caught.value)


def test_a_params_file_with_sections_is_read_as_it_stands(tmp_path):
    """Values keep their types: numbers, null, booleans and texts."""
    (tmp_path / "params.yaml").write_text("one: {number: 3, share: 0.5, nothing: null, yes_or_no: false, word: a b}\n")
    section = {"number": 3, "share": 0.5, "nothing": None, "yes_or_no": False, "word": "a b"}
    assert template.read_params(tmp_path / "params.yaml") == {"one": section}


# --- DVC ------------------------------------------------------------------------------------------------------------


def commands(folder, dvc_yaml, params):
    """The docker command of each stage as DVC resolves dvc.yaml in a new repository in `folder`."""
    from dvc.repo import Repo

    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    (folder / "dvc.yaml").write_text(dvc_yaml)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with Repo(str(folder)) as repo:
        return {stage.name: stage.cmd[1] for stage in repo.index.stages}


def test_dvc_accepts_what_is_rendered(tmp_path, text, real_params):
    """DVC reads the project's dvc.yaml, finds all its stages, and unpacks ${train} into arguments, null as None."""
    params = real_params | {"train": real_params["train"] | {"n_estimators": 100, "max_depth": None}}
    found = commands(tmp_path, text, params)
    assert set(found) == set(yaml.safe_load(text)["stages"])
    arguments = split(found["train"])
    for name, value in (("--n_estimators", "100"), ("--max_depth", "None")):
        assert arguments[arguments.index(name) + 1] == value
    assert not any("${" in command for command in found.values())


def test_dvc_hands_on_every_kind_of_value(tmp_path):
    """Booleans reach a stage as --name or --no-name, texts whole; a stage's name may have a dash."""
    params = {"my-stage": {"warm": True, "cold": False, "word": "a b", "nothing": None, "share": 0.5}}
    text = template.render(f'stages:\n{{{{ stage("my-stage", {OUT}) }}}}\n', params, BUILT)
    arguments = split(commands(tmp_path, text, params)["my-stage"])
    after = arguments[arguments.index("stages/my-stage:0123456789ab") + 1 :]
    expected = "--out data/a/x.csv --warm --no-cold --word 'a b' --nothing None --share 0.5"
    assert after == shlex.split(expected)
    assert "$MY_STAGE_MEMORY" in arguments
