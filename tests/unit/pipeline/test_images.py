"""An image's tag says what is in it: what changes a tag, and what does not."""

import io
import os
import shutil
import subprocess
import tarfile

import pytest

from scripts.pipeline import images
from scripts.pipeline.images import BASE, DOCKERFILE, SHAPE
from scripts.project import ROOT, UserError

FILES = {
    BASE: {DOCKERFILE: "FROM python", SHAPE: "FROM base", "kit.py": "KIT = 1", "requirements.txt": "pydantic==2"},
    "one": {"one.py": "ONE = 1", "requirements.in": "numpy", "requirements.txt": "numpy==2", "words.txt": "a b"},
    "two": {DOCKERFILE: "FROM alpine", "two.sh": "#!/bin/sh", "data/table.csv": "1,2"},
}
OF_STAGES = [(stage, file) for stage, files in FILES.items() if stage != BASE for file in files]
IN_NO_IMAGE = (
    "test_new.py",
    "new_test.py",
    "test_new.sh",
    "conftest.py",
    "tests/new.py",
    "a/tests/b/new.csv",
    "NEW.md",
)
IGNORED = ("__pycache__/new.pyc", "junk/new.csv", "new.swp")


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A repository of one commit with the folder stages/."""
    root = tmp_path_factory.mktemp("repository")
    for stage, files in FILES.items():
        write(root / "stages" / stage, files)
    write(root, {".gitignore": "__pycache__/\njunk/\n*.swp\n", "stages/README.md": "", "scripts/new.py": ""})
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "stages")
    return root


@pytest.fixture
def stages(committed, tmp_path):
    """The folder stages/ of a copy of that repository, to edit."""
    return shutil.copytree(committed, tmp_path / "repository") / "stages"


def tags(stages):
    return {name: image.tag for name, image in images.load(stages).items()}


def changed(stages, edit):
    """Return the images whose tags differ after `edit()`."""
    before = tags(stages)
    edit()
    after = tags(stages)
    return {name for name in before | after if before.get(name) != after.get(name)}


def append(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n# edited\n")


def members(image):
    """Return what is in an image's build context: type, mode and bytes, or a link's target, by name."""
    with tarfile.open(fileobj=io.BytesIO(image.context())) as archive:
        return {
            entry.name: (entry.type, entry.mode, entry.linkname or archive.extractfile(entry).read())
            for entry in archive.getmembers()
        }


# --- which files


@pytest.mark.parametrize(("stage", "file"), OF_STAGES)
def test_an_edit_changes_the_tag_of_its_stage_alone(stages, stage, file):
    """An edit of any file of a stage, whatever it is, reruns that stage and no other."""
    assert changed(stages, lambda: append(stages / stage / file)) == {stage}


@pytest.mark.parametrize("file", ["new.py", "data/new.csv", "apt.txt", ".hidden", "latest.txt", "contest.py"])
def test_a_new_file_counts_before_it_is_committed(stages, file):
    """A file that git does not know yet is in the image as well as one that is committed."""
    assert changed(stages, lambda: append(stages / "one" / file)) == {"one"}
    assert file in members(images.load(stages)["one"])


@pytest.mark.parametrize("file", [*FILES[BASE], "new.py"])
def test_an_edit_of_the_base_changes_every_tag(stages, file):
    """An edit of the base, also of the Dockerfile that it offers to stages, reruns all stages."""
    assert changed(stages, lambda: append(stages / BASE / file)) == set(FILES)


@pytest.mark.parametrize("stage", FILES)
@pytest.mark.parametrize("file", [*IN_NO_IMAGE, *IGNORED])
def test_tests_documents_and_what_git_ignores_change_no_tag(stages, stage, file):
    """Tests, Markdown and what git ignores rerun nothing."""
    assert changed(stages, lambda: append(stages / stage / file)) == set()


def test_what_git_ignores_counts_if_it_is_committed(stages):
    """A file that was committed in spite of .gitignore is one of the stage's files."""
    append(stages / "one" / "junk" / "kept.csv")
    git(stages, "add", "--force", "one/junk/kept.csv")
    assert "junk/kept.csv" in members(images.load(stages)["one"])


