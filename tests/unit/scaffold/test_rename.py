"""`make rename` changes names and nothing that runs."""

import pytest
import yaml

from scripts.pipeline import template
from scripts.project import UserError
from scripts.scaffold.rename import rename

SECOND = """\
{{ model("iris-second", file="models/model.json", metrics="metrics/metrics.json", rows="metrics/rows.csv") }}
plots:
"""


def edit(clone, name, old, new):
    text = (clone / name).read_text()
    assert old in text
    (clone / name).write_text(text.replace(old, new, 1))


def everywhere(clone):
    """Return all that users see of a model's name."""
    return "\n".join(
        (clone / name).read_text() for name in ("params.yaml", "dvc.yaml.template", "dvc.yaml", "README.md")
    )


def test_a_model_is_renamed(clone):
    """All places have the new name and none the old one; stages are the same, and so is every other byte."""
    before, was = template.load(clone), everywhere(clone)
    told = rename(clone, "tumor-classifier")
    now = template.load(clone)
    assert now.stages == before.stages
    assert [(each.name, each.experiment) for each in now.models] == [("tumor-classifier", "tumor-classifier")]
    expected = was.replace("iris-classifier is a", "tumor-classifier is a").replace("`iris-c", "`tumor-c")
    expected = expected.replace(" iris-classifier ", " tumor-classifier ").replace(
        "  iris-classifier:", "  tumor-classifier:"
    )
    assert everywhere(clone) == expected.replace("experiment: iris ", "experiment: tumor-classifier ")
    assert told[:2] == ["model       iris-classifier -> tumor-classifier", "experiment  iris -> tumor-classifier"]
    assert "params.yaml: lines 23, 24" in told and "README.md: line 3" in told
    assert not [line for line in told if line.startswith("still")]
    assert any(line.startswith("versions registered as iris-classifier stay so") for line in told)


def test_names_have_names_of_their_own(clone):
    """A second renaming, of a model and an experiment of one name, gives each its own; a third only one of them."""
    rename(clone, "a")
    rename(clone, "b", "an experiment")
    rename(clone, "b", "c")
    assert [(each.name, each.experiment) for each in template.load(clone).models] == [("b", "c")]


def test_one_of_two_models_is_renamed(clone):
    """With a second model, FROM= selects one; the experiment that they share keeps its name, unless one is given."""
    edit(clone, "dvc.yaml.template", "plots:\n- ", f"{SECOND}- ")
    rename(clone, "two", old="iris-second")
    rename(clone, "one", old="iris-classifier")
    assert [(each.name, each.experiment) for each in template.load(clone).models] == [("one", "iris"), ("two", "iris")]
    rename(clone, "one", "both", old="one")
    assert [(each.name, each.experiment) for each in template.load(clone).models] == [("one", "both"), ("two", "both")]


@pytest.mark.parametrize(
    ("name", "old", "new", "changed", "left"),
    [
        ("params.yaml", "seed: 58", "seed: 58 # of iris-classifier\n  note: iris-classifier", "seed: 58 # of tumors\n",
         "params.yaml, line 17"),
        ("params.yaml", "  model: iris-classifier #", '  model: "iris-classifier" # iris-classifier,',
         '  model: "tumors" # tumors,', None),
        ("dvc.yaml.template", "params.mlflow.model,", '"iris-" ~ "classifier" if false else "iris-classifier",',
         'false else "tumors",', None),
        ("dvc.yaml.template", "title: ROC", "title: ROC of iris-classifier", "title: ROC of tumors", None),
        ("dvc.yaml.template", '"metrics/roc.csv"', '"metrics/iris-classifier.csv"', '"metrics/iris-classifier.csv"',
         "dvc.yaml.template, line 20"),
    ],
    ids=["a parameter of a stage", "quotation marks", "the template", "a title", "a path"],
)  # fmt: skip
def test_what_is_a_name_is_renamed(clone, name, old, new, changed, left):
    """Where the word is a name, or prose, it changes; where a stage would run again, it stays and is listed."""
    edit(clone, name, old, new)
    if "roc" in old:
        edit(clone, name, "- metrics/roc.csv:", "- metrics/iris-classifier.csv:")
    if name == "dvc.yaml.template" and "mlflow" in old:
        edit(clone, "params.yaml", "  model: iris-classifier # its name in the registry\n", "")
    before = template.load(clone)
    told = rename(clone, "tumors")
    assert template.load(clone).stages == before.stages
    assert changed in (clone / name).read_text()
    assert [model.name for model in template.load(clone).models] == ["tumors"]
    assert ([line.strip() for line in told if f"  {left}" == line] or [None]) == [left]
    assert yaml.safe_load((clone / "dvc.yaml").read_text())["artifacts"].keys() == {"tumors"}


