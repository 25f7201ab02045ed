"""`make start NEW=1` leaves a pipeline of one stage, and nothing of what was there."""

import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.pipeline import images, template
from scripts.project import UserError
from scripts.scaffold import new_stage
from scripts.scaffold.start import planned


def git(clone: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    return subprocess.run(["git", *identity, *arguments], cwd=clone, check=True, capture_output=True, text=True).stdout


def test_one_stage_is_left(clone):
    """One stage with its section is left, and no model; what a model would need stands there as a comment."""
    head = (clone / "dvc.yaml.template").read_text().partition("-#}")[0]
    planned(clone).apply()
    pipeline = template.load(clone)
    assert (list(pipeline.stages), pipeline.models, pipeline.params) == (["load"], (), {"load": {"rows": 10}})
    assert images.stage_names(clone / "stages") == ["load"]
    assert (clone / "dvc.yaml").read_text() == pipeline.text
    assert (clone / "dvc.yaml.template").read_text().startswith(f'{head}-#}}\nstages:\n{{{{ stage("load"')
    params = (clone / "params.yaml").read_text()
    assert "# mlflow:\n#   experiment: my-experiment # where" in params and "#   metric: accuracy #" in params
    assert "iris" not in params
    for later in ("mlflow", "promotion"):
        assert later in yaml.safe_load("\n".join(line.removeprefix("# ") for line in params.splitlines()[2:]
                                                 if "Uncomment" not in line))  # fmt: skip
    assert git(clone, "diff", "--cached", "--name-only") == ""
    assert "/data/load/\n" in (clone / ".gitignore").read_text()


def test_stages_are_added_to_it(clone):
    """Stages are added to the one that is left as to any other."""
    planned(clone).apply()
    new_stage.add(clone, "features", "load")
    assert template.load(clone).stages["features"].inputs == {"in_table": "data/load/table.csv"}


def test_what_would_be_done_is_shown(clone):
    """Each file that would go or be written is named, outputs too, and nothing is done yet."""
    (clone / "models").mkdir()
    (clone / "models" / "model.json").write_text("{}")
    (clone / "dvc.lock").write_text("schema: '2.0'\n")
    git(clone, "add", "dvc.lock")
    git(clone, "commit", "--quiet", "--message", "lock")
    before = git(clone, "ls-files", "--stage")
    plan = planned(clone)
    told = list(plan.told())
    stages = [f"delete  {path}" for path in git(clone, "ls-files", "stages").split() if "/base/" not in path]
    written = [".gitignore", "dvc.yaml", "dvc.yaml.template", "params.yaml", "stages/load/load.py",
               "stages/load/test_load.py"]  # fmt: skip
    kept = "delete  models/model.json, which DVC's cache keeps"
    assert sorted(told) == sorted([*stages, "delete  dvc.lock", kept, *(f"write   {path}" for path in written)])
    assert git(clone, "status", "--porcelain") == "" and git(clone, "ls-files", "--stage") == before
    plan.apply()
    assert not (clone / "models").exists() and not (clone / "dvc.lock").exists()


def test_a_name_may_be_that_of_an_old_stage(clone):
    """The stage that is left may be called like one that goes, which it replaces."""
    planned(clone, "train").apply()
    assert list(template.load(clone).stages) == ["train"]
    assert sorted(path.name for path in (clone / "stages/train").iterdir()) == ["test_train.py", "train.py"]


def test_files_beside_the_stages_stay(clone):
    """What lies in stages/ itself, and what git ignores in a stage's folder, is nobody's to delete."""
    (clone / "stages/README.md").write_text("how to\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "a document")
    (clone / "stages/train/__pycache__").mkdir()
    (clone / "stages/train/__pycache__/x.pyc").write_text("")
    (clone / "stages/ingest/.env").write_text("mine")
    planned(clone).apply()
    assert sorted(path.name for path in (clone / "stages").iterdir()) == ["README.md", "base", "ingest", "load"]
    assert (clone / "stages/ingest/.env").read_text() == "mine"


@pytest.mark.parametrize("dirty", ["params.yaml", "notes.txt", "stages/train/helper.py"])
def test_a_tree_that_is_not_clean_is_refused(clone, tree, dirty):
    """What git does not have is not put at risk."""
    (clone / dirty).write_text("mine\n")
    before = tree()
    with pytest.raises(UserError, match=rf"^{dirty} is not committed; expected a clean tree, .*: commit or stash it"):
        planned(clone)
    assert tree() == before


@pytest.mark.parametrize(("name", "says"), [("Load", "NAME is 'Load'"), ("json", "would hide"), ("base", "start from")])
def test_a_name_that_cannot_be_is_refused(clone, tree, name, says):
    """The stage's name is held to the same rules as that of any new one."""
    before = tree()
    with pytest.raises(UserError, match=says):
        planned(clone, name)
    assert tree() == before


def test_a_failure_leaves_all_as_it_was(clone, tree, monkeypatch):
    """If the pipeline that is left cannot be rendered, all files are as they were."""
    plan = planned(clone)
    before = tree()
    monkeypatch.setattr(template, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"No space left on device.*nothing was changed"):
        plan.apply()
    assert tree() == before