def test_a_deleted_file_is_gone(stages):
    """A file that is deleted, but still in git's index, is in no image."""
    assert changed(stages, lambda: (stages / "one" / "words.txt").unlink()) == {"one"}
    assert "words.txt" not in members(images.load(stages)["one"])


def test_an_edit_elsewhere_changes_no_tag(stages):
    """An edit below scripts/, or of stages/README.md, reruns nothing."""
    assert changed(stages, lambda: append(stages.parent / "scripts" / "new.py")) == set()
    assert changed(stages, lambda: append(stages / "README.md")) == set()


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("words.txt\n", {"a/b.csv", "a/c.txt"}),
        ("# a comment\n\n**/*.txt\n", {"a/b.csv", DOCKERFILE, ".dockerignore"}),
        ("a\n!a/c.txt\n", {"a/c.txt", "words.txt"}),
        ("*\n!words.txt\n", {"words.txt", DOCKERFILE, ".dockerignore"}),
    ],
    ids=["a file", "a pattern", "all but one of a folder", "all but one"],
)
def test_dockerignore_is_obeyed(stages, ignore, left):
    """What a .dockerignore names, in Docker's own way, is in no image and changes no tag; but a Dockerfile counts."""
    write(stages / "one", {"a/b.csv": "", "a/c.txt": "", DOCKERFILE: "FROM base", ".dockerignore": ignore})
    inside = set(images.load(stages)["one"].sources)
    assert left <= inside
    for file in {"a/b.csv", "a/c.txt", "words.txt"} - inside:
        assert changed(stages, lambda path=stages / "one" / file: append(path)) == set()


@pytest.mark.parametrize("stage", FILES)
def test_the_context_is_what_makes_the_tag(stages, stage):
    """A file gets into a stage's build context if, and only if, an edit of it changes the tag."""
    for file in (*IN_NO_IMAGE, *IGNORED, "helper.py", "sub/data.bin"):
        append(stages / stage / file)
    files = [path for path in (stages / stage).rglob("*") if path.is_file()]
    telling = {
        path.relative_to(stages / stage).as_posix() for path in files if changed(stages, lambda p=path: append(p))
    }
    context = {name: content for name, (_, _, content) in members(images.load(stages)[stage]).items()}
    expected = {name: (stages / stage / name).read_bytes() for name in telling}
    if stage == "one":
        expected[DOCKERFILE] = (stages / BASE / SHAPE).read_bytes()
    assert {"helper.py", "sub/data.bin"} <= telling
    assert context == expected


def test_a_stage_without_a_dockerfile_has_the_bases_shape(stages):
    """A folder without a Dockerfile is built with the one that the base offers; a Dockerfile of its own goes first."""
    loaded = images.load(stages)
    assert loaded["one"].sources[DOCKERFILE].data == b"FROM base"
    assert loaded["two"].sources[DOCKERFILE].data == b"FROM alpine"


# --- modes, times, links


def test_times_and_the_rights_of_others_change_nothing(stages):
    """A fresh checkout, with other times and another umask, has the same tags and the same build contexts."""
    before = {name: (image.tag, image.context()) for name, image in images.load(stages).items()}
    for path in stages.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes())
            path.chmod(0o666)
    assert {name: (image.tag, image.context()) for name, image in images.load(stages).items()} == before


def test_an_executable_stays_one(stages):
    """That a file can be executed is part of the tag and of the context."""
    program = stages / "two" / "two.sh"
    assert changed(stages, lambda: program.chmod(0o755)) == {"two"}
    modes = {name: mode for name, (_, mode, _) in members(images.load(stages)["two"]).items()}
    assert modes == {"two.sh": 0o755, DOCKERFILE: 0o644, "data/table.csv": 0o644}


