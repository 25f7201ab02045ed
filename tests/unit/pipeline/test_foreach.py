"""Several stages from one block: the pipeline has the stages that DVC makes of dvc.yaml, word for word."""

import shlex

import pytest
import yaml

from scripts.pipeline import dvc_adapter, images, template
from scripts.project import UserError

BUILT = {name: images.Image(name, f"stages/{name}:0123456789ab", {}) for name in ("base", "fit", "join")}
PARAMS = {"fit": {"seed": 1, "title": "it's a $title"}}
BLOCKS = {
    "values": 'foreach=["fr", "de"], outputs={"out": "data/${item}/x.csv"}',
    "numbers": 'foreach=[1, 2.5], outputs={"out": "data/n${item}/x.csv"}',
    "arguments": 'foreach={"fr": {"depth": 3, "name": "a b", "fast": true}, "de": {"depth": 4, "name": ""}},'
    ' outputs={"out": "data/${key}-${item.depth}/x.csv"}, metrics={"m": "data/${key}-${item.depth}/m.json"}',
    "mapping of values": 'foreach={"fr": 3, "de": 4}, outputs={"out": "data/${key}/${item}.csv"}',
    "matrix": 'matrix={"country": ["fr", "de"], "depth": [3, 4]}, outputs={"out": "data/${key}/x.csv"},'
    ' inputs={"given": "data/external/${item.country}.csv"}',
}


def render(block):
    return template.render(f'stages:\n{{{{ stage("fit", {block}) }}}}\n', PARAMS, BUILT)


def words(command):
    """Return the words of a command, as the shell splits them."""
    return shlex.split(command.replace("\\\n", " "))


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_dvc_makes_the_same_stages(project, block):
    """Each stage has the name, the files and the commands that DVC gives it, arguments and all."""
    pipeline = render(block)
    project.dvc_yaml.write_text(pipeline.text)
    project.params.write_text(yaml.safe_dump(PARAMS))
    with dvc_adapter.repository(project.root) as repo:
        by_dvc = dvc_adapter.plan(repo, ["fit"]).stages
        found = {
            name: ([*map(words, dvc_adapter.command_of(stage))], {out.def_path for out in stage.outs})
            for name, stage in by_dvc.items()
        }
    assert set(found) == set(pipeline.stages) and len(found) > 1
    for name, stage in pipeline.stages.items():
        empty, _, taken = stage.commands()
        docker_run = stage.docker_run(stage.mounts, parameters=dvc_adapter.arguments(stage.section))
        commands = [*map(words, [empty, stage.in_time(docker_run), taken])]
        assert found[name] == (commands, {*stage.written.values()})


def test_a_stage_may_be_asked_for_by_its_own_name_and_by_its_blocks(project):
    """`fit` stands for all stages of the block, `fit@de` for one."""
    project.dvc_yaml.write_text(render(BLOCKS["values"]).text)
    project.params.write_text(yaml.safe_dump(PARAMS))
    with dvc_adapter.repository(project.root) as repo:
        assert list(dvc_adapter.plan(repo, ["fit@de"]).stages) == ["fit@de"]
        assert set(dvc_adapter.plan(repo, ["fit"]).stages) == {"fit@fr", "fit@de"}


def test_limits_image_and_section_are_the_blocks(project):
    """All stages of a block share its limits, its image and its section of params.yaml."""
    for stage in render(BLOCKS["values"]).stages.values():
        assert (stage.prefix, stage.block, stage.image) == ("FIT", "fit", BUILT["fit"].tag)
        assert PARAMS["fit"].items() < stage.section.items()


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ('foreach=["fr", "de"], outputs={"out": "data/x/x.csv"}', "it and 'fit@fr' both write below data/x/"),
        ('foreach=["fr", "fr"], outputs={"out": "data/${item}/x.csv"}', "foreach has a value twice"),
        ('foreach=[], outputs={"out": "data/${item}/x.csv"}', "foreach or matrix is empty"),
        ('matrix={"a": []}, outputs={"out": "data/${key}/x.csv"}', "foreach or matrix is empty"),
        ('foreach="fr", outputs={"out": "data/${item}/x.csv"}', "foreach is 'fr'; expected"),
        ('matrix=["fr"], outputs={"out": "data/${item}/x.csv"}', r"matrix is \['fr'\]; expected"),
        ('matrix={"a": "fr"}, outputs={"out": "data/${item}/x.csv"}', "matrix is .*; expected"),
        ('foreach=["a/b"], outputs={"out": "data/${item}/x.csv"}', "'a/b' is to be part of a name"),
        ('foreach=[["a"]], outputs={"out": "data/${item}/x.csv"}', r"\['a'\] is to be part of a name"),
        ('foreach={"a": {"b": [1]}}, outputs={"out": "data/${key}/x.csv"}', r"a has the value \[1\]"),
        ('foreach={"a": {"b": 1}, "c": 2}, outputs={"out": "data/${key}/x.csv"}', "texts beside mappings"),
        ('foreach=["a"], outputs={"out": "data/${key.x}/x.csv"}', r"has \$\{key.x\}, which no value fills"),
        ('foreach={"a": {"seed": 1}}, outputs={"out": "data/${key}/x.csv"}', "seed is an argument of foreach and in"),
        ('foreach=[true], outputs={"out": "data/${item}/x.csv"}', "True is to be part of a name"),
        ('foreach=["a"], matrix={"b": [1]}, outputs={"out": "data/${key}/x.csv"}', "has foreach and matrix"),
        ('outputs={"out": "data/${item}/x.csv"}', "the path is"),
    ],
)
def test_values_that_cannot_work_are_refused(block, sentence):
    """What DVC would stumble over, or what would mix two stages' files, is told in one sentence."""
    with pytest.raises(UserError, match=sentence):
        render(block)