def test_prose_is_renamed_but_no_path(clone):
    """In the README, the word and MLflow's addresses have the new name; other addresses and paths stay."""
    text = (
        "\xff iris-classifier, http://x/#/models/iris-classifier/versions/1 models:/iris-classifier@x iris-classifier."
    )
    same = " github.com/me/iris-classifier/x docs/iris-classifier.md iris-classifier.md x-iris-classifier iris\r\n"
    (clone / "README.md").write_bytes((text + same).encode("latin-1"))
    rename(clone, "tumors")
    assert (clone / "README.md").read_bytes() == (text.replace("iris-classifier", "tumors") + same).encode("latin-1")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([""], r"MODEL is empty; expected the new name of the model, as in"),
        (["a/b"], r"MODEL is 'a/b': its name has other characters; expected letters, digits, - and _: correct it"),
        (["a\nb"], r"MODEL is 'a\\nb': its name has other characters"),
        (["x" * 201], r"MODEL is 'x+': its name has 201 characters; expected at most 200"),
        (["123"], r"MODEL is '123', which YAML does not read as this text; expected"),
        (["true"], r"MODEL is 'true', which YAML does not read as this text"),
        (["2026-11-27"], r"MODEL is '2026-11-27', which YAML does not read as this text"),
        (["a", "x: y"], r"EXPERIMENT is 'x: y', which YAML does not read as this text"),
        (["a", " x"], r"EXPERIMENT is ' x'; expected a name of at most 250 characters"),
        (["a", 'x"'], r"EXPERIMENT is 'x\"'; expected"),
        (
            ["iris-classifier", "iris"],
            r"the model is called iris-classifier already, and its experiment iris; expected",
        ),
        (["a", "b", "c"], r"FROM is 'c', which is no model of dvc.yaml.template; expected one of iris-classifier"),
    ],
)
def test_names_that_cannot_be_are_refused(clone, tree, words, says):
    """A name that cannot be is refused in one sentence, and no file differs from before."""
    before = tree()
    with pytest.raises(UserError, match=says) as caught:
        rename(clone, *words)
    assert "\n" not in str(caught.value)
    assert tree() == before


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("model(params.mlflow.model,", "model(params.mlflow.model | upper,", "IRIS-CLASSIFIER is put together"),
        ("model(params.mlflow.model,", 'model("iris-" ~ params.mlflow.model,', "iris-iris-classifier is put together"),
        ("plots:\n- ", SECOND + "- ", "FROM is empty; expected one of iris-classifier, iris-second, as in"),
        ("{{ model(params.mlflow.model,", "{# {{ model(params.mlflow.model,", None),
    ],
    ids=["a filter", "two parts", "two models", "no template"],
)
def test_a_name_that_is_no_word_is_refused(clone, tree, old, new, says):
    """A name that the template puts together is left to a person, and no file differs from before."""
    edit(clone, "dvc.yaml.template", old, new)
    before = tree()
    with pytest.raises(UserError, match=says):
        rename(clone, "tumors")
    assert tree() == before


def test_without_a_model_there_is_nothing_to_rename(clone):
    """A pipeline without a model says so."""
    text = (clone / "dvc.yaml.template").read_text()
    (clone / "dvc.yaml.template").write_text(text.partition("artifacts:")[0])
    params = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(params.partition("mlflow:")[0])
    with pytest.raises(UserError, match=r"dvc\.yaml\.template has no model; expected a line"):
        rename(clone, "tumors")
