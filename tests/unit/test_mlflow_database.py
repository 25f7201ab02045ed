"""The local MLflow server's database: never served if it is damaged, and copied so that it can be put back."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from scripts import mlflow_database
from scripts.project import Project, UserError

SIXTEENTHS = range(16)
WRITER = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_spill = 1")
database.execute("CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, tag TEXT)")
database.executemany("INSERT INTO models VALUES (?, ?)", [(f"model {n}", "x" * 400) for n in range(2000)])
database.commit()
database.execute("PRAGMA cache_size = " + sys.argv[2])  # pages that SQLite keeps before it writes to the database
database.execute("UPDATE models SET tag = 'half'")
os._exit(1)
"""
ROWS = 2000


@pytest.fixture
def project(tmp_path):
    """A project whose MLflow server has run, as its folder of artifacts shows."""
    project = Project(tmp_path)
    (project.mlflow / "artifacts" / "1").mkdir(parents=True)
    return project


@pytest.fixture
def database(project, request):
    """The database that a writer left which was killed within a transaction.

    Its parameter is the number of pages that SQLite keeps before it writes to the database.
    """
    path = project.mlflow / "mlflow.db"
    killed = subprocess.run([sys.executable, "-c", WRITER, path, str(getattr(request, "param", 10))])
    assert killed.returncode == 1
    return path


def tags(path):
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT tag, count(*) FROM models GROUP BY tag"))


def write(path, tag):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE models SET tag = ?", (tag,))


def cut(path, sixteenths):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * sixteenths // 16])


def refusal(project):
    """The one sentence with which a database is refused."""
    with pytest.raises(UserError, match=r"^MLflow's database \.local/mlflow/mlflow\.db is damaged \(.+\); ") as caught:
        mlflow_database.check(project)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is damage


def test_a_killed_writers_database_is_whole(project, database):
    """SQLite plays back the journal of a server that was killed: nothing is damaged, and nothing half done is left."""
    assert b"half" in database.read_bytes()
    mlflow_database.check(project)
    assert tags(database) == {"x" * 400: ROWS}


@pytest.mark.parametrize("database", [1000], indirect=True)
def test_a_journal_that_was_only_begun_is_no_damage(project, database):
    """A server that was killed before it wrote to the database has changed nothing."""
    whole = database.read_bytes()
    assert b"half" not in whole
    mlflow_database.check(project)
    assert database.read_bytes() == whole


@pytest.mark.parametrize("sixteenths", SIXTEENTHS)
def test_a_database_that_was_cut_off_is_refused(project, database, sixteenths):
    """A database that lacks its end is never served."""
    mlflow_database.check(project)
    cut(database, sixteenths)
    refusal(project)


def test_a_database_that_was_overwritten_is_refused(project, database):
    """Something else in the place of the database is never served."""
    database.write_text("this is no database, and long enough to be taken for one" * 100)
    assert "file is not a database" in refusal(project)


def test_a_database_that_is_gone_is_refused(project, database):
    """Artifacts without their database are not taken for a new beginning."""
    database.unlink()
    assert "the file is missing" in refusal(project)


def test_before_the_first_run_nothing_is_damaged(project):
    """Without artifacts there need be no database."""
    (project.mlflow / "artifacts" / "1").rmdir()
    mlflow_database.check(project)


@pytest.mark.parametrize("tables", ["", "CREATE TABLE experiments (name TEXT)", "CREATE TABLE runs (name TEXT)"])
def test_a_database_that_was_only_begun_is_deleted(project, tables):
    """What a server left that was killed while it made its first tables is no hindrance to the next one."""
    (project.mlflow / "artifacts" / "1").rmdir()
    path = project.mlflow / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(tables)
    path.touch()
    mlflow_database.check(project)
    assert not path.exists()


def test_a_database_with_an_experiment_stays(project):
    """A server has served from it, whether anything was published or not."""
    (project.mlflow / "artifacts" / "1").rmdir()
    path = project.mlflow / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE experiments (name TEXT); INSERT INTO experiments VALUES ('Default')")
    mlflow_database.check(project)
    assert path.exists()


# --- the copy


def test_a_copy_can_be_put_back(project, database):
    """The commands that the sentence names bring back what was there when the copy was made."""
    mlflow_database.check(project)
    write(database, "good")
    assert mlflow_database.back_up(project)
    write(database, "lost")
    cut(database, 9)
    command = re.search(r"'make down && ([^']+)', which loses the runs and decisions recorded since ", refusal(project))
    subprocess.run(["sh", "-c", command[1]], cwd=project.root, check=True)
    mlflow_database.check(project)
    assert tags(database) == {"good": ROWS}


def test_an_old_journal_does_not_spoil_the_copy(project, database):
    """The journal of the damaged database is deleted, since SQLite would play it into the copy."""
    journal = database.with_name("mlflow.db-journal")
    half, left = database.read_bytes(), journal.read_bytes()
    mlflow_database.check(project)
    write(database, "good")
    assert mlflow_database.back_up(project)
    database.write_bytes(half[:100])
    journal.write_bytes(left)
    command = re.search(r"'make down && ([^']+)'", str(mlflow_database._damage(project, "cut")))
    subprocess.run(["sh", "-c", command[1]], cwd=project.root, check=True)
    mlflow_database.check(project)
    assert tags(database) == {"good": ROWS}


