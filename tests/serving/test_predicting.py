"""What `make predict` takes for a table, and where it writes."""

import pytest

from scripts.project import Project, UserError
from scripts.serving import model_image, predicting
from scripts.serving.verbs import push_image


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A clone with a table, one outside of it, and a disk that is mounted."""
    monkeypatch.setenv("RUNNER_MOUNTS", str(tmp_path / "disk"))
    for folder in ("clone/data", "clone/stages", "disk"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("clone/data/new.csv", "clone/new.txt", "disk/far.csv", "outside.csv"):
        (tmp_path / file).touch()
    return Project(tmp_path / "clone")


def test_a_table_of_the_clone_or_of_a_mounted_disk(project):
    """A path is taken from the clone's top; a link leads to what the engine can mount."""
    (project.root / "data" / "far.csv").symlink_to(project.root.parent / "disk" / "far.csv")
    for name in ("data/new.csv", "./data/../data/new.csv", "data/far.csv", str(project.root / "data" / "new.csv")):
        assert predicting.source_of(name, project).name in ("new.csv", "far.csv")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "IN is empty"),
        ("data", "is no file"),
        ("data/none.csv", "is no file"),
        ("../outside.csv", "lies outside of the clone"),
        ("/etc/passwd", "lies outside of the clone"),
        ("data/link.csv", "lies outside of the clone"),
        ("new.txt", "expected .csv or .parquet"),
    ],
)
def test_what_is_no_table(project, name, sentence):
    """What lies elsewhere, is no file, or has another suffix is refused in a sentence."""
    (project.root / "data" / "link.csv").symlink_to(project.root.parent / "outside.csv")
    with pytest.raises(UserError, match=sentence):
        predicting.source_of(name, project)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("data/new.csv", "is there already"),
        ("params.csv", "lies outside of the clone's folders"),
        ("../x.csv", "lies outside of the clone"),
        ("stages/x.csv", "lies in stages"),
        (".local/x.csv", "lies in .local"),
        ("data/x.parquet", "expected .csv, as IN does"),
    ],
)
def test_where_nothing_is_written(project, name, sentence):
    """Nothing is written over, outside of the clone's folders, or where code lies."""
    source = predicting.source_of("data/new.csv", project)
    with pytest.raises(UserError, match=sentence):
        predicting.target_of(name, source, project)
    assert predicting.target_of("", source, project) == project.root / "data" / "new.predictions.csv"


def test_an_images_name():
    """A model's name is made one that Docker takes."""
    assert model_image.name_of("Iris Classifier/2", 3, "ab" * 32) == "iris-classifier-2:3-abababababab"


def test_an_image_is_sent_to_a_registry_that_is_named(monkeypatch):
    """Without IMAGE_REGISTRY a sentence says so before anything is built."""
    monkeypatch.setenv("IMAGE_REGISTRY", "")
    with pytest.raises(UserError, match="IMAGE_REGISTRY is empty; expected the address of a registry"):
        push_image.main([])
