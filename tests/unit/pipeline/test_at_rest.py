"""What a run that has nothing to do notes, and what makes the note worthless."""

import os
import shutil

import pytest

from scripts.pipeline.at_rest import Look

ENVIRON = {"TRAIN_MEMORY": "1g", "MLFLOW_TRACKING_URI": "http://mlflow:5000", "HOSTNAME": "a"}
FACT = [["model", "digest", 0.5]]


@pytest.fixture
def kept(tmp_path):
    """Return a file outside of the clone, by which DVC decides as well."""
    path = tmp_path / "elsewhere" / "kept.csv"
    path.parent.mkdir()
    path.write_text("1\n")
    return path


@pytest.fixture
def clone(project, kept):
    """Return a clone that has an input, a folder, links, and an object in DVC's cache."""
    data = project.root / "data"
    for path in (data / "raw.csv", data / "many" / "one" / "a.csv", project.cache / "files" / "object"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1\n")
    (data / "outside.csv").symlink_to(kept)
    (data / "broken.csv").symlink_to("nowhere.csv")
    project.dvc_lock.write_text("stages: {}\n")
    return project


def look(project, *targets, **variables):
    return Look(project, list(targets), ENVIRON | variables)


def look_and_note(project, kept, *, to_do=False):
    seen = look(project)
    data = project.root / "data"
    seen.at(map(str, [data / "raw.csv", data / "outside.csv", project.cache / "files" / "object", kept.parent]))
    seen.found_nothing_to_do = not to_do
    seen.note(FACT)


def write_as_if_nothing_was(path, text):
    """Change a file, with its size, inode and mtime as they were: what DVC takes for unchanged."""
    before = path.stat()
    with path.open("r+") as file:
        file.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)


def exchange(path):
    """Put an equal file in a file's place, with its times."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


def relink(path, target):
    path.unlink()
    path.symlink_to(target)


def test_the_same_is_known(clone, kept):
    """What was noted is known as often as the same is seen, whatever the terminal, the runner, and DVC's own files."""
    look_and_note(clone, kept)
    assert look(clone).known() == FACT
    (clone.root / ".dvc" / "tmp" / "lock").touch()
    (clone.local / "logs").mkdir()
    (clone.cache / "files" / "of another commit").touch()
    assert look(clone, HOSTNAME="b", TERM="dumb", LIFELINE="1").known() == FACT


CHANGES = {
    "an input, by a program that hides it": lambda clone: write_as_if_nothing_was(clone.root / "data/raw.csv", "2"),
    "an input, for an equal one": lambda clone: exchange(clone.root / "data/raw.csv"),
    "an input's mode": lambda clone: (clone.root / "data/raw.csv").chmod(0o600),
    "a file deep in a folder": lambda clone: write_as_if_nothing_was(clone.root / "data/many/one/a.csv", "2"),
    "a new file": lambda clone: (clone.root / "data/many/b.csv.dvc").touch(),
    "a file less": lambda clone: (clone.root / "data/raw.csv").unlink(),
    "an empty folder": lambda clone: (clone.root / "data/empty").mkdir(),
    "dvc.lock": lambda clone: write_as_if_nothing_was(clone.dvc_lock, "S"),
    "DVC's settings": lambda clone: clone.dvc_config_local.write_text("[core]\n"),
    "an object of the cache": lambda clone: (clone.cache / "files/object").unlink(),
    "a damaged object": lambda clone: write_as_if_nothing_was(clone.cache / "files/object", "2"),
    "what a link leads to": lambda clone: write_as_if_nothing_was(clone.root / "data/outside.csv", "2"),
    "where a link leads": lambda clone: relink(clone.root / "data/outside.csv", "raw.csv"),
    "a link that leads somewhere now": lambda clone: (clone.root / "data/nowhere.csv").touch(),
    "what git ignores": lambda clone: (clone.root / ".git/info/exclude").write_text("*.py\n"),
    "what git knows": lambda clone: (clone.root / ".git/index").write_text("new"),
    "the note": lambda clone: (clone.local / "at-rest.json").write_text("{"),
    "a note of something else": lambda clone: (clone.local / "at-rest.json").write_text("[]"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_has_changed_is_not_known(clone, kept, change):
    """After any change nothing is known, and DVC is asked."""
    look_and_note(clone, kept)
    change(clone)
    assert look(clone).known() is None


def test_what_lies_elsewhere_counts(clone, kept):
    """A folder outside of the clone counts with all that is in it."""
    look_and_note(clone, kept)
    (kept.parent / "new.csv").touch()
    assert look(clone).known() is None


@pytest.mark.parametrize(
    ("targets", "variables"),
    [(["train"], {}), ([], {"TRAIN_MEMORY": "2g"}), ([], {"NEW": ""}), ([], {"MLFLOW_TRACKING_URI": "http://other"})],
)
def test_another_question_is_not_known(clone, kept, targets, variables):
    """Other targets, and other settings, are another question."""
    look_and_note(clone, kept)
    assert look(clone, *targets, **variables).known() is None


def test_only_rest_is_noted(clone, kept):
    """A run that had something to do notes nothing, and neither does one with files that are on no disk here."""
    look_and_note(clone, kept, to_do=True)
    assert look(clone).known() is None
    seen = look(clone)
    seen.at(None)
    seen.found_nothing_to_do = True
    seen.note(FACT)
    assert look(clone).known() is None


def test_a_change_while_dvc_looks_is_not_lost(clone, kept):
    """What is noted was seen before DVC looked: whatever changes from then on makes the note worthless."""
    seen = look(clone)
    seen.at([str(kept)])
    seen.found_nothing_to_do = True
    write_as_if_nothing_was(kept, "2")
    seen.note(FACT)
    assert look(clone).known() is None


def test_no_secret_is_noted(clone, kept):
    """The note tells nothing of the values of the variables."""
    look_and_note(clone, kept)
    assert "mlflow:5000" not in (clone.local / "at-rest.json").read_text()


def test_a_worktree_has_its_index_elsewhere(clone, kept, git):
    """In a worktree, of which .git is a file, the index is looked at where it is."""
    git("commit", "--quiet", "--allow-empty", "--message", "empty")
    git("worktree", "add", "--quiet", "../tree")
    tree = type(clone)(clone.root.parent / "tree")
    tree.local.mkdir()
    seen = look(tree)
    seen.at([])
    seen.found_nothing_to_do = True
    seen.note(FACT)
    assert look(tree).known() == FACT
    (clone.root / ".git/worktrees/tree/index").write_text("new")
    assert look(tree).known() is None
