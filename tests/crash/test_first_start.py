"""MLflow's server, killed while it makes its tables: the next run begins with a database that a server can start on."""

import sqlite3
from contextlib import closing

import pytest

from tests.conftest import Clone, wait_until
from tests.killing import VICTIMS, Begun, Result, forget, forget_mlflow, name_models, result, same, undisturbed  # noqa: F401

pytestmark = pytest.mark.docker


def tables(clone: Clone) -> int:
    """Returns how many tables the database has so far."""
    path = clone.path / ".local" / "mlflow" / "mlflow.db"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    except sqlite3.Error:  # it is not there, or locked
        return 0


@pytest.mark.parametrize("made", [1, 10, 20, 30, 40])
def test_a_server_killed_while_it_makes_tables(undisturbed: tuple[Clone, Result], made: int) -> None:  # noqa: F811
    """Nothing that is kept is lost; the next run publishes what an undisturbed one publishes."""
    clone, expected = undisturbed
    name = f"kill-t-{made:03}"
    name_models(clone, name)
    forget(clone)
    forget_mlflow(clone)
    run = Begun(clone)
    wait_until(lambda: tables(clone) >= made, f"the database has {made} tables")
    assert VICTIMS["MLflow server"](run)
    run.make.wait()
    clone.make("run")
    same(result(clone, name), expected)
