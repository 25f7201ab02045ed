"""What a notebook's container sees and may do, and in which stage's image it runs."""

import re

import pytest

from scripts.notebook import server
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import ROOT, Project, UserError

ENVIRONMENT = {
    "CLONE": "0123456789ab",
    "NOTEBOOK_MEMORY": "3g",
    "NOTEBOOK_PORT": "8888-8908",
    "MLFLOW_NETWORK": "pipeline-0123456789ab",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A clone with secrets, caches, data, and code."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "clone"
    for folder in (".git", ".dvc/cache", ".local", ".aws", "data/raw", "stages/fit", "notebooks", "a,b"):
        (root / folder).mkdir(parents=True)
    for file in (".env", ".env.old", "params.yaml"):
        (root / file).touch()
    return Project(root)


def shown(project):
    return {str(path): there for there, path in server.folders(project)}


def test_what_a_notebook_sees(project):
    """Folders of the clone, but no file of its top and nothing whose name begins with a dot."""
    assert shown(project) == {name: project.root / name for name in ("a,b", "data", "notebooks", "stages")}


@pytest.mark.parametrize("target", [".local", ".git", ".dvc/cache", ".env", ".", "..", "/", "nowhere"])
def test_a_link_shows_nothing_that_is_hidden(project, target):
    """A link to a hidden folder, to a folder around the clone, or to nothing is not followed."""
    (project.root / "link").symlink_to(target)
    assert "link" not in shown(project)


def test_a_link_to_data_elsewhere_is_followed(project):
    """Data on another disk is seen at its place in the clone."""
    disk = project.root.with_name("disk")
    disk.mkdir()
    (project.root / "big").symlink_to(disk)
    assert shown(project)["big"] == disk


def test_the_container_may_do_little(project):
    """Only notebooks/ can be written; no capability, no root file system, limits, and a port on this machine alone."""
    words = server.command("fit", "stages/notebook.fit:1", "a-name", project)
    mounts = [words[at + 1] for at, word in enumerate(words) if word == "--mount"]
    assert [line for line in mounts if not line.endswith(",readonly")] == [
        f"type=bind,src={project.root}/notebooks,dst=/work/notebooks"
    ]
    assert f"type=bind,src={project.root}/stages/fit,dst=/app,readonly" in mounts
    assert f'type=bind,"src={project.root}/a,b","dst=/work/a,b",readonly' in mounts
    line = " ".join(words)
    for option in (
        *("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--memory 3g", "--pids-limit 512"),
        *("--publish 127.0.0.1:8888-8908:8888", "--label pipeline.clone=0123456789ab", "--env JUPYTER_TOKEN "),
    ):
        assert option in line
    assert "JUPYTER_TOKEN=" not in line and "docker.sock" not in line


@pytest.mark.parametrize("target", ["stages", "data", "/tmp", "nowhere"])
def test_notebooks_must_be_a_folder(project, target):
    """A link in place of notebooks/, by which a notebook could write elsewhere, is refused."""
    (project.root / "notebooks").rmdir()
    (project.root / "notebooks").symlink_to(target)
    with pytest.raises(UserError, match=r"notebooks is a link; expected a folder of the clone"):
        server.make_folders(Pipeline("", {}), project)


def pipeline(*makers):
    """Return a pipeline of four stages, some of which make models; one is a foreach's."""
    names = ("get", "fit@fr", "fit@de", "rate")
    stages = {name: Stage(name, "stages/x:1", outputs={"out": f"{name}/x"}) for name in names}
    return Pipeline("", stages, [Model(f"m-{maker}", "m", "s", maker, "rate", "e", gate=None) for maker in makers])


@pytest.mark.parametrize(
    ("makers", "named", "expected"),
    [((), "", "get"), (("get", "fit@de"), "", "fit"), (("get",), "", "get"), (("get",), "rate", "rate")],
)
def test_in_whose_image_it_runs(makers, named, expected):
    """The stage that is named; else the last one that makes a model; else the first."""
    assert server.stage_of(pipeline(*makers), named) == expected


@pytest.mark.parametrize("name", ["fti", "fit@fr", "base", "../fit"])
def test_a_stage_that_is_none(name):
    """A name that is no stage's is told, with those that are."""
    with pytest.raises(UserError, match=rf"{re.escape(name)} is no stage; expected one of get, fit, rate: correct the"):
        server.stage_of(pipeline(), name)


def test_every_package_is_pinned_with_a_hash():
    """What is installed beside a stage's packages is known to the byte, as theirs are."""
    lines = re.sub(r"\\\n", " ", (ROOT / "scripts" / "notebook" / "requirements.txt").read_text()).splitlines()
    packages = [line for line in lines if re.match(r"\w", line)]
    assert any(line.startswith("jupyterlab==") for line in packages)
    assert [line for line in packages if not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []
