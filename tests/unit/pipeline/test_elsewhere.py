"""Who runs stages elsewhere: an optional room, by its name."""

import sys
from types import SimpleNamespace

import pytest

from scripts.pipeline import elsewhere
from scripts.project import Project, UserError


def test_a_room_is_found_by_its_name(tmp_path, monkeypatch):
    """A room with a jobs.py is the place; the core knows no more of it than the name that it is given."""
    for name in ("there", "deaf"):
        (tmp_path / "scripts" / name).mkdir(parents=True)
    (tmp_path / "scripts" / "there" / "jobs.py").touch()
    module = SimpleNamespace(place=lambda *given: given)
    monkeypatch.setitem(sys.modules, "scripts.there", SimpleNamespace(jobs=module))
    monkeypatch.setitem(sys.modules, "scripts.there.jobs", module)
    project = Project(tmp_path)
    assert elsewhere.place("there", "a pipeline", project, tmp_path) == (project, "a pipeline")
    for name in ("deaf", "nowhere", "../there", ""):
        with pytest.raises(UserError, match=r"runs stages elsewhere; expected there or nothing, for this machine"):
            elsewhere.place(name, "a pipeline", project, tmp_path)


def test_without_any_room_there_is_this_machine(tmp_path):
    """Where no room runs stages elsewhere, the sentence offers none."""
    with pytest.raises(UserError, match=r"ON is 'x', .*; expected nothing, for this machine: correct it, or leave it"):
        elsewhere.place("x", "a pipeline", Project(tmp_path), tmp_path)
