"""dvc.yaml is rendered from its template: what the text promises, and which templates are refused."""

import itertools
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from scripts import settings
from scripts.pipeline import dvc_adapter, images, params, template
from scripts.project import ROOT, Project, UserError
from scripts.registry.gate import Gate

IMAGE = re.compile(r"stages/[a-z0-9_-]+:[0-9a-f]{12}")

BUILT = {name: images.Image(name, f"stages/{name}:0123456789ab", {}) for name in ("base", "one", "two", "my-stage")}
OUT = 'outputs={"out": "data/a/x.csv"}'
GATE = {"metric": "accuracy", "higher_is_better": True, "range": [0, 1]}
PARAMS = {
    "one": {"source": "bundled", "seed": 1},
    "my-stage": {"repeats": 3},
    "mlflow": {"experiment": "flowers", "model": "a-model"},
    "promotion": GATE,
}
TEMPLATE = """\
{#- A comment that does not get into dvc.yaml. -#}
{%- set server = ["MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD"] -%}
stages:
{{ stage("one", outputs={"out": "data/a/x.csv"}, env=["DOWNLOAD_TIMEOUT"],
         network="internet" if "://" in params.one.source else "none") }}
{{ stage("two", inputs={"data": "data/a/x.csv"}, outputs={"model": "models/m.bin"}, network="mlflow", env=server) }}
{{ stage("my-stage",
         inputs={"model": "models/m.bin", "data": "data/a/x.csv"},
         metrics={"metrics": "metrics/m.json"}, plots={"curve": "metrics/curve.csv"}) }}
artifacts:
{{ model(params.mlflow.model, file="models/m.bin", metrics="metrics/m.json") }}
plots:
- metrics/curve.csv: {x: step, y: loss}
"""


def pipeline(blocks, params=None):
    """Return the stages that a template of these blocks renders to, as DVC reads them."""
    lines = "\n".join(f"{{{{ {block} }}}}" for block in blocks)
    return yaml.safe_load(template.render(f"stages:\n{lines}\n", params or {}, BUILT).text)["stages"]


def split(command):
    """Return the words of a command, as the shell splits them."""
    return shlex.split(command.replace("\\\n", " "))


def words(stage):
    """Return the words of a stage's docker command."""
    return split(stage["cmd"][1])


def values(stage, option):
    """Return what follows each `option` in a stage's docker command."""
    command = words(stage)
    return [after for word, after in itertools.pairwise(command) if word == option]


def refusal(*blocks, params=None):
    """Return the text with which a template of these blocks, which begin in its second line, is refused."""
    with pytest.raises(UserError) as caught:
        pipeline(blocks, params)
    return str(caught.value)


@pytest.fixture(scope="module")
def text():
    return template.render(TEMPLATE, PARAMS, BUILT).text


@pytest.fixture(scope="module")
def stages(text):
    return yaml.safe_load(text)["stages"]


@pytest.fixture
def a_project(project):
    """Return a project with that template, and stages of its own with nothing in them but a Dockerfile."""
    (project.root / template.TEMPLATE).write_text(TEMPLATE)
    project.params.write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    for name in BUILT:
        (project.stages / name).mkdir(parents=True)
        (project.stages / name / "Dockerfile").write_text("FROM scratch\n")
    shutil.copy(ROOT / ".env.example", project.env_example)
    return project


# --- The committed file ---------------------------------------------------------------------------------------------


def test_committed_dvc_yaml_is_what_the_template_renders_to():
    """dvc.yaml in git never differs from its template, params.yaml and stages/."""
    text = template.load().text
    assert (ROOT / "dvc.yaml").read_text() == text, "dvc.yaml is not up to date: run 'make setup-dvc' and commit it"


def test_committed_dvc_lock_is_of_the_committed_dvc_yaml():
    """The images in dvc.lock are those of dvc.yaml: whoever clones and pulls has nothing to run."""
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"] if (ROOT / "dvc.lock").exists() else {}
    run = {name: image for name, stage in lock.items() for image in IMAGE.findall(str(stage["cmd"]))}
    wanted = {name: stage.image for name, stage in template.load().stages.items() if name in run}
    assert run == wanted, "dvc.lock is of other images than dvc.yaml: run 'make run' and commit both"


