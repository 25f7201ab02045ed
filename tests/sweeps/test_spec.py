"""What sweep.yaml may say, and the sentence on what it may not."""

import json
import re

import pytest

from scripts.pipeline import params
from scripts.project import UserError
from scripts.sweeps import spec
from scripts.sweeps.spec import Choices, Span
from tests.sweeps.conftest import WANTED

GOOD = """\
parameters:
  fit.depth: [2, 4, null]
  fit.rate: {low: 1.0e-5, high: 0.1, log: true}
  split.share: {low: 0.1, high: 0.4, step: 0.1}
sampler: tpe
trials: 24
batch: 3
seed: 7
objective: {metric: cv_accuracy, goal: maximize}
"""


def checked(text, pipeline, project):
    sweep = spec.parse(text)
    target = spec.target_of(sweep, pipeline, project)
    spec.check(sweep, target, pipeline, params.read_params(project.params), WANTED, project.root)
    return target


def test_a_sweep_is_read(pipeline, project):
    """Lists, ranges, and all else is there as it was written; the objective is found in what is measured without test
    data."""
    sweep = spec.parse(GOOD)
    assert sweep.parameters == {
        "fit.depth": Choices((2, 4, None)),
        "fit.rate": Span(1e-5, 0.1, None, True),
        "split.share": Span(0.1, 0.4, 0.1, False),
    }
    assert (sweep.sampler, sweep.trials, sweep.batch, sweep.seed) == ("tpe", 24, 3, 7)
    assert sweep.parameters["split.share"].values == (0.1, 0.2, 0.3, 0.4)
    assert checked(GOOD, pipeline, project) == ("models/cv.json", "fit", ())


def test_a_grid_has_as_many_trials_as_points():
    """Without a number of trials a grid has all of its points; with one that is too large, too."""
    text = GOOD.replace("tpe", "grid").replace("{low: 1.0e-5, high: 0.1, log: true}", "[1, 2]")
    assert spec.parse(text.replace("trials: 24\n", "")).trials == spec.parse(text).trials == 24
    assert spec.parse(text.replace("24", "100")).trials == 24
    assert spec.parse(text.replace("24", "5")).trials == 5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sampler: tpe\n", "", "sweep.sampler is missing; expected a value: correct it in sweep.yaml"),
        ("tpe", "bayes", "sweep.sampler is 'bayes'; expected one of grid, random, tpe: correct it in sweep.yaml"),
        ("trials: 24", "trials: many", "sweep.trials is 'many'; expected a whole number from 1 to 10000"),
        ("trials: 24\n", "", "sweep.trials is missing; expected how many"),
        ("tpe", "grid", "sweep.parameters.fit.rate has no step, but a grid has a point for each value"),
        ("batch: 3", "batch: true", "sweep.batch is True; expected a whole number from 1 to 1000"),
        ("seed: 7", "sed: 7", "sweep.sed is not known; expected no such key"),
        ("maximize", "max", "sweep.objective.goal is 'max'; expected one of maximize, minimize"),
        ("[2, 4, null]", "[]", "sweep.parameters.fit.depth is []; expected plain values"),
        ("[2, 4, null]", "[2, 2]", "sweep.parameters.fit.depth is [2, 2]; expected each value once"),
        ("[2, 4, null]", "[[1], 2]", "sweep.parameters.fit.depth is [[1], 2]; expected plain values"),
        ("[2, 4, null]", "[.nan]", "sweep.parameters.fit.depth is [nan]; expected a finite number"),
        ("[2, 4, null]", "3", "sweep.parameters.fit.depth is 3; expected a list of values, or low and high"),
        ("low: 0.1, high: 0.4", "low: 0.4, high: 0.1", "expected a low that is below high"),
        ("low: 0.1, high", "low: much, high", "'low': 'much', 'high': 0.4, 'step': 0.1}; expected a number"),
        ("step: 0.1", "step: 0", "expected a step above 0 that is no larger than high - low"),
        ("low: 1.0e-5", "low: 0", "expected with log a low above 0, and no step"),
        ("step: 0.1", "stp: 0.1", "expected a list of values, or low and high, with step or log if you like"),
        ("  fit.depth", "  depth", "names with their section, as 'fit.depth', and not 'depth'"),
        ("parameters:", "parameters: [", "sweep.yaml is no YAML"),
        (GOOD, "- a\n", "sweep.yaml holds no 'key: value' lines"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(old, new, says):
    """Each mistake in the file by itself is named with what was found, what is expected and where to correct it."""
    assert old in GOOD
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        spec.parse(GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("fit.depth", "fit.dept", "has fit.dept, which params.yaml does not have; did you mean fit.depth?"),
        (
            "fit.depth",
            "nothing.x",
            "which params.yaml does not have; expected one of split.share, split.seed, fit.depth",
        ),
        ("fit.depth", "score.repeats", "has score.repeats, which changes nothing that fit measures; expected one of"),
        ("fit.depth", "fit.sizes", "fit.sizes is [1, 2] in params.yaml; expected a single value there"),
        ("fit.depth: [2, 4, null]", "fit.kind: [a, b]", "fit.kind 'b' makes another pipeline"),
        ("goal: max", "file: models/c.json, goal: max", "no stage measures cv_accuracy in models/c.json; expected a"),
    ],
)
def test_what_does_not_fit_the_pipeline_is_said(old, new, says, pipeline, project):
    """A parameter that is none, or changes nothing, and an objective that no stage measures, are named."""
    with pytest.raises(UserError, match=re.escape(says)):
        checked(GOOD.replace(old, new, 1), pipeline, project)


def test_a_nested_parameter_has_its_path(pipeline, project):
    """A value that lies deeper is named by all keys that lead to it."""
    checked(GOOD.replace("fit.depth", "fit.tree.leaves"), pipeline, project)


@pytest.mark.parametrize(("file", "stage"), [("metrics/m.json", "score"), ("told/t.json", "tell")])
def test_an_objective_on_the_test_data_is_noticed(file, stage, pipeline, project):
    """A scorer's own number, or one that is made of it, is known to be measured on the test data; so it is where only
    such a file here has the number."""
    text = GOOD.replace("goal: max", f"file: {file}, goal: max")
    assert checked(text, pipeline, project) == (file, stage, ("sets/test.csv",))
    path = project.root / file
    path.parent.mkdir()
    path.write_text(json.dumps({"cv_accuracy": 1}))
    assert checked(GOOD, pipeline, project) == (file, stage, ("sets/test.csv",))


def test_an_objective_that_nobody_measures_fairly_is_refused(pipeline, project):
    """Without a metrics file that is measured without test data, one is asked for."""
    file = project.root / "dvc.yaml.template"
    file.write_text(file.read_text().replace(', metrics={"cv": "models/cv.json"}', ""))
    from scripts.pipeline import template

    with pytest.raises(UserError, match="not clear which stage measures cv_accuracy; expected a stage with a metrics"):
        checked(GOOD, template.load(project.root, WANTED), project)


def test_values_are_laid_over_params():
    """The values of a trial change what they name, at any depth, and nothing else."""
    before = {"a": {"b": {"c": 1, "d": 2}}, "e": {"f": 3}}
    assert spec.with_values(before, {"a.b.c": 9, "e.f": None}) == {"a": {"b": {"c": 9, "d": 2}}, "e": {"f": None}}
    assert before["a"]["b"]["c"] == 1
