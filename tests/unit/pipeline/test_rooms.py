"""Optional rooms hear of a run; none of them can stop it, or make it fail."""

import textwrap
from types import SimpleNamespace

import pytest

from scripts.pipeline import rooms
from scripts.pipeline.live_metrics import LiveMetric
from scripts.pipeline.stage import Pipeline
from scripts.project import UserError
from scripts.recovery.signals import Stopped

PUBLISHER = SimpleNamespace(
    begin=lambda: None, metric=lambda *_: None, ended=lambda _: None, fact=lambda *_, **__: None
)


class Room:
    """Note down what is heard."""

    def __init__(self):
        self.heard = []

    def fact(self, kind, **values):
        self.heard.append((kind, values))

    def end(self, outcome, error):
        self.heard.append((outcome, error))


@pytest.fixture
def hearing(project, tmp_path, monkeypatch):
    """Return a function that gives the listener of a run, and what each of these rooms' listener.py returns."""

    def hearing(**listens):
        for name in listens:
            (tmp_path / "scripts" / name).mkdir(parents=True)
            (tmp_path / "scripts" / name / "listener.py").touch()
        modules = {f"scripts.{name}.listener": SimpleNamespace(listen=listen) for name, listen in listens.items()}
        monkeypatch.setattr(rooms, "import_module", modules.__getitem__)
        return rooms.hearing(project, Pipeline("", {}), ["fit"], tmp_path)

    return hearing


def test_a_room_hears_of_a_run(hearing):
    """It is told each fact, and at the end how the run ended."""
    room = Room()
    with hearing(one=lambda project, pipeline, targets: room) as heard:
        heard.and_by(PUBLISHER).fact("begins", stage="fit")
    assert room.heard == [("begins", {"stage": "fit"}), ("well", "")]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (UserError("it is wrong"), ("failed", "it is wrong")),
        (Stopped(2), ("interrupted", "SIGINT")),
        (ValueError("a bug"), ("failed", "ValueError: a bug")),
    ],
)
def test_a_room_hears_how_a_run_failed(hearing, error, end):
    """A run that fails or is interrupted ends as without rooms; they are told why."""
    room = Room()
    with pytest.raises(type(error)), hearing(one=lambda *_: room):
        raise error
    assert room.heard == [end]


def fails(*_, **__):
    raise RuntimeError("no\nroom \x1b[2J")


@pytest.mark.parametrize("where", ["listen", "fact", "end"])
def test_a_room_that_fails_costs_a_line(hearing, project, capsys, where):
    """Whenever a room fails, the run goes on with the other one; one line says so, and a log has the traceback."""
    bad, good = Room(), Room()
    if where != "listen":
        setattr(bad, where, fails)
    with hearing(bad=fails if where == "listen" else lambda *_: bad, good=lambda *_: good) as heard:
        heard.and_by(PUBLISHER).fact("begins", stage="fit")
        heard.fact("begins", stage="score")
        heard.metric("fit", LiveMetric({"loss": 1}, 1))
    said = capsys.readouterr()
    assert said.out.count("\n") == 1 and not said.err
    assert said.out.startswith("note: scripts/bad/ follows this run no longer (RuntimeError: no?room ?"), said.out
    assert "Traceback" in (project.logs / rooms.LOG).read_text()
    assert len(good.heard) == 3


def test_rooms_say_how_far_a_run_is(hearing, capsys):
    """What rooms say stands side by side; one need say nothing, and one that fails is left out with a line."""
    says, silent, bad = Room(), Room(), Room()
    says.progress, bad.progress = lambda: "about 5 s left", fails
    with hearing(bad=lambda *_: bad, says=lambda *_: says, silent=lambda *_: silent) as heard:
        assert [heard.progress(), heard.progress()] == ["about 5 s left"] * 2
    assert capsys.readouterr().out.startswith("note: scripts/bad/ follows this run no longer")


@pytest.mark.parametrize("log", ["/dev/full", "/proc/none/rooms.log"], ids=["a full disk", "no folder"])
def test_a_room_that_fails_where_nothing_can_be_written(hearing, capfd, monkeypatch, log):
    """On a full disk, too, a room that fails costs the line alone, and the run nothing."""
    monkeypatch.setattr(rooms, "LOG", log)
    with hearing(bad=fails):
        pass
    said = capfd.readouterr()
    assert said.out.count("\n") == 1 and not said.err


def test_the_publisher_hears_what_the_rooms_hear(hearing):
    """A fact goes to the publisher and to each room."""
    heard_by_both, room = [], Room()
    publisher = SimpleNamespace(fact=lambda kind, **values: heard_by_both.append((kind, values)))
    room.fact = publisher.fact
    with hearing(one=lambda *_: room) as heard:
        heard.and_by(publisher).fact("step", stage="train", step="cache")
    assert heard_by_both == [("step", {"stage": "train", "step": "cache"})] * 2


def test_what_the_publisher_cannot_do_is_no_rooms_fault(hearing):
    """An error of the publisher ends the run, as it does without rooms."""
    publisher = SimpleNamespace(begin=fails)
    with pytest.raises(RuntimeError), hearing(one=lambda *_: Room()) as heard:
        heard.and_by(publisher).begin()


def test_a_room_that_cannot_be_imported(project, tmp_path, capsys, monkeypatch):
    """A syntax error in a room is no error of the run."""
    package = tmp_path / "scripts" / "broken"
    package.mkdir(parents=True)
    (package / "listener.py").write_text("def listen(:\n")

    def load(name):
        compile(textwrap.dedent((package / "listener.py").read_text()), "listener.py", "exec")

    monkeypatch.setattr(rooms, "import_module", load)
    with rooms.hearing(project, Pipeline("", {}), [], tmp_path) as heard:
        heard.fact("begins", stage="fit")
    assert "note: scripts/broken/ follows this run no longer (SyntaxError:" in capsys.readouterr().out


def test_a_room_may_have_something_to_say_of_a_model(project, tmp_path, monkeypatch, capfd):
    """What rooms say of a model that is to be published comes together; one that fails says nothing, in a line."""

    def broken(*_):
        raise RuntimeError("no note")

    says = {"one": lambda *_: "best of 24", "two": broken, "three": lambda *_: "", "four": lambda *_: "and so on"}
    for name in says:
        (tmp_path / "scripts" / name).mkdir(parents=True)
        (tmp_path / "scripts" / name / "notes.py").touch()
    modules = {f"scripts.{name}.notes": SimpleNamespace(note=note) for name, note in says.items()}
    monkeypatch.setattr(rooms, "import_module", modules.__getitem__)
    said = rooms.notes(project, Pipeline("", {}), SimpleNamespace(name="m"), tmp_path)
    assert said == "and so on; best of 24"
    assert capfd.readouterr().out.count("note: scripts/two/ has nothing to say of m (RuntimeError: no note)") == 1
