"""A data set is described without its rows: columns, types, what is usual."""

import json

import pytest

from scripts.registry import datasets
from scripts.registry.stage_files import Table

TABLE = Table(
    ["id", "width", "on", "name", "empty"],
    [["1", "0.5", "true", "a", ""], ["2", "nan", "False", "b", ""], ["7", "1e3", "true", "b", ""]],
)


def test_types_and_what_is_usual():
    """Types are MLflow's; of numbers the middle one is usual, of texts the commonest; nothing of an empty column."""
    seen = datasets.seen(TABLE)
    assert seen.types == {"id": "long", "width": "double", "on": "boolean", "name": "string", "empty": "string"}
    assert seen.usual == {"id": 2, "width": 1000.0, "on": True, "name": "b", "empty": None}
    assert seen.rows == 3 and seen.classes["name"] == {"a": 1, "b": 2}


def test_a_file_is_looked_at_as_far_as_it_is_small(tmp_path, monkeypatch):
    """Of a large table the first rows say which columns it has; a folder, a picture and a broken table say nothing."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,x\n" * 5000)
    assert datasets.look(path).rows == 5000
    monkeypatch.setattr(datasets, "MOST_BYTES", 1001)
    head = datasets.look(path)
    assert (head.rows, head.types, head.classes) == (None, {"a": "long", "b": "string"}, {})
    for name, text in (("p.png", "x"), ("y.csv", "a,b\n1\n"), ("z.json", "[")):
        (tmp_path / name).write_text(text)
        assert datasets.look(tmp_path / name) is None
    assert datasets.look(tmp_path) is None and datasets.look(tmp_path / "none.csv") is None


def test_an_example_is_a_row_that_the_model_takes():
    """It has the columns of the signature in their order and types; without one of them there is none."""
    columns = [{"type": "double", "name": "id"}, {"type": "string", "name": "name"}]
    assert datasets.example(columns, [datasets.seen(TABLE)]) == {"id": 2.0, "name": "b"}
    for others in (
        [],
        [{"type": "double"}],
        [{"type": "double", "name": "other"}],
        [{"type": "double", "name": "empty"}],
    ):
        assert datasets.example(others, [datasets.seen(TABLE)]) is None


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("s3://dvc/x/", ("s3", "s3://dvc/x/files/md5/aa/" + "a" * 30)),
        ("gs://b", ("gs", "gs://b/files/md5/aa/" + "a" * 30)),
        ("https://me:secret@host/a.dvc", ("http", "https://host/a.dvc/files/md5/aa/" + "a" * 30)),
        ("ssh://host/a", None),
        ("../.local/dvc-remote", None),
        ("", None),
    ],
)
def test_where_a_remote_has_a_file(remote, found):
    """An address of a bucket or a server is of the file with this hash, and holds no password; others are none."""
    assert datasets.address(remote, "a" * 32) == found
    assert datasets.address(remote, "a" * 32 + ".dir") is None


def test_a_schema_is_bounded():
    """It is JSON as MLflow has it; of more columns than a server takes there is none."""
    data = datasets.Dataset("x", "x.csv", "a", "training", datasets.seen(TABLE))
    assert json.loads(data.schema)["mlflow_colspec"][0] == {"type": "long", "name": "id", "required": True}
    wide = datasets.seen(Table([f"{'c' * 150}{number}" for number in range(1000)], []))
    assert data._replace(seen=wide).schema is None and data._replace(seen=None).schema is None


@pytest.mark.parametrize(
    "text", ["", "[", "[]", '{"inputs": 3}', '{"inputs": "[3]"}', '{"inputs": "[{\\"type\\": \\"tensor\\"}]"}', "null"]
)
def test_a_signature_of_no_table(tmp_path, text):
    """It has no columns, whatever it is."""
    (tmp_path / "s.json").write_text(text)
    assert datasets.signature(tmp_path / "s.json") == {"inputs": [], "outputs": []}
