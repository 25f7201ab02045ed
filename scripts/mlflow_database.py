"""The local MLflow server's SQLite database: checked before a server starts on it, copied after a good run.

A server on half a database would know half the models, and take any for the best.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

from scripts.pipeline.console import printable
from scripts.project import PROJECT, Project, UserError
from scripts.recovery.report import say

NAME, COPY, OLDER = "mlflow.db", "mlflow.backup.db", "mlflow.before-upgrade.db"
PATIENCE = 60  # seconds that a copy waits while the server writes, which takes milliseconds


def check(project: Project = PROJECT) -> None:
    """Raise UserError if the database is damaged or gone. To be called while no server runs.

    SQLite itself plays back the journal of a server that was killed. A database that such a server had only begun to
    make is deleted: no server starts on it.
    """
    path, copy = project.mlflow / NAME, project.mlflow / COPY
    used = copy.exists() or any(project.mlflow.glob("artifacts/*"))
    if path.exists() and not used and _was_only_begun(path):
        path.unlink()
        path.with_name(f"{NAME}-journal").unlink(missing_ok=True)
        say("deleted MLflow's database, which had no experiment yet: its server was killed while it made the tables")
        return
    if not path.exists() and used:
        raise _damage(project, "the file is missing")
    if path.exists() and (found := fault(path, has_tables=used)):
        raise _damage(project, found)


def back_up(project: Project = PROJECT) -> bool:
    """Copy the database to mlflow.backup.db, unless it has not changed since the last copy; return True if it was.

    A server may be running. The new copy replaces the last one in one step. Raise UserError if the database is damaged,
    sqlite3.Error or OSError if it cannot be copied; the last copy then stays.
    """
    path, copy = project.mlflow / NAME, project.mlflow / COPY
    if not path.exists():
        return False
    changed = path.stat().st_mtime_ns  # from before the copy is made, so that a change meanwhile is seen next time
    if copy.exists() and copy.stat().st_mtime_ns == changed:
        return False
    part = copy.with_name(f".{copy.name}.part")
    part.unlink(missing_ok=True)
    try:
        _copy(path, part)
        if found := fault(part, has_tables=True):
            raise _damage(project, found)
        os.utime(part, ns=(changed, changed))
        part.replace(copy)
    except sqlite3.OperationalError:  # it is locked, cannot be opened, or the disk is full
        raise
    except sqlite3.DatabaseError as error:
        raise _damage(project, str(error)) from None
    finally:
        part.unlink(missing_ok=True)
    return True


def upgrade(project: Project = PROJECT) -> None:
    """Bring the database of an older MLflow to this one's schema; what it was is kept beside it. No server may run.

    Raise UserError if that is not possible; the database is then as it was.
    """
    path, kept, part = (project.mlflow / name for name in (NAME, OLDER, f".{NAME}.part"))
    part.unlink(missing_ok=True)
    _copy(path, part)
    # It is worked on beside the database, which it replaces in one step: a kill leaves the old one.
    done = subprocess.run(["mlflow", "db", "upgrade", f"sqlite:///{part}"], capture_output=True, text=True)
    if done.returncode:
        part.unlink()
        exception = done.stderr.strip().rpartition("\n")[2]  # what a traceback ends in
        why = printable(" ".join(exception.split()))[-300:]
        raise UserError(
            f"MLflow's database was made by another version of MLflow, and cannot be upgraded: {why}; expected one of "
            f"this version or an older one: use the commit that made it, or move {path.relative_to(project.root)} away"
        )
    shutil.copyfile(path, kept)
    part.replace(path)
    say(f"upgraded MLflow's database, which an older version had made; what it was is kept as {kept.name}")


def fault(path: Path, *, has_tables: bool) -> str:
    """Return what is wrong with a database, empty if nothing is. Play back its journal, if a writer was killed."""
    try:
        with closing(_open(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        return "" if "locked" in str(error) else str(error)  # locked: somebody is writing to it
    if has_tables and not tables:
        return "it is empty"
    return "" if found == "ok" else " ".join(found.split())


def _was_only_begun(path: Path) -> bool:
    """Return True if no server has served from the database: MLflow makes an experiment once all tables are there."""
    try:
        with closing(_open(path)) as database:
            (experiments,) = database.execute("SELECT count(*) FROM experiments").fetchone()
    except sqlite3.DatabaseError as error:
        return "no such table" in str(error)
    return not experiments


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=1)


def _copy(path: Path, part: Path) -> None:
    """Copy a database page by page. Raise TimeoutError if somebody writes to it for longer than PATIENCE."""
    end = time.monotonic() + PATIENCE

    def progress(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > end:
            raise TimeoutError(f"it was locked for {PATIENCE} s")

    with closing(_open(path)) as source, closing(sqlite3.connect(part)) as target:
        target.execute("PRAGMA journal_mode = OFF")  # if this fails, all of the part is thrown away
        source.backup(target, progress=progress)


def _damage(project: Project, found: str) -> UserError:
    path, copy = (project.mlflow / name for name in (NAME, COPY))
    name, folder = path.relative_to(project.root), project.mlflow.relative_to(project.root)
    if copy.exists():
        # SQLite would play an old journal into the copy.
        journal = f"rm -f {name}-journal && " if path.with_name(f"{NAME}-journal").exists() else ""
        until = datetime.fromtimestamp(copy.stat().st_mtime)
        mend = (
            f"put its copy back with 'make down && {journal}cp {copy.relative_to(project.root)} {name}', which loses "
            f"the runs and decisions recorded since {until:%Y-%m-%d %H:%M:%S}"
        )
    else:
        mend = (
            f"there is no copy, so move it away with 'make down && mv {folder} {folder}.damaged' and run again: the "
            "current model becomes version 1, and the runs and decisions recorded before are lost"
        )
    return UserError(f"MLflow's database {name} is damaged ({found}); expected what the server wrote: {mend}")