def test_the_header_says_what_to_edit(text):
    """The first line of dvc.yaml says that it is generated, from what and by what."""
    first = text.splitlines()[0]
    assert first.startswith("#") and "GENERATED" in first and "make setup-dvc" in first and template.TEMPLATE in first


def test_rendering_again_gives_the_same_bytes_on_any_machine(text, monkeypatch, tmp_path):
    """Neither the place, nor the clone, nor the environment in which it is rendered changes dvc.yaml."""
    monkeypatch.chdir(tmp_path)
    for name in ("CLONE", "HOME", "USER", "STAGE_USER", "MLFLOW_NETWORK", "ONE_MEMORY", "LOCAL"):
        monkeypatch.setenv(name, "elsewhere")
    assert template.render(TEMPLATE, PARAMS, BUILT).text == text


def test_another_clone_renders_the_same_bytes(a_project, tmp_path):
    """Two clones of the same files, wherever they lie, have the same dvc.yaml."""
    other = Project(Path(shutil.copytree(a_project.root, tmp_path / "other")))
    assert template.load(a_project.root).text == template.load(other.root).text


def test_writing_again_leaves_the_file_alone(a_project):
    """A second rendering says that nothing changed and does not touch dvc.yaml; a first one makes it."""
    rendered = template.load(a_project.root)
    assert template.write(rendered, a_project.root)
    before = a_project.dvc_yaml.stat()
    assert not template.write(rendered, a_project.root)
    after = a_project.dvc_yaml.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert a_project.dvc_yaml.read_text() == rendered.text


def test_nothing_of_the_machine_is_rendered(text, stages):
    """No path of this clone, no user and no clone id is in dvc.yaml: absolute are only places in the container."""
    assert str(ROOT) not in text and str(Path.home()) not in text and os.environ["CLONE"] not in text
    for stage in stages.values():
        assert values(stage, "--user") == ["$STAGE_USER"]
        assert values(stage, "--label")[0] == "pipeline.clone=$CLONE"
        assert all(re.match(r"type=bind,src=\$PWD/[^,]+,dst=/work/[^,]+", mount) for mount in values(stage, "--mount"))
        assert [word for word in words(stage) if word.startswith("/")] == ["/tmp"]
        limits = [value for option in ("--memory", "--cpus", "--pids-limit") for value in values(stage, option)]
        assert len(limits) == 3 and all(re.fullmatch(r"\$[A-Z][A-Z_]+", limit) for limit in limits)


def test_every_name_in_dvc_yaml_is_in_the_environment_of_a_run(a_project):
    """Each $NAME of dvc.yaml has a value, never an empty one, when DVC runs the command."""
    settled = settings.load(a_project) | {"PWD": "/"}
    names = set(re.findall(r"\$([A-Z][A-Z_]*)", template.load(a_project.root).text))
    assert {"MY_STAGE_MEMORY", "ONE_TIMEOUT", "MLFLOW_NETWORK"} <= names
    assert {name for name in names if not settled.get(name)} == set()


def test_secrets_go_by_name_alone(text, monkeypatch):
    """A secret of the environment is in dvc.yaml as `--env NAME`, never with its value."""
    for name in ("MLFLOW_TRACKING_PASSWORD", "DAGSHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cr3t")
    assert "s3cr3t" not in template.render(TEMPLATE, PARAMS, BUILT).text
    variables = re.findall(r"(?:--env|-e)[ =](\S+)", text)
    assert "MLFLOW_TRACKING_PASSWORD" in variables
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", variable) for variable in variables), variables


def test_a_stage_is_confined_unless_its_block_says_otherwise(stages):
    """Every stage runs read-only, without capabilities or new privileges, within limits, and never pulls its image."""
    for name, stage in stages.items():
        command = words(stage)
        assert {"--rm", "--init", "--read-only"} <= set(command), name
        for option, value in (("--pull", "never"), ("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges")):
            assert values(stage, option) == [value], (name, option)
        assert values(stage, "--memory") and values(stage, "--cpus") and values(stage, "--pids-limit"), name
        writable = [mount for mount in values(stage, "--mount") if not mount.endswith(",readonly")]
        assert len(writable) == 1, (name, writable)


