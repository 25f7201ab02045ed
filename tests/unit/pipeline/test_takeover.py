"""What a stage left is a stranger's: declared outputs are taken over by name, and nothing that leads elsewhere."""

import os
import socket
import stat

import pytest

from scripts.pipeline import takeover
from scripts.pipeline.takeover import Limits, take_over
from scripts.project import UserError

PATHS = ["out/model.bin", "out/parts"]


@pytest.fixture
def work(project):
    """Return the folder that the stage `fit` has worked in, with its two outputs as they should be."""
    folder = project.work / "fit"
    (folder / "out" / "parts" / "sub").mkdir(parents=True)
    (folder / "out" / "model.bin").write_text("weights")
    (folder / "out" / "parts" / "sub" / "one").write_text("1")
    (project.root / ".env").write_text("TOKEN=secret\n")
    return folder


def files(folder):
    """Return the files below a folder with their contents, without those of git, DVC and this machine."""
    found = (path for path in folder.rglob("*") if path.is_file())
    kept = (path for path in found if path.relative_to(folder).parts[0] not in (".git", ".dvc", ".local"))
    return {str(path.relative_to(folder)): path.read_text() for path in kept}


TAKEN = {"out/model.bin": "weights", "out/parts/sub/one": "1", ".env": "TOKEN=secret\n"}


def test_declared_outputs_are_moved_by_name(project, work):
    """Files and folders get to their places, what else a stage wrote is deleted, and its folder is gone."""
    (work / "out" / "dvc.yaml").write_text("stages: {bad: {cmd: touch /tmp/bad}}\n")
    (work / "out" / "cache").symlink_to(project.root / ".git" / "hooks")
    (work / "elsewhere").mkdir()
    take_over(project, "fit", PATHS, Limits())
    assert files(project.root) == TAKEN and not work.exists()
    assert sorted(path.name for path in (project.root / "out").iterdir()) == ["model.bin", "parts"]


def test_what_was_there_before_is_replaced(project, work):
    """An output of an earlier run, a file or a folder, is no part of the new one."""
    (project.root / "out" / "parts").mkdir(parents=True)
    (project.root / "out" / "parts" / "old").write_text("old")
    (project.root / "out" / "model.bin").write_text("old")
    (project.root / "out" / "other.csv").write_text("of another stage")
    take_over(project, "fit", PATHS, Limits())
    assert files(project.root) == TAKEN | {"out/other.csv": "of another stage"}


def test_a_missing_output_is_left_to_dvc(project, work):
    """DVC says which outputs a stage has not made; the others are taken over."""
    (work / "out" / "model.bin").unlink()
    take_over(project, "fit", PATHS, Limits())
    assert "out/model.bin" not in files(project.root) and "out/parts/sub/one" in files(project.root)


def test_the_owner_may_do_all_with_what_is_taken_over(project, work):
    """A folder that nobody may enter, and a file that nobody may read, become ordinary ones."""
    (work / "out" / "parts" / "sub").chmod(0)
    (work / "out" / "model.bin").chmod(0)
    take_over(project, "fit", PATHS, Limits())
    assert (project.root / "out" / "parts" / "sub").stat().st_mode & 0o700 == 0o700
    assert (project.root / "out" / "model.bin").stat().st_mode & 0o600 == 0o600


def as_link(work, path, target):
    path.unlink()
    path.symlink_to(target)


def as_socket(path):
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name may have 108 bytes
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def as_holes(path):
    with path.open("wb") as file:
        file.write(b"begin")
        file.truncate(3 << 30)


def model(work):
    return work / "out" / "model.bin"


def part(work):
    return work / "out" / "parts" / "sub" / "one"


def folder_as_link(work, target):
    parts = work / "out" / "parts"
    takeover.remove_tree(parts)
    parts.symlink_to(target)


