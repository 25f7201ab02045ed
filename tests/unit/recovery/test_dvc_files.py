"""What a killed run leaves of DVC's own files: recognised, and put right."""

import pytest

from scripts.recovery import dvc_files

SIXTEENTHS = range(16)


def cut(text, sixteenths):
    return text[: len(text) * sixteenths // 16]


def in_cache(project):
    """The files of DVC's cache."""
    return {path for path in project.cache.rglob("*") if path.is_file()}


def only(project, kind):
    """The cached file of the one file, or folder, that dvc.lock names."""
    ((digest, _),) = dvc_files.sizes([str(project.dvc_lock)], kind)
    return dvc_files.cached(project, digest)


# --- locks


@pytest.mark.parametrize("idle", ["{}", '{"write": {}}', '{"read": {}, "write": {}}'])
def test_an_idle_list_of_locks_stays(project, idle):
    """What DVC leaves when all has ended well is no lock; a list that names a process, or was cut off, is cleared."""
    path = project.rwlock
    path.parent.mkdir(parents=True)
    path.write_text(idle)
    dvc_files.clear_locks(project)
    assert path.exists()
    for left in ('{"write": {"/a": {"pid": 1, "cmd": "dvc"}}}', idle[:-1], ""):
        path.write_text(left)
        dvc_files.clear_locks(project)
        assert not path.exists()


# --- dvc.lock


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_dvc_lock_that_was_cut_off_is_restored(project, sixteenths):
    """What a kill leaves of dvc.lock is replaced by the copy that was kept when it was whole."""
    whole = project.dvc_lock.read_text()
    assert dvc_files.keep_dvc_lock(project)
    project.dvc_lock.write_text(cut(whole, sixteenths))
    assert not dvc_files.keep_dvc_lock(project)
    dvc_files.restore_dvc_lock(project, ended_well=False)
    assert project.dvc_lock.read_text() == whole


def test_without_a_copy_half_a_dvc_lock_is_deleted(project):
    """The very first dvc.lock, half written by a run that was killed, is deleted; after a good run it is the user's."""
    project.dvc_lock.write_text(cut(project.dvc_lock.read_text(), 5))
    dvc_files.restore_dvc_lock(project, ended_well=True)
    assert project.dvc_lock.exists()
    dvc_files.restore_dvc_lock(project, ended_well=False)
    assert not project.dvc_lock.exists()


def test_a_merge_conflict_is_left_to_the_user(project):
    """A merge's conflict in dvc.lock stays as it is."""
    dvc_files.keep_dvc_lock(project)
    conflict = project.dvc_lock.read_text().replace("  fit:", "<<<<<<< HEAD\n  fit:")
    project.dvc_lock.write_text(conflict)
    dvc_files.restore_dvc_lock(project, ended_well=False)
    assert project.dvc_lock.read_text() == conflict


# --- the cache


@pytest.mark.parametrize("sixteenths", [*SIXTEENTHS, 16])
def test_a_cached_file_that_was_cut_off_is_deleted(project, sixteenths):
    """A file in DVC's cache whose size differs from that in dvc.lock is deleted; a whole one stays."""
    path = only(project, dvc_files.FILE)
    path.write_bytes(cut(path.read_bytes(), sixteenths))
    dvc_files.remove_damaged_files(project)
    assert path.exists() == (sixteenths == 16)


def test_a_cached_file_of_the_run_cache_is_checked_too(project):
    """So is a file that only an entry of the run-cache names."""
    path = only(project, dvc_files.FILE)
    entry = project.cache / "runs" / "ab" / "abc" / "def"
    entry.parent.mkdir(parents=True)
    project.dvc_lock.rename(entry)
    path.write_bytes(b"")
    dvc_files.remove_damaged_files(project)
    assert not path.exists()


def test_only_what_a_stage_restores_is_checked(project):
    """Of the run-cache a run checks the results of one key, when it needs them: there are many others."""
    path, key = only(project, dvc_files.FILE), "abc"
    entry = project.cache / "runs" / "ab" / key / "def"
    entry.parent.mkdir(parents=True)
    project.dvc_lock.rename(entry)
    path.write_bytes(b"")
    dvc_files.remove_damaged_files(project, run_cache=False)
    dvc_files.mend_results(project, "abd")
    assert path.exists()
    dvc_files.mend_results(project, key)
    assert not path.exists()
    entry.unlink()
    dvc_files.mend_results(project, key)
    assert not entry.parent.exists()


def test_a_whole_folder_stays(project):
    """A folder in DVC's cache whose files are whole loses none."""
    before = in_cache(project)
    dvc_files.remove_damaged_folders(project)
    assert in_cache(project) == before


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_cached_file_of_a_folder_that_was_cut_off_is_deleted(project, sixteenths):
    """Of a folder in DVC's cache, the file that is damaged is deleted, and no other."""
    before = in_cache(project)
    listing, file = only(project, dvc_files.FOLDER), only(project, dvc_files.FILE)
    path = next(path for path in sorted(before) if path not in (listing, file))
    path.write_bytes(cut(path.read_bytes(), sixteenths))
    dvc_files.remove_damaged_folders(project)
    assert in_cache(project) == before - {path}


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_list_of_a_folders_files_that_was_cut_off_is_deleted(project, sixteenths):
    """DVC cannot read half a list of a folder's files: it is deleted, so that the stage makes the folder again."""
    before = in_cache(project)
    path = only(project, dvc_files.FOLDER)
    path.write_bytes(cut(path.read_bytes(), sixteenths))
    dvc_files.remove_damaged_folders(project)
    assert in_cache(project) == before - {path}


def test_an_empty_entry_of_the_run_cache_is_deleted(project):
    """DVC makes an entry's folder before its file, and fails on it if a kill came in between."""
    empty, full = (project.cache / "runs" / "ab" / name for name in ("abc", "abd"))
    empty.mkdir(parents=True)
    full.mkdir()
    (full / "entry").touch()
    dvc_files.remove_empty_entries(project)
    assert (empty.exists(), full.exists()) == (False, True)