def test_the_pipeline_is_what_the_text_says(text):
    """Beside the text of dvc.yaml there are its stages, models and plots as values, in the order of the template."""
    found = template.render(TEMPLATE, PARAMS, BUILT)
    read = yaml.safe_load(text)
    assert list(found.stages) == list(read["stages"]) == ["one", "two", "my-stage"]
    assert [stage.name for stage in found.stages.values()] == list(found.stages)
    assert [model.name for model in found.models] == list(read["artifacts"]) == ["a-model"]
    assert found.plots == read["plots"] and found.params == PARAMS
    assert {name: stage.commands() for name, stage in found.stages.items()} == {
        name: block["cmd"] for name, block in read["stages"].items()
    }


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
    assert stage[key] == [{"data/a/x.csv": {"persist": True}}]
    assert values(stage, "--result") == ["data/a/x.csv"]
    assert values(stage, "--mount") == ["type=bind,src=$PWD/.local/work/one/data/a,dst=/work/data/a"]
    *_, folder = stage["cmd"][0].splitlines()
    assert folder == "rm -rf .local/work/one && mkdir -p .local/work/one/data/a", "docker mounts no folder"
    assert stage["cmd"][2] == "python -m scripts.pipeline.takeover one data/a/x.csv"


def test_a_stage_without_parameters_has_none():
    """A stage that params.yaml does not know has neither `params` nor a ${...} in its command."""
    stage = pipeline([f'stage("one", {OUT})'])["one"]
    assert "params" not in stage and "${" not in str(stage["cmd"])


def test_a_stage_with_parameters_has_them_as_arguments():
    """A stage with a section in params.yaml depends on that section and gets it unpacked, after its image."""
    stage = pipeline([f'stage("one", {OUT})'], {"one": {"seed": 1}})["one"]
    assert stage["params"] == ["one"]
    assert words(stage)[-1] == "${one}"


def test_a_section_that_nothing_reads_is_refused():
    """A section of params.yaml that is no stage's, and that the template does not read, is refused as a slip."""
    assert "section oen" in refusal(f'stage("one", {OUT})', params={"oen": {"seed": 1}})


@pytest.mark.parametrize(
    "network",
    ["params.oen.network", 'params["oen"].network', 'params.get("oen").network', 'params.get("oen", {}).network'],
)
def test_a_section_that_the_template_reads_counts_as_read(network):
    """A section that no stage owns may stand in params.yaml if the template reads it, in any of Jinja's ways."""
    stage = pipeline([f'stage("one", {OUT}, network={network})'], {"oen": {"network": "internet"}})["one"]
    assert values(stage, "--network") == ["bridge"] and "params" not in stage


@pytest.mark.parametrize(
    ("network", "expected"), [("none", "none"), ("internet", "bridge"), ("mlflow", "$MLFLOW_NETWORK")]
)
def test_networks(network, expected):
    """Each network of the template is one of Docker's; a block that names none gets none."""
    assert values(pipeline([f'stage("one", {OUT}, network="{network}")'])["one"], "--network") == [expected]
    assert values(pipeline([f'stage("one", {OUT})'])["one"], "--network") == ["none"]


def test_variables_go_to_the_stages_that_name_them():
    """A stage sees the variables of its block and no others."""
    blocks = [f'stage("one", {OUT}, env=["REGISTRY"])', 'stage("two", outputs={"out": "data/b/x"})']
    stages = pipeline(blocks)
    assert values(stages["one"], "--env") == ["REGISTRY"] and values(stages["two"], "--env") == []


def test_a_path_with_a_space_is_one_argument():
    """A file with a space in its name reaches the stage as one argument, and as one folder mkdir."""
    block = 'stage("one", inputs={"raw": "data/in/my r.csv"}, outputs={"out": "data/my a/x.csv"})'
    stage = pipeline([block])["one"]
    assert values(stage, "--raw") == ["data/in/my r.csv"]
    assert values(stage, "--out") == ["data/my a/x.csv"]
    assert shlex.split(stage["cmd"][0])[-3:] == ["mkdir", "-p", ".local/work/one/data/my a"]
    assert shlex.split(stage["cmd"][2])[-1] == "data/my a/x.csv"


