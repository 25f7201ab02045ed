"""The local MLflow server's SQLite database: a server on half of it would know half the models, and promote any."""

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from scripts.project import LOCAL, ROOT, UserError

FOLDER = LOCAL / "mlflow"
MAGIC = bytes.fromhex("d9d505f920a163d7")
"""How each part of a journal begins; see "The Rollback Journal" in SQLite's description of its file format."""


def check() -> None:
    """Raises UserError where the database is damaged. To be called while no server runs.

    SQLite plays back the whole journal of a server that was killed, and as much as there is of one that was cut off.
    """
    path = FOLDER / "mlflow.db"
    if path.exists() and (found := fault(path)):
        raise UserError(
            f"MLflow's database {path.relative_to(ROOT)} is damaged ({found}); expected what the server wrote: put a "
            "copy in its place, or move .local/mlflow away and run again, which publishes the model at hand anew"
        )


def fault(path: Path) -> str:
    """What is wrong with a database, empty if nothing is."""
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() and is_cut_off(journal.read_bytes()):
        return "its journal is cut off"
    try:
        with closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        return "" if "locked" in str(error) else str(error)  # locked: by a server that is about to answer
    if not tables and any(FOLDER.glob("artifacts/*")):  # without artifacts it was never used
        return "it is empty"
    return "" if found == "ok" else found


def is_cut_off(journal: bytes) -> bool:
    """Whether a journal has fewer records than its headers say.

    A part whose header begins with zeros was only begun: its records were not on the disk yet, so nothing that they
    are to restore has been changed in the database, and SQLite does not play it back. The same holds for no bytes.
    """
    at = 0
    while at < len(journal):
        header = journal[at : at + 28]
        if not any(header[: len(MAGIC)]):
            return False
        if len(header) < 28 or not header.startswith(MAGIC):
            return True
        records, _, _, sector, page = struct.unpack(">5I", header[8:])
        end = at + sector + records * (page + 8)
        if end > len(journal):
            return True
        at = -(-end // sector) * sector
    return False