def test_git_says_what_is_executable_where_the_file_system_cannot(stages):
    """On a file system on which every file looks executable, as on Windows, git's index is believed."""
    git(stages, "update-index", "--chmod=+x", "two/two.sh")
    (stages / "two" / "two.sh").chmod(0o755)
    before = tags(stages)
    git(stages, "config", "core.fileMode", "false")
    for path in stages.rglob("*"):
        path.chmod(0o777)
    assert tags(stages) == before


def test_a_link_inside_its_folder_is_kept(stages):
    """A link to another file of the folder is a link in the image, too, and its target is part of the tag."""
    link = stages / "one" / "sub" / "link"
    link.parent.mkdir()
    assert changed(stages, lambda: link.symlink_to("../words.txt")) == {"one"}
    assert members(images.load(stages)["one"])["sub/link"] == (tarfile.SYMTYPE, 0o755, "../words.txt")
    link.unlink()
    assert changed(stages, lambda: link.symlink_to("../one.py")) == {"one"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../two/two.sh", "../../../elsewhere", ".."])
def test_a_link_out_of_its_folder_is_refused(stages, target):
    """A link whose target cannot be in the image is refused in one sentence that names both."""
    (stages / "one" / "link").symlink_to(target)
    with pytest.raises(UserError, match=rf"one/link is a link to {target}, .*expected") as error:
        images.load(stages)
    assert "\n" not in str(error.value)


# --- what makes two tags differ


def test_renaming_a_file_changes_the_tag(stages):
    """A file under another name is another image, although its bytes are the same."""
    assert changed(stages, lambda: (stages / "one" / "one.py").rename(stages / "one" / "other.py")) == {"one"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": b"xy", "b": b""}, {"a": b"x", "b": b"y"}),
        ({"a": b"", "b": b"b"}, {"a": b"b\0b"}),
        ({"a": b"", "b": b"b"}, {"a": b"bb"}),
        ({"a": b"file\0b\x000\0"}, {"a": b"", "b": b""}),
        ({"a": b"", "ab": b""}, {"aa": b"", "b": b""}),
    ],
    ids=["contents", "a name into contents", "a name without a mark into contents", "a file into contents", "names"],
)
def test_moving_bytes_between_files_changes_the_tag(before, after):
    """Two folders whose files are the same only if they are written one after another have two tags."""
    sources = [{path: images.Source(data) for path, data in files.items()} for files in (before, after)]
    assert images.digest(sources[0]) != images.digest(sources[1])


def test_moving_a_file_to_the_base_changes_the_tag():
    """A file of a stage is not the same file of the base."""
    one, two = {"a": images.Source(b"1")}, {"b": images.Source(b"2")}
    assert images.digest(one, two) != images.digest(one | two, {}) != images.digest({}, one | two)


def test_a_link_is_not_a_file_with_its_text():
    """A file, an executable and a link whose bytes are the same are three images."""
    assert len({images.digest({"a": images.Source(b"b", kind)}) for kind in ("file", "executable", "link")}) == 3


def test_an_edit_between_tag_and_build_does_not_get_in(stages):
    """Each file is read once: what is built under a tag is what the tag was made from, whatever is edited meanwhile."""
    image = images.load(stages)["one"]
    before = members(image)
    append(stages / "one" / "one.py")
    assert members(image) == before


# --- which folders


def test_a_folder_with_files_is_a_stage(stages):
    """A new stage is found by its folder and changes no other tag; one of tests and notes, or hidden, is none."""

    def add():
        append(stages / "my-stage" / "my-stage.py")
        append(stages / "notes" / "notes.md")
        append(stages / "notes" / "test_notes.py")
        append(stages / ".tool" / "settings.json")

    assert changed(stages, add) == {"my-stage"}
    assert images.stage_names(stages) == ["my-stage", "one", "two"]


