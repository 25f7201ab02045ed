"""Tests of the optional room scripts/sweeps/; nothing here runs if the room is gone."""

import pytest

from scripts.pipeline import images, template
from scripts.project import ROOT, Project
from tests.unit.conftest import docker, empty_repository, git, project, runner  # noqa: F401

collect_ignore_glob = [] if (ROOT / "scripts" / "sweeps").is_dir() else ["*.py"]
TEMPLATE = """\
stages:
{{ stage("get", outputs={"out": "data/raw.csv"}) }}
{{ stage("split", inputs={"raw": "data/raw.csv"}, outputs={"train": "sets/train.csv", "test": "sets/test.csv"}) }}
{{ stage("fit", inputs={"train": "sets/train.csv"} if params.fit.kind == "a" else {"raw": "data/raw.csv"},
         outputs={"model": "models/model"}, metrics={"cv": "models/cv.json"}) }}
{{ stage("score", inputs={"model": "models/model", "test": "sets/test.csv"}, metrics={"metrics": "metrics/m.json"}) }}
{{ stage("tell", inputs={"metrics": "metrics/m.json"}, metrics={"told": "told/t.json"}) }}
artifacts:
{{ model("m", file="models/model", metrics="metrics/m.json") }}
"""
PARAMS = """\
# What the pipeline of these tests gets.
split:
  share: 0.2 # of the rows
  seed: 1
fit:
  depth: 3 # levels, 1 or more
  rate: 1.0e-3
  kind: a
  tree: {leaves: 4, kind: 'x y'} # of each tree
  sizes: [1, 2]
score:
  repeats: 2
promotion: {metric: accuracy, higher_is_better: true}
mlflow: {experiment: e, model: m}
"""
BLOCKS = ("get", "split", "fit", "score", "tell")
WANTED = {name: images.Image(name, f"stages/{name}:1", {}) for name in (images.BASE, *BLOCKS)}


@pytest.fixture
def pipeline(project: Project) -> template.Pipeline:  # noqa: F811
    """Return the pipeline that these tests look at; its template and params.yaml are in the project."""
    (project.root / template.TEMPLATE).write_text(TEMPLATE)
    project.params.write_text(PARAMS)
    return template.load(project.root, WANTED)