def test_without_a_copy_it_can_be_moved_away(project, database):
    """If there is no copy the sentence says how to begin anew, and what is lost."""
    cut(database, 9)
    command = re.search(r"'make down && ([^']+)' and run again: .* are lost$", refusal(project))
    subprocess.run(["sh", "-c", command[1]], cwd=project.root, check=True)
    mlflow_database.check(project)
    assert (project.local / "mlflow.damaged" / "mlflow.db").exists()


def test_what_has_not_changed_is_not_copied_again(project, database):
    """A copy is made only after a change, whoever made it."""
    mlflow_database.check(project)
    assert mlflow_database.back_up(project)
    assert not mlflow_database.back_up(project)
    write(database, "new")
    assert mlflow_database.back_up(project)
    assert tags(project.mlflow / "mlflow.backup.db") == {"new": ROWS}


def test_it_is_copied_while_a_server_writes(project, database):
    """A copy that is made between two transactions of a running writer holds one of them whole."""
    mlflow_database.check(project)
    write(database, "before")
    code = "import sqlite3, sys, itertools\n"
    code += "database = sqlite3.connect(sys.argv[1], timeout=60)\n"
    code += "print('begins', flush=True)\n"
    code += "for number in itertools.count():\n"
    code += "    with database: database.execute('UPDATE models SET tag = ?', (f'tag {number}',))\n"
    found = []
    with subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE, text=True) as writer:
        writer.stdout.readline()
        try:
            while len(found) < 5:
                if mlflow_database.back_up(project):
                    found.append(tags(project.mlflow / "mlflow.backup.db"))
        finally:
            writer.kill()
    assert [len(each) for each in found] == [1] * 5


def test_a_damaged_database_does_not_replace_the_copy(project, database):
    """The last good copy stays if the database is found damaged when it is to be copied."""
    mlflow_database.check(project)
    write(database, "good")
    mlflow_database.back_up(project)
    with database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(bytes(4096 * 40))
    with pytest.raises(UserError, match="is damaged"):
        mlflow_database.back_up(project)
    assert tags(project.mlflow / "mlflow.backup.db") == {"good": ROWS}
    assert [path.name for path in project.mlflow.glob(".*")] == []


def test_what_a_killed_copy_left_is_no_hindrance(project, database):
    """Half a copy, which a kill left, is overwritten."""
    mlflow_database.check(project)
    (project.mlflow / ".mlflow.backup.db.part").write_bytes(b"half")
    assert mlflow_database.back_up(project)
    assert tags(project.mlflow / "mlflow.backup.db") == {"x" * 400: ROWS}


def test_a_database_that_stays_locked_is_given_up(project, database, monkeypatch):
    """If somebody keeps the database locked, the copy is given up, and the last one stays."""
    mlflow_database.check(project)
    monkeypatch.setattr(mlflow_database, "PATIENCE", 0)
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TimeoutError):
            mlflow_database.back_up(project)
    assert not (project.mlflow / "mlflow.backup.db").exists()


def test_nothing_is_copied_before_the_first_run(project):
    """Without a database there is nothing to copy."""
    assert not mlflow_database.back_up(project)


# --- another version's schema

OF_ANOTHER_VERSION = """
import sys
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine
Base.metadata.create_all(create_engine(f"sqlite:///{sys.argv[1]}"))  # what MLflow's changes begin with
config = _get_alembic_config(f"sqlite:///{sys.argv[1]}")
script = ScriptDirectory.from_config(config)
head = script.get_current_head()
revisions = [revision.revision for revision in script.walk_revisions()]
command.upgrade(config, revisions[int(sys.argv[2])])
print(head)
"""


@pytest.fixture
def of_version(project):
    """Make a database as MLflow had it so many changes of its schema ago; return the newest schema's name."""

    def make(ago):
        path = project.mlflow / "mlflow.db"
        done = subprocess.run(
            [sys.executable, "-c", OF_ANOTHER_VERSION, path, str(ago)], check=True, capture_output=True, text=True
        )
        return done.stdout.split()[-1]

    return make


def version(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.mark.parametrize("ago", [1, *(pytest.param(ago, marks=pytest.mark.deep) for ago in (5, 20))])
def test_an_older_database_is_upgraded(project, of_version, ago, capsys):
    """The database of an older MLflow gets this one's schema, and what it was is kept."""
    newest = of_version(ago)
    path = project.mlflow / "mlflow.db"
    before, was = path.read_bytes(), version(path)
    assert was != newest
    mlflow_database.upgrade(project)
    assert version(path) == newest and (project.mlflow / "mlflow.before-upgrade.db").read_bytes() == before
    assert "recovered: upgraded MLflow's database" in capsys.readouterr().out
    assert {file.name for file in project.mlflow.glob("*.db*")} == {"mlflow.db", "mlflow.before-upgrade.db"}


def test_a_newer_database_stays_as_it_is(project, of_version):
    """The database of a newer MLflow is refused with what to do, and not touched."""
    of_version(0)
    path = project.mlflow / "mlflow.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"made by another version of MLflow, and cannot be upgraded: .*ffffffffffff"):
        mlflow_database.upgrade(project)
    assert path.read_bytes() == before and [file.name for file in project.mlflow.glob("*.db*")] == ["mlflow.db"]