@pytest.mark.parametrize(
    ("source", "network", "deps"),
    [
        ("bundled", "none", None),
        ("https://example.com/x.csv", "bridge", None),
        ("data/external/x.csv", "none", ["data/external/x.csv"]),
    ],
)
def test_a_block_may_depend_on_a_parameter(source, network, deps):
    """A template can give a stage a network only if a parameter is a URL, and an input only if it is a file."""
    block = (
        'stage("one", outputs={"out": "data/a/x.csv"}, network="internet" if "://" in params.one.source else "none",'
        ' inputs={"external": params.one.source} if params.one.source.startswith("data/external/") else {})'
    )
    stage = pipeline([block], {"one": {"source": source}})["one"]
    assert values(stage, "--network") == [network]
    assert stage.get("deps") == deps
    assert values(stage, "--external") == (deps or [])


# --- What is refused ------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_an_error_with_its_line():
    """A misspelt name in the template is refused with the name and its line."""
    message = refusal(f'stage("one", {OUT})', 'stage("two", inputs={"raw": sorce}, outputs={"out": "data/b/x"})')
    assert "sorce" in message and f"{template.TEMPLATE}, line 3:" in message


def test_an_unknown_parameter_is_an_error_with_its_line():
    """A key that params.yaml lacks is refused with its name, not rendered as nothing."""
    message = refusal(f'stage("one", {OUT}, network=params.one.net)', params={"one": {}})
    assert "net" in message and "line 2" in message


def test_an_unknown_section_is_an_error_with_its_line():
    """A section that params.yaml lacks is refused with its name, in words about params.yaml."""
    message = refusal(f'stage("one", {OUT}, network=params.oen.net)')
    assert "line 2: params.yaml has no attribute 'oen'" in message


def test_a_broken_template_is_an_error_with_its_line():
    """A template that Jinja2 cannot read is refused with the line."""
    with pytest.raises(UserError, match="line 2"):
        template.render("stages:\n{{ stage('one' }}\n", {}, BUILT)


def test_a_template_that_gives_no_yaml_is_refused():
    """Text beside the blocks that is no YAML is refused in one line before anything is written."""
    with pytest.raises(UserError, match=r"dvc\.yaml\.template gives no YAML \(.*\); expected a dvc\.yaml: correct it"):
        template.render("stages: [\n", {}, BUILT)


def test_stages_that_wait_for_each_other_are_refused():
    """A circle of stages is refused by their names, and so is a stage that reads its own output."""
    blocks = [
        'stage("one", inputs={"i": "data/b/y"}, outputs={"o": "data/a/x"})',
        'stage("two", inputs={"i": "data/a/x"}, outputs={"o": "data/b/y"})',
    ]
    message = refusal(*blocks)
    assert re.search("one -> two -> one|two -> one -> two", message) and "\n" not in message
    assert "one -> one" in refusal('stage("one", inputs={"i": "data/a/x"}, outputs={"o": "data/a/x"})')


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
        ('stage("one", outputs={"o": "data/./x.csv"})', ["one", "data/./x.csv"]),
        ('stage("one", outputs={"o": "data/x/"})', ["one", "data/x/"]),
        ('stage("one", outputs={"o": "x.csv"})', ["one", "x.csv"]),
        ('stage("one", outputs={"o": "data/a,b"})', ["one", "data/a,b"]),
        ('stage("one", outputs={"o": "data/x"}, metrics={"m": "metrics/y"})', ["one", "data/x", "metrics/y"]),
        (f'stage("one", inputs=["data/in/r.csv"], {OUT})', ["one", "list of files"]),
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
        "a detour of one step",
        "a slash at the end",
        "output in the clone's top",
        "a comma, which separates the options of a mount",
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
    """One argument for two files of a stage is refused, since the stage would see only one of them."""
    assert "data" in refusal(block)


def test_a_stage_has_one_block():
    """A second block of a stage is refused, since YAML would keep only one of the two."""
    assert "one" in refusal(f'stage("one", {OUT})', 'stage("one", outputs={"out": "data/b/x"})')


