"""Which version serves: a new one takes the old one's place if it can be loaded and passes its trial, or not at all."""

import json

import pandas as pd
import pytest
from conftest import ROW
from model_server import following
from model_server.following import Serving

FEATURES = pd.DataFrame([ROW])


@pytest.fixture
def serving(tmp_path, want, version):
    """Version 1 serves."""
    want(version(1))
    serving = Serving(tmp_path)
    serving.look()
    assert serving.current.version == 1
    return serving


def says(serving):
    return serving.current.predict(FEATURES)["prediction"].tolist()


def test_a_new_version_takes_the_old_ones_place(serving, want, version):
    """What is wanted serves; who has the old model in hand can still use it."""
    old = serving.current
    want(version(2, factor=10))
    serving.look()
    assert (serving.current.version, says(serving), serving.switches) == (2, [15.0], 2)
    assert old.predict(FEATURES)["prediction"].tolist() == [3.0]
    want(version(1))
    serving.look()
    assert serving.current.version == 1


def test_a_version_that_is_the_same_file_gets_its_number(serving, want, version):
    """A version whose file is the same as the old one's is told by its own number."""
    want(version(2))
    serving.look()
    assert serving.current.version == 2


def damaged(about, folder):
    (folder / about["file"]).write_text('{"factor": 3}')


def gone(about, folder):
    (folder / about["file"]).unlink()


def not_a_model(about, folder):
    about["signature"] = {"inputs": "5"}


@pytest.mark.parametrize(
    ("model", "spoil", "words"),
    [
        ({"broken": True}, None, "version 2 failed on the sample (a file went wrong)"),
        ({"factor": 9}, damaged, "the file of version 2 is damaged"),
        ({"factor": 9}, gone, "the file of version 2 cannot be read"),
        ({"factor": 9}, not_a_model, "version 2 cannot be loaded (no signature"),
        ({"factor": "nine"}, None, "version 2 failed on the sample"),
    ],
)
def test_a_version_that_cannot_serve_changes_nothing(serving, want, version, tmp_path, model, spoil, words):
    """A damaged file, one that is gone, a model that fails its trial: the old one serves on; a sentence says why."""
    about = version(2, **model)
    if spoil:
        spoil(about, tmp_path)
    want(about)
    serving.look()
    assert (serving.current.version, says(serving)) == (1, [3.0])
    assert words in serving.refused["current"] and str(tmp_path) not in serving.refused["current"]
    want(version(1))
    serving.look()
    assert serving.refused == {}


def test_it_is_tried_again_later(serving, want, version, tmp_path, monkeypatch):
    """A version whose file was damaged serves as soon as it is whole, after a while."""
    about = version(2, factor=9)
    text = (tmp_path / about["file"]).read_text()
    damaged(about, tmp_path)
    want(about)
    serving.look()
    (tmp_path / about["file"]).write_text(text)
    serving.look()
    assert serving.current.version == 1
    monkeypatch.setattr(following, "AGAIN", 0)
    serving.look()
    assert serving.current.version == 2


def test_it_is_tried_again_soon_if_nothing_serves(want, version, tmp_path, monkeypatch):
    """While no version serves, one that could not be loaded does not have to wait as long as beside an old one."""
    about = version(1)
    text = (tmp_path / about["file"]).read_text()
    damaged(about, tmp_path)
    want(about)
    serving = Serving(tmp_path)
    serving.look()
    assert serving.current is None
    (tmp_path / about["file"]).write_text(text)
    monkeypatch.setattr(following, "SOON", 0)
    serving.look()
    assert serving.current.version == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"current": null}', '{"current": {"version": 2}}', '{"current": 5}'])
def test_a_state_that_cannot_be_read_changes_nothing(serving, tmp_path, text):
    """Whatever the file holds, what serves goes on serving."""
    (tmp_path / "wanted.json").write_text(text)
    serving.look()
    assert serving.current.version == 1


def test_a_model_is_tried_on_the_sample_that_was_kept(serving, want, version, tmp_path):
    """A model that fails on the rows of the sample does not serve; a sample of other columns does not count."""
    (tmp_path / "sample.json").write_text(json.dumps([ROW | {"word": "crash"}]))
    want(version(2, factor=9))
    serving.look()
    assert serving.current.version == 1
    (tmp_path / "sample.json").write_text(json.dumps([{"y": 1}]))
    want(version(3, factor=9))
    serving.look()
    assert serving.current.version == 3
