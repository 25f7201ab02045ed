"""What a killed run leaves half written: told from what is whole, and healed."""

import subprocess

import pytest

from scripts import mlflow_database
from scripts.project import ROOT, UserError
from scripts.recovery import recover

LOCK = (ROOT / "dvc.lock").read_text()
SIXTEENTHS = range(16)


def cut(text, sixteenths):
    return text[: len(text) * sixteenths // 16]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with a dvc.lock, instead of the clone at hand."""
    for name, path in {"ROOT": "", "DVC_LOCK": "dvc.lock", "KEPT": ".local/dvc.lock", "CACHE": ".dvc/cache"}.items():
        monkeypatch.setattr(recover, name, tmp_path / path)
    monkeypatch.setattr(recover, "LOCAL", tmp_path / ".local")
    (tmp_path / ".local").mkdir()
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


@pytest.mark.parametrize("idle", ["{}", '{"write": {}}', '{"read": {}, "write": {}}'])
def test_an_idle_list_of_dvcs_locks_stays(clone, idle):
    """What DVC leaves when all has ended well is no lock; one that names a process, or was cut off, is cleared."""
    path = clone / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(idle)
    recover.clear_dvcs_locks()
    assert path.exists()
    for left in ('{"write": {"/a": {"pid": 1, "cmd": "dvc"}}}', idle[:-1], ""):
        path.write_text(left)
        recover.clear_dvcs_locks()
        assert not path.exists()


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_dvc_lock_that_was_cut_off_is_restored(clone, sixteenths):
    """What a kill leaves of dvc.lock is replaced by the copy that was kept when it was whole."""
    assert recover.keep_dvc_lock()
    (clone / "dvc.lock").write_text(cut(LOCK, sixteenths))
    assert not recover.keep_dvc_lock()
    recover.restore_dvc_lock(ended_well=False)
    assert (clone / "dvc.lock").read_text() == LOCK


def test_without_a_copy_the_half_of_an_interrupted_run_goes(clone):
    """The first dvc.lock of all, half written by a run that was killed, is deleted; any other is left to its owner."""
    (clone / "dvc.lock").write_text(cut(LOCK, 5))
    recover.restore_dvc_lock(ended_well=True)
    assert (clone / "dvc.lock").exists()
    recover.restore_dvc_lock(ended_well=False)
    assert not (clone / "dvc.lock").exists()


def test_a_conflict_is_not_healed(clone):
    """A merge's conflict in dvc.lock is the user's to solve: it stays as it is."""
    recover.keep_dvc_lock()
    conflict = LOCK.replace("  train:", "<<<<<<< HEAD\n  train:")
    (clone / "dvc.lock").write_text(conflict)
    recover.restore_dvc_lock(ended_well=False)
    assert (clone / "dvc.lock").read_text() == conflict


@pytest.mark.parametrize("sixteenths", [*SIXTEENTHS, 16])
def test_a_cached_file_that_was_cut_off_goes(clone, sixteenths):
    """A file in DVC's cache that is not of the size that dvc.lock names is deleted; a whole one stays."""
    digest, size = next(recover.sizes())
    path = recover.CACHE / "files" / "md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size * sixteenths // 16))
    recover.remove_damaged_objects()
    assert path.exists() == (sixteenths == 16)


def test_a_cached_file_of_the_run_cache_is_looked_at_too(clone):
    """So is a file that only an entry of the run-cache names."""
    digest, _ = next(recover.sizes())
    entry = recover.CACHE / "runs" / "ab" / "abc" / "def"
    entry.parent.mkdir(parents=True)
    (clone / "dvc.lock").rename(entry)
    path = recover.CACHE / "files" / "md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    recover.remove_damaged_objects()
    assert not path.exists()


def test_an_entry_of_the_run_cache_without_a_file_goes(clone):
    """DVC makes an entry's folder before its file, and cannot read it if a kill came in between."""
    empty, full = recover.CACHE / "runs" / "ab" / "abc", recover.CACHE / "runs" / "ab" / "abd"
    empty.mkdir(parents=True)
    full.mkdir()
    (full / "entry").touch()
    recover.remove_empty_entries()
    assert (empty.exists(), full.exists()) == (False, True)


def test_half_written_files_go_and_others_stay(clone):
    """Temporary files beside outputs, in DVC's cache and in the clone's folder are deleted, and nothing else."""
    (clone / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    half = ["models/.model.skops.part", ".dvc/cache/files/md5/ab/.x.tmp", ".dvc.yaml.part", ".local/.dvc.lock.part"]
    whole = ["models/model.skops", ".dvc/cache/files/md5/ab/cd", "notes.part", "data/external/.mine.csv.part"]
    for name in (*half, *whole):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    recover.remove_half_written()
    assert [name for name in half if (clone / name).exists()] == []
    assert [name for name in whole if not (clone / name).exists()] == []


@pytest.fixture
def left(tmp_path, monkeypatch, request):
    """A database that a killed writer left with a hot journal, and an artifact beside it.

    Its parameter is how many pages SQLite keeps before it writes them to the database.
    """
    monkeypatch.setattr(mlflow_database, "FOLDER", tmp_path / "mlflow")
    monkeypatch.setattr(mlflow_database, "ROOT", tmp_path)
    (tmp_path / "mlflow" / "artifacts" / "1").mkdir(parents=True)
    path = tmp_path / "mlflow" / "mlflow.db"
    writer = (
        "import os, signal, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('PRAGMA cache_spill=1')\n"
        "db.execute('CREATE TABLE models (name TEXT PRIMARY KEY, tag TEXT)')\n"
        "db.executemany('INSERT INTO models VALUES (?, ?)', [(f'model {n}', 'x' * 400) for n in range(2000)])\n"
        "db.commit()\n"
        "db.execute('PRAGMA cache_size=' + sys.argv[2])\n"
        "db.execute(\"UPDATE models SET tag = 'half'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run(["python", "-c", writer, path, str(getattr(request, "param", 10))], check=False)
    return path


DAMAGED = (
    r"MLflow's database mlflow/mlflow\.db is damaged \(.+\); expected what the server wrote: put a copy in its place"
)


def test_a_killed_writers_database_is_whole(left):
    """SQLite plays the journal of a killed server back: nothing is damaged, and nothing half done is left."""
    assert b"half" in left.read_bytes()
    mlflow_database.check()
    assert b"half" not in left.read_bytes()


@pytest.mark.parametrize("left", [1000], indirect=True)
def test_a_journal_that_was_only_begun_is_no_damage(left):
    """A server killed before its journal was on the disk has changed nothing: the database is as it was."""
    whole = left.read_bytes()
    assert left.with_name("mlflow.db-journal").stat().st_size and b"half" not in whole
    mlflow_database.check()
    assert left.read_bytes() == whole


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_cut_database_is_told(left, sixteenths):
    """A database that lacks its end is never served: one sentence says so, and what to do."""
    mlflow_database.check()
    left.write_bytes(cut(left.read_bytes(), sixteenths))
    with pytest.raises(UserError, match=DAMAGED):
        mlflow_database.check()


@pytest.mark.parametrize("sixteenths", SIXTEENTHS[1:])
def test_a_cut_journal_is_told(left, sixteenths):
    """A journal that lacks its end would leave half a transaction: it is never played back."""
    journal = left.with_name("mlflow.db-journal")
    journal.write_bytes(cut(journal.read_bytes(), sixteenths))
    with pytest.raises(UserError, match=DAMAGED):
        mlflow_database.check()