def test_notes_for_other_tools_are_kept_and_change_no_command():
    """A block's `meta` stands in dvc.yaml as DVC's own, in that of a foreach too, and nothing else differs."""
    for more in ("", ', foreach=["a", "b"]'):
        out = OUT.replace("data/a", "data/${item}") if more else OUT
        plain, noted = (
            pipeline([f'stage("one", {out}{more}{meta})'])["one"] for meta in ("", ', meta={"queue": "gpu"}')
        )
        before, after = (found.get("do", found) for found in (plain, noted))
        assert after.pop("meta") == {"queue": "gpu"}
        assert before == after


@pytest.mark.parametrize("meta", ['"gpu"', '["gpu"]', '{"queue": ["gpu"]}', '{1: "gpu"}', '{"queue": "${item}"}'])
def test_notes_are_plain_values_by_name(meta):
    """What DVC would fill in, or another tool would have to look into, is refused in a sentence that shows it."""
    with pytest.raises(UserError, match="expected plain values like"):
        pipeline([f'stage("one", {OUT}, meta={meta})'])


@pytest.mark.parametrize("env", ['["TOKEN=s3cr3t"]', '"REGISTRY"'], ids=["a value", "a text instead of a list"])
def test_env_takes_names_alone(env):
    """A block that gives a variable's value, or no list, is refused: a value would end in git."""
    message = refusal(f'stage("one", {OUT}, env={env})')
    assert "line 2" in message and "s3cr3t" not in message


# --- Models ---------------------------------------------------------------------------------------------------------

MAKER = 'stage("one", outputs={"model": "models/m.bin", "signature": "models/s.json"})'
SCORER = (
    'stage("two", inputs={"model": "models/m.bin", "data": "data/in/t.csv"},'
    ' metrics={"m": "metrics/m.json"}, plots={"rows": "metrics/rows.csv"})'
)
FILES = 'file="models/m.bin", metrics="metrics/m.json"'


def with_models(*lines, params=PARAMS, stages=(MAKER, SCORER), root=ROOT):
    """Return the pipeline of a template with a maker in line 2, a scorer in line 3, and models from line 5 on."""
    head = "stages:\n" + "".join(f"{{{{ {stage} }}}}\n" for stage in stages)
    text = head + "artifacts:\n" + "".join(f"{{{{ {line} }}}}\n" for line in lines)
    read = {name: section for name, section in params.items() if name not in BUILT}
    return template.render(text, read, BUILT, root)


def test_a_model_has_the_stage_that_makes_it_and_the_one_that_scores_it():
    """The maker is the stage that writes the file, the scorer the one that reads it and writes the metrics."""
    (model,) = with_models(f"model(params.mlflow.model, {FILES})").models
    assert (model.name, model.maker, model.scorer) == ("a-model", "one", "two")
    assert (model.file, model.metrics) == ("models/m.bin", "metrics/m.json")
    assert (model.rows, model.loader, model.signature) == (None, None, None)


def test_a_model_has_the_common_experiment_and_gate_unless_it_has_its_own():
    """What a model's line does not say comes from the sections `mlflow` and `promotion`."""
    own = {"metric": "rmse", "higher_is_better": False}
    lines = [
        f"model(params.mlflow.model, {FILES})",
        f'model("other", {FILES}, experiment="trees", promotion=params.promotion_other)',
    ]
    first, second = with_models(*lines, params=PARAMS | {"promotion_other": own}).models
    assert (first.experiment, first.gate) == ("flowers", Gate.from_section(GATE))
    assert (second.experiment, second.gate) == ("trees", Gate.from_section(own))