def test_a_deleted_folder_is_no_stage(stages):
    """A folder that is gone, but not yet in git, is no stage."""
    shutil.rmtree(stages / "one")
    assert images.stage_names(stages) == ["two"]


@pytest.mark.parametrize("name", ["Mine", "my stage", "mine-", "my.stage", "my___stage"])
def test_a_name_that_no_image_can_have_is_refused(stages, name):
    """A folder whose name Docker or DVC would refuse is refused in one sentence with what is allowed."""
    append(stages / name / "mine.py")
    with pytest.raises(UserError, match=rf"stages/{name} cannot be a stage's name; expected"):
        images.load(stages)


def test_the_base_comes_first(stages):
    """The base is built before the stages, and is none itself."""
    assert next(iter(images.load(stages))) == BASE and BASE not in images.stage_names(stages)


def test_without_a_base_there_is_no_image(stages):
    """A base that was deleted is missed in one sentence."""
    shutil.rmtree(stages / BASE)
    with pytest.raises(UserError, match="base has no Dockerfile; expected"):
        images.load(stages)


def test_what_git_cannot_list_is_refused(stages, tmp_path):
    """Without a git repository, and without the folder, one sentence says so."""
    with pytest.raises(UserError, match=r"plain is not there; expected"):
        images.load(tmp_path / "plain")
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match=r"git cannot list the files below .*plain: .*; expected a git repository"):
        images.load(tmp_path / "plain")


@pytest.mark.parametrize("folder", ["one/library", "theirs"])
def test_a_repository_inside_a_stage_is_refused(stages, folder):
    """The files of another repository, which git does not list here, are not left out in silence."""
    append(stages / folder / "new.py")
    git(stages / folder, "init", "--quiet")
    git(stages / folder, "add", "--all")
    git(stages / folder, "commit", "--quiet", "--message", "library")
    with pytest.raises(UserError, match=rf"{folder} is a git repository of its own, .*expected"):
        images.load(stages)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_that_cannot_be_read_is_refused(stages):
    """A file that the user may not read is named in one sentence."""
    (stages / "one" / "words.txt").chmod(0)
    with pytest.raises(UserError, match=r"one/words\.txt cannot be read by uid \d+; expected"):
        images.load(stages)


@pytest.mark.parametrize("name", ["a b.txt", "caf\u00e9.txt", "tab\there.txt", "line\nbreak.txt", "-n", "100644 x.txt"])
def test_any_name_of_a_file_is_taken(stages, name):
    """A file gets into its image under whatever name it has, committed or not."""
    append(stages / "one" / name)
    before = tags(stages)
    assert name in members(images.load(stages)["one"])
    git(stages, "add", "--all")
    assert tags(stages) == before


def test_a_worktree_has_the_tags_of_its_clone(stages, tmp_path):
    """In a worktree, whose files git looks after elsewhere, the same files make the same tags."""
    before = tags(stages)
    git(stages, "worktree", "add", "--quiet", "--detach", str(tmp_path / "worktree"))
    assert tags(tmp_path / "worktree" / "stages") == before


# --- the project's own


def test_a_tag_is_one_that_docker_accepts():
    """Every tag of the project names its folder and ends in 12 hex digits."""
    for name, image in images.load().items():
        repository, _, digest = image.tag.partition(":")
        assert repository == f"stages/{name}" and len(digest) == 12 and int(digest, 16) >= 0


def test_the_fixture_projects_stages_are_found(tmp_path):
    """The stages of tests/project/, laid beside the base, are an image each, with their data files."""
    shutil.copytree(ROOT / "tests" / "project" / "stages", tmp_path / "stages")
    shutil.copytree(ROOT / "stages" / BASE, tmp_path / "stages" / BASE)
    git(tmp_path, "init", "--quiet")
    found = images.load(tmp_path / "stages")
    assert set(found) == {BASE, *(path.name for path in (ROOT / "tests" / "project" / "stages").iterdir())}
    assert any(path.endswith(".csv") for image in found.values() for path in image.sources)