REFUSED = {
    "link to the settings": (lambda w: as_link(w, model(w), "../../../../.env"), "a symbolic link as out/model.bin"),
    "link to nothing": (lambda w: as_link(w, model(w), "nowhere"), "a symbolic link as out/model.bin"),
    "link to itself": (lambda w: as_link(w, model(w), "model.bin"), "a symbolic link as out/model.bin"),
    "link to /proc": (lambda w: as_link(w, model(w), "/proc/self/environ"), "a symbolic link as out/model.bin"),
    "link in a folder": (lambda w: as_link(w, part(w), "/etc/passwd"), "a symbolic link as out/parts/sub/one"),
    "link within the folder": (lambda w: as_link(w, part(w), ".."), "a symbolic link as out/parts/sub/one"),
    "folder as a link": (lambda w: folder_as_link(w, "/tmp"), "a symbolic link as out/parts"),
    "folder as a link to git's": (lambda w: folder_as_link(w, "../../../../.git"), "a symbolic link as out/parts"),
    "hard link": (lambda w: os.link(model(w), w / "out" / "other"), r"a file with a second name \(a hard link\) as"),
    "pipe": (lambda w: as_pipe(model(w)), "a named pipe as out/model.bin"),
    "pipe in a folder": (lambda w: as_pipe(part(w)), "a named pipe as out/parts/sub/one"),
    "socket": (lambda w: as_socket(model(w)), "a socket as out/model.bin"),
    "setuid": (lambda w: model(w).chmod(0o4755), "a program that changes its user"),
    "setgid": (lambda w: part(w).chmod(0o2755), "a program that changes its user"),
    "sparse": (lambda w: as_holes(model(w)), "a file of 3 GiB that is mostly holes"),
    "pipeline in a folder": (lambda w: (part(w).parent / "dvc.yaml").touch(), "a file of DVC's or git's own as"),
    "data file of DVC": (lambda w: (part(w).parent / "x.dvc").touch(), "a file of DVC's or git's own as"),
    "repository": (lambda w: (part(w).parent / ".git").mkdir(), "a file of DVC's or git's own as"),
    "repository of DVC": (lambda w: (part(w).parent / ".dvc").mkdir(), "a file of DVC's or git's own as"),
    "escape in a name": (lambda w: (part(w).parent / "a\x1b[2Jb").touch(), r"printed as out/parts/sub/a\?\[2Jb"),
    "line break in a name": (lambda w: (part(w).parent / "a\nb").touch(), r"cannot be printed as out/parts/sub/a\?b"),
    "no UTF-8 in a name": (lambda w: os.mknod(os.fsencode(part(w).parent) + b"/a\xff"), r"printed as .*/a\?"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_of_its_own_is_refused(project, work, name):
    """One sentence names the stage, what it left and where; nothing is taken over, and nothing else is touched."""
    spoil, told = REFUSED[name]
    spoil(work)
    with pytest.raises(UserError, match=f"^stage fit left .*{told}.*; expected a file, or a folder of files: correct"):
        take_over(project, "fit", PATHS, Limits())
    assert files(project.root) == {".env": "TOKEN=secret\n"}


def test_a_device_is_refused(project, work):
    """A device file, which root in a container could make, is no output."""
    model(work).unlink()
    try:
        os.mknod(model(work), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device")
    with pytest.raises(UserError, match=r"stage fit left a device as out/model\.bin"):
        take_over(project, "fit", PATHS, Limits())


def test_a_folder_on_the_way_to_an_output_is_looked_at(project, work):
    """A link in place of the folder around an output leads no further."""
    (work / "out" / "deep").symlink_to(project.root)
    with pytest.raises(UserError, match="stage fit left a symbolic link as out/deep"):
        take_over(project, "fit", ["out/deep/.env"], Limits())
    assert files(project.root) == {".env": "TOKEN=secret\n"}


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(size=7), "more than .* GiB as its outputs; expected at most that: correct it, or set FIT_OUTPUT_SIZE"),
        (
            Limits(files=4),
            "more than 4 files as its outputs; expected at most that: correct it, or set FIT_OUTPUT_FILES",
        ),
    ],
)
def test_outputs_are_bounded(project, work, limits, told):
    """The outputs of a stage have a size and a number, all together, that .env sets."""
    with pytest.raises(UserError, match=f"^stage fit left {told}"):
        take_over(project, "fit", PATHS, limits)
    assert files(project.root) == {".env": "TOKEN=secret\n"}


def test_limits_are_read_from_the_environment():
    """0 is no limit, a size is as Docker reads it, and what is neither is said."""
    assert Limits.of("my-fit", {"MY_FIT_OUTPUT_SIZE": "1.5g", "MY_FIT_OUTPUT_FILES": "10"}) == Limits(3 << 29, 10)
    assert Limits.of("fit", {"FIT_OUTPUT_SIZE": "0", "FIT_OUTPUT_FILES": "0"}) == Limits()
    with pytest.raises(UserError, match="FIT_OUTPUT_SIZE is much; expected one like 64g"):
        Limits.of("fit", {"FIT_OUTPUT_SIZE": "much"})
    with pytest.raises(UserError, match="FIT_OUTPUT_FILES is -1; expected a number"):
        Limits.of("fit", {"FIT_OUTPUT_FILES": "-1"})