def test_a_model_may_name_rows_a_signature_and_a_loader(tmp_path):
    """Rows are the scorer's, the signature is the maker's, the loader is a file of the clone."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "load.py").touch()
    files = f'{FILES}, rows="metrics/rows.csv", signature="models/s.json", loader="code/load.py"'
    (model,) = with_models(f'model("m", {files})', root=tmp_path).models
    assert (model.rows, model.signature, model.loader) == ("metrics/rows.csv", "models/s.json", "code/load.py")


def test_a_model_may_be_a_folder():
    """A folder that a stage writes is a model as well as a file is."""
    stages = [text.replace("models/m.bin", "models/net") for text in (MAKER, SCORER)]
    (model,) = with_models('model("m", file="models/net", metrics="metrics/m.json")', stages=stages).models
    assert model.file == "models/net" and model.maker == "one"


def test_a_pipeline_may_have_several_models():
    """Each model's line finds its own stages, and all are in the order of the template."""
    stages = [
        'stage("one", outputs={"a": "models/a", "b": "models/b"})',
        'stage("two", inputs={"a": "models/a"}, metrics={"m": "metrics/m.json"})',
        'stage("my-stage", inputs={"b": "models/b"}, metrics={"m": "scores/m.json"})',
    ]
    lines = [
        'model("second", file="models/b", metrics="scores/m.json")',
        'model("first", file="models/a", metrics="metrics/m.json")',
    ]
    models = with_models(*lines, stages=stages).models
    assert [(model.name, model.maker, model.scorer) for model in models] == [
        ("second", "one", "my-stage"),
        ("first", "one", "two"),
    ]


def test_a_gate_that_a_model_uses_counts_as_read():
    """The sections `mlflow` and `promotion` need be read by no template line if a model uses them, and only then."""
    with_models(f'model("m", {FILES})')
    with pytest.raises(UserError, match=r"section mlflow, which nothing reads"):
        with_models()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f'model("a/b", {FILES})', "model 'a/b': its name has other characters; expected letters, digits, - and _"),
        (f'model("", {FILES})', "model '': its name has other characters"),
        (f"model('it\\'s', {FILES})", "its name has other characters"),
        (f"model(3, {FILES})", "model 3: its name has other characters"),
        (f"model(params.mlflow.modle, {FILES})", "has no attribute 'modle'"),
        (
            f'model("m", {FILES.replace("models/m.bin", "models/x.bin")})',
            "model 'm': no stage above it writes models/x.bin",
        ),
        (f'model("m", {FILES.replace("models/m.bin", "m.bin")})', "model 'm': the path is 'm.bin'"),
        (f'model("m", {FILES.replace("m.json", "x.json")})', "no stage above it lists metrics/x.json under metrics"),
        (f'model("m", {FILES.replace("metrics/m.json", "models/s.json")})', "lists models/s.json under metrics"),
        (
            'model("m", file="models/s.json", metrics="metrics/m.json")',
            "stage 'two' writes metrics/m.json without reading models/s.json; expected it as an input",
        ),
        (f'model("m", {FILES}, rows="metrics/x.csv")', "stage 'two' does not write metrics/x.csv"),
        (f'model("m", {FILES}, rows="models/s.json")', "stage 'two' does not write models/s.json"),
        (f'model("m", {FILES}, signature="models/x.json")', "stage 'one' does not write models/x.json"),
        (f'model("m", {FILES}, loader="code/load.py")', "its loader is code/load.py, which is not there"),
        (f'model("m", {FILES}, loader="code/load-it.py")', "its loader is code/load-it.py; expected a Python module"),
        (f'model("m", {FILES}, loader="/etc/passwd")', "the path is '/etc/passwd'"),
        (f'model("m", {FILES}, loader="../code/load.py")', "the path is '../code/load.py'"),
        (f'model("m", {FILES}, experiment=3)', "mlflow.experiment is 3; expected a name"),
        (f'model("m", {FILES}, experiment=" e")', "mlflow.experiment is ' e'; expected a name"),
        (f'model("m", {FILES}, experiment="a\\nb")', "mlflow.experiment is 'a\\nb'; expected a name"),
        (f'model("m", {FILES}, experiment="{"e" * 251}")', f"mlflow.experiment is '{'e' * 98}…; expected a name"),
        (f'model("{"m" * 201}", {FILES})', "its name has 201 characters; expected at most 200"),
        (f'model("m", {FILES}, promotion={{"metric": "x"}})', "higher_is_better is missing"),
        (f'model("m", {FILES}, promotion=params.promotion_m)', "params.yaml has no attribute 'promotion_m'"),
        (f'model("m", {FILES}, weights="models/m.bin")', "weights"),
        ('model("m", file="models/m.bin")', "metrics"),
    ],
)
def test_a_model_that_cannot_work_is_refused(line, says):
    """A mistake in a model's line is a UserError of one line that names the template's line and what is wrong."""
    with pytest.raises(UserError) as caught:
        with_models(line)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{template.TEMPLATE}, line 5: ")
    assert says in message


