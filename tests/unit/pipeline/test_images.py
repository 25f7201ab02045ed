"""An image's tag says what is in it: what changes a tag, and what does not."""

import io
import shutil
import tarfile

import pytest

from scripts.pipeline import images
from scripts.project import ROOT

STAGES = images.stage_names()
IN_NO_IMAGE = ("test_new.py", "conftest.py", "README.md", "requirements.in", "__pycache__/new.cpython-313.pyc", "a.csv")


@pytest.fixture
def stages(tmp_path):
    """A copy of stages/, to edit."""
    return shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))


def tags(stages):
    return {name: image.tag for name, image in images.load(stages).items()}


def changed(stages, edit):
    """The images whose tags differ after `edit()`."""
    before = tags(stages)
    edit()
    after = tags(stages)
    return {name for name in before | after if before.get(name) != after.get(name)}


def append(path):
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("\n# edited\n")


def members(image):
    """What is in an image's build context: bytes by name."""
    with tarfile.open(fileobj=io.BytesIO(image.context())) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive.getmembers()}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("file", ["{stage}.py", "new.py", "Dockerfile", "requirements.txt"])
def test_an_edit_changes_the_tag_of_its_stage_alone(stages, stage, file):
    """An edit of a stage's code, Dockerfile or requirements.txt reruns that stage and no other."""
    assert changed(stages, lambda: append(stages / stage / file.format(stage=stage))) == {stage}


@pytest.mark.parametrize("file", ["stagekit.py", "new.py", "Dockerfile", "requirements.txt"])
def test_an_edit_of_the_base_changes_every_tag(stages, file):
    """An edit of the base reruns all stages."""
    assert changed(stages, lambda: append(stages / "base" / file)) == {"base", *STAGES}


@pytest.mark.parametrize("stage", ["base", *STAGES])
@pytest.mark.parametrize("file", IN_NO_IMAGE)
def test_tests_and_notes_change_no_tag(stages, stage, file):
    """Tests, notes, unpinned requirements and what Python or a user leaves in the folder rerun nothing."""
    assert changed(stages, lambda: append(stages / stage / file)) == set()


def test_modes_and_times_change_nothing(stages):
    """A fresh checkout, with other times and modes, has the same tags and the same build contexts."""
    before = {name: (image.tag, image.context()) for name, image in images.load(stages).items()}
    for path in stages.rglob("*.py"):
        path.chmod(0o700)
        path.write_bytes(path.read_bytes())
    assert {name: (image.tag, image.context()) for name, image in images.load(stages).items()} == before


@pytest.mark.parametrize("stage", STAGES)
def test_renaming_a_file_changes_the_tag(stages, stage):
    """A file under another name is another image, although its bytes are the same."""
    assert changed(stages, lambda: (stages / stage / f"{stage}.py").rename(stages / stage / "other.py")) == {stage}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a.py": "xy", "b.py": ""}, {"a.py": "x", "b.py": "y"}),
        ({"a.py": "", "b.py": "b"}, {"a.py": "b.py\0b"}),
        ({"a.py": "", "b.py": "b"}, {"a.py": "b.pyb"}),
        ({"a.py": "b.py\x000\x00"}, {"a.py": "", "b.py": ""}),
        ({"a.py": "", "ab.py": ""}, {"aa.py": "", "b.py": ""}),
    ],
    ids=["contents", "a name into contents", "a name without a mark into contents", "a file into contents", "names"],
)
def test_moving_bytes_between_files_changes_the_tag(tmp_path, before, after):
    """Two folders whose files are the same only when written one after another have two tags."""
    found = []
    for name, files in (("before", before), ("after", after)):
        folder = tmp_path / name / "one"
        folder.mkdir(parents=True)
        for path, content in {"Dockerfile": "", **files}.items():
            (folder / path).write_text(content)
        found.append(tags(folder.parent)["one"])
    assert found[0] != found[1]


@pytest.mark.parametrize("stage", ["base", *STAGES])
def test_the_context_is_what_makes_the_tag(stages, stage):
    """A file gets into a stage's build context if, and only if, an edit of it changes the tag."""
    for file in (*IN_NO_IMAGE, "helper.py"):
        append(stages / stage / file)
    files = [path for path in (stages / stage).rglob("*") if path.is_file()]
    telling = {
        path.relative_to(stages / stage).as_posix() for path in files if changed(stages, lambda p=path: append(p))
    }
    context = members(images.load(stages)[stage])
    assert {"Dockerfile", "requirements.txt", "helper.py"} <= telling
    assert set(context) == telling
    assert context == {name: (stages / stage / name).read_bytes() for name in telling}


def test_an_edit_between_tag_and_build_does_not_get_in(stages):
    """Each file is read once: what is built under a tag is what the tag was made from, whatever is edited meanwhile."""
    image = images.load(stages)[STAGES[0]]
    before = members(image)
    append(stages / STAGES[0] / "Dockerfile")
    assert members(image) == before


def test_a_folder_with_a_dockerfile_is_an_image(stages):
    """A new stage is found by its Dockerfile, and changes no other tag; a folder without one is no image."""

    def add():
        append(stages / "mine" / "Dockerfile")
        append(stages / "notes" / "notes.py")

    assert changed(stages, add) == {"mine"}
    assert "mine" in images.stage_names(stages) and "notes" not in images.load(stages)


def test_the_base_is_no_stage_and_comes_first():
    """The base is built before the stages, and is none itself."""
    assert next(iter(images.load())) == "base" and "base" not in STAGES


def test_a_tag_is_one_that_docker_accepts():
    """Every tag names its folder and ends in 12 hex digits."""
    for name, image in images.load().items():
        repository, _, digest = image.tag.partition(":")
        assert repository == f"stages/{name}" and len(digest) == 12 and int(digest, 16) >= 0
