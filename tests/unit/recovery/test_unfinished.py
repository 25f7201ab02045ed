"""What a killed run leaves half written, or of the folders that it worked in."""

import os

import pytest

from scripts.project import UserError, atomic_write, write_if_changed
from scripts.recovery import unfinished

DVC_YAML = """\
stages:
  split:
    cmd: split
    outs:
    - data/parts
    metrics:
    - metrics/split.json:
        cache: false
  fit:
    cmd: fit
    outs:
    - models/model
"""


def test_half_written_files_are_deleted_and_others_stay(project):
    """Temporary files beside outputs, in DVC's cache and in the clone's own folders are deleted, and nothing else."""
    project.dvc_yaml.write_text(DVC_YAML)
    half = [
        "models/.model.part", "metrics/.split.json.x.part", "data/.parts.part", ".dvc/cache/files/md5/ab/.x.tmp",
        ".dvc.yaml.part", ".env.x.part", ".dvc/.config.local.x.part", ".local/.dvc.lock.part",
        ".local/mlflow/.mlflow.backup.db.part",
    ]  # fmt: skip
    whole = ["models/model", ".dvc/cache/files/md5/ab/cd", "notes.part", "elsewhere/.mine.csv.part"]
    for name in (*half, *whole):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).touch()
    unfinished.remove_half_written(project)
    assert [name for name in half if (project.root / name).exists()] == []
    assert [name for name in whole if not (project.root / name).exists()] == []


@pytest.mark.parametrize("sixteenths", range(16))
def test_half_a_dvc_yaml_stops_nothing(project, sixteenths):
    """A dvc.yaml that was cut off names fewer outputs; the next run renders it anew."""
    project.dvc_yaml.write_text(DVC_YAML[: len(DVC_YAML) * sixteenths // 16])
    unfinished.remove_half_written(project)


def test_folders_that_were_worked_in_are_deleted(project, capsys):
    """What containers that started early, measurements and publishing worked on is deleted, whatever its modes."""
    folders = [project.prestart / "fit", project.work / "fit", project.score / "work", project.publish]
    for folder in folders:
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "file").touch()
        (folder / "inner").chmod(0)
    unfinished.remove_work_folders(project)
    assert [path for path in folders if path.exists()] == []
    assert len(capsys.readouterr().out.splitlines()) == 4
    unfinished.remove_work_folders(project)
    assert capsys.readouterr().out == ""


def test_a_link_in_such_a_folder_leads_nowhere(project):
    """A stage's link to a file outside costs that file neither its mode nor its place."""
    mine = project.root / "mine"
    mine.touch(mode=0o640)
    project.score.mkdir()
    (project.score / "link").symlink_to(mine)
    unfinished.remove_work_folders(project)
    assert mine.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.getuid() == 0, reason="root may delete everything")
def test_a_folder_that_cannot_be_deleted_is_named(project):
    """A folder of another owner ends in one sentence that names it."""
    project.score.mkdir()
    project.local.chmod(0o500)
    with pytest.raises(UserError, match=r"\.local/score cannot be deleted"):
        unfinished.remove_work_folders(project)
    project.local.chmod(0o700)


# --- how files are written, so that a kill leaves nothing half written


def test_a_reader_keeps_the_file_that_it_opened(project):
    """A file is replaced in one step, and nothing is left beside it."""
    path = project.root / "file"
    path.write_text("old")
    with path.open() as reader:
        atomic_write(path, "new", mode=0o600)
        assert reader.read() == "old"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert [found.name for found in project.root.glob(".*.part")] == []


def test_a_write_that_fails_leaves_the_old_file(project):
    """If the new content cannot be put in place, the old one stays, and nothing beside it."""
    (project.root / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OSError):
        atomic_write(project.root / "folder", "new")
    assert [found.name for found in project.root.glob(".*.part")] == []


def test_the_same_content_is_not_written_again(project):
    """A file that holds the text already keeps its time, which DVC and make look at."""
    path = project.root / "file"
    assert write_if_changed(path, "text")
    before = path.stat().st_mtime_ns
    assert not write_if_changed(path, "text")
    assert path.stat().st_mtime_ns == before