@pytest.mark.parametrize(
    ("section", "says"),
    [("mlflow", "params.yaml has no section mlflow, which a model needs"), ("promotion", "has no section promotion")],
)
def test_a_missing_section_that_a_model_needs_is_named(section, says):
    """Without `mlflow` or `promotion` in params.yaml a model that needs it is refused with that section's name."""
    params = {name: value for name, value in PARAMS.items() if name != section}
    with pytest.raises(UserError, match=says):
        with_models(f'model("m", {FILES})', params=params)


def test_an_experiment_must_have_a_name():
    """A section `mlflow` without an experiment is refused with the name of what is missing."""
    with pytest.raises(UserError, match=r"mlflow\.experiment is None; expected a name: set it"):
        with_models(f'model("m", {FILES})', params=PARAMS | {"mlflow": {"model": "m"}})


def test_two_models_have_two_names():
    """A name that stands in two lines is refused in the line of the second."""
    with pytest.raises(UserError, match="line 6: model 'm': it is there twice"):
        with_models(f'model("m", {FILES})', f'model("m", {FILES})')


def test_a_model_stands_below_its_stages():
    """A model's line above the block of its scorer is refused, in words that say where it is looked for."""
    text = f"stages:\n{{{{ {MAKER} }}}}\n{{{{ model('m', {FILES}) }}}}\n{{{{ {SCORER} }}}}\n"
    with pytest.raises(UserError, match=r"line 3: model 'm': no stage above it lists metrics/m\.json"):
        template.render(text, {"mlflow": PARAMS["mlflow"], "promotion": GATE}, BUILT)


# --- params.yaml ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"train: [1, 2\n",
        b"\xff\xfe\x00",
        b"- train\n- evaluate\n",
        b"train: 3\n",
        b"train:\n",
        b"",
        b"a:\n  b: 10",
    ],
    ids=["missing", "no YAML", "no text", "a list", "a number as a section", "an empty section", "empty", "cut off"],
)
def test_a_params_file_without_sections_is_refused_in_one_line(tmp_path, content):
    """params.yaml that is missing, unreadable, cut off or no mapping of sections is a UserError of one line."""
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        params.read_params(path)
    assert str(caught.value).startswith("params.yaml") and "\n" not in str(caught.value)


def test_a_params_file_with_sections_is_read_as_it_stands(tmp_path):
    """Values keep their types: numbers, null, booleans and texts."""
    (tmp_path / "params.yaml").write_text("one: {number: 3, share: 0.5, nothing: null, yes_or_no: false, word: a b}\n")
    section = {"number": 3, "share": 0.5, "nothing": None, "yes_or_no": False, "word": "a b"}
    assert params.read_params(tmp_path / "params.yaml") == {"one": section}


@pytest.mark.parametrize("key", ["a;b", "$(x)", "a b", "-x", "", "a.b", "ü", "x\ny", "`x`"])
def test_a_key_that_is_no_name_is_refused(tmp_path, key):
    """A key of params.yaml becomes an argument of a shell command, however deep it lies."""
    for section in ({key: 1}, {"inner": {key: 1}}):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"one": section}))
        with pytest.raises(UserError, match=r"params\.yaml: one.* has the key .*; expected a name of letters, digits"):
            params.read_params(tmp_path / "params.yaml")


# --- DVC ------------------------------------------------------------------------------------------------------------


def resolved(project, dvc_yaml, params):
    """Return the docker command of each stage as DVC resolves it, and the artifacts that DVC finds."""
    project.dvc_yaml.write_text(dvc_yaml)
    project.params.write_text(yaml.safe_dump(params, sort_keys=False))
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, [])
        commands = {name: dvc_adapter.command_of(stage)[1] for name, stage in planned.stages.items()}
        return commands, repo.artifacts.read()


def test_dvc_accepts_what_is_rendered(project):
    """DVC reads the project's own dvc.yaml, finds all its stages and models, and fills in all parameters."""
    committed = template.load()
    commands, artifacts = resolved(project, committed.text, committed.params)
    assert set(commands) == set(committed.stages)
    assert not any("${" in command for command in commands.values())
    found = {name: entry.path for entries in artifacts.values() for name, entry in entries.items()}
    assert found == {model.name: model.file for model in committed.models}


def test_dvc_lists_a_model_as_an_artifact(project, text):
    """A model's line is an entry of DVC's own `artifacts:`, with its file, of type model."""
    _, artifacts = resolved(project, text, PARAMS)
    (entry,) = artifacts["dvc.yaml"].items()
    assert (entry[0], entry[1].path, entry[1].type) == ("a-model", "models/m.bin", "model")


def test_dvc_hands_on_every_kind_of_value(project):
    """Booleans reach a stage as --name or --no-name, texts whole, null as None; a stage's name may have a dash."""
    params = {"my-stage": {"warm": True, "cold": False, "word": "a b", "nothing": None, "share": 0.5}}
    text = template.render(f'stages:\n{{{{ stage("my-stage", {OUT}) }}}}\n', params, BUILT).text
    arguments = split(resolved(project, text, params)[0]["my-stage"])
    after = arguments[arguments.index("stages/my-stage:0123456789ab") + 1 :]
    expected = "--out data/a/x.csv --warm --no-cold --word 'a b' --nothing None --share 0.5"
    assert after == shlex.split(expected)
    assert "$MY_STAGE_MEMORY" in arguments


# --- What only some stages need -------------------------------------------------------------------------------------


def test_a_gpu_and_memory_of_their_own_are_limits_of_the_environment():
    """gpus, shm and tmp reach Docker by variables, so that another value, in the block or in .env, reruns nothing."""
    found = template.render(f'{{{{ stage("one", {OUT}, gpus="all", shm="1g", tmp="8g") }}}}', {}, BUILT).stages["one"]
    other = template.render(f'{{{{ stage("one", {OUT}, gpus=2, shm="2g", tmp="9g") }}}}', {}, BUILT).stages["one"]
    command = split(found.command())
    assert "$ONE_GPUS_OPTION --shm-size $ONE_SHM" in " ".join(command) and "/tmp:size=$ONE_TMP" in command
    assert found.commands() == other.commands()
    assert found.given({}) == {
        "ONE_GPUS": "all", "ONE_GPUS_OPTION": '--gpus="all"', "ONE_SHM": "1g", "ONE_TMP": "8g"
    }  # fmt: skip


def test_dotenv_goes_before_a_block():
    """Of a limit that a block gives, the environment's value is the one that counts."""
    found = template.render(f'{{{{ stage("one", {OUT}, gpus="all", shm="1g") }}}}', {}, BUILT)
    given = {"ONE_GPUS": "2", "ONE_SHM": "2g"}
    assert found.given(given) == {**given, "ONE_GPUS_OPTION": '--gpus="2"'}
    assert found.given({"ONE_GPUS": "none"})["ONE_GPUS_OPTION"] == ""
    with pytest.raises(UserError, match=r"^ONE_GPUS is 'many'; expected all, a count"):
        found.given({"ONE_GPUS": "many"})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ('gpus="two"', "gpus is 'two'; expected"),
        ("gpus=0", "gpus is 0; expected"),
        ('shm="much"', "shm is 'much'; expected a size"),
        ("shm=1", "shm is 1; expected a size"),
        ('tmp="1g,exec"', "tmp is '1g,exec'; expected a size"),
        ('options=["--privileged"]', "would break a promise"),
    ],
)
def test_what_docker_would_not_take_is_refused(given, sentence):
    """A value that Docker would refuse, or read as more than it is, is told before anything runs."""
    assert sentence in refusal(f'stage("one", {OUT}, {given})')


def test_options_are_dockers_own_words():
    """Each option reaches Docker as one word, whatever is in it."""
    (stage,) = pipeline([f'stage("one", {OUT}, options=["--hostname=a b $c"])']).values()
    assert "--hostname=a b $c" in words(stage)
