"""Rows that come as JSON or CSV: what is read of them, and the sentence about what cannot be."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_server import rows
from model_server.signature import Column

COLUMNS = [Column("x", "double"), Column("n", "long", required=False), Column("word", "string")]
RECORDS = [{"x": 1.5, "n": 3, "word": "one"}, {"x": -2, "n": 4, "word": "2"}]
FORMS = {
    "split": {"dataframe_split": {"columns": ["word", "x", "n"], "data": [["one", 1.5, 3], ["2", -2, 4]]}},
    "split without columns": {"dataframe_split": {"data": [[1.5, 3, "one"], [-2, 4, "2"]]}},
    "records": {"dataframe_records": RECORDS},
    "inputs by column": {"inputs": {"x": [1.5, -2], "n": [3, 4], "word": ["one", "2"], "more": [0, 0]}},
    "inputs by row": {"inputs": [[1.5, 3, "one"], [-2, 4, "2"]]},
    "instances": {"instances": RECORDS, "params": {}},
}
number = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_json_is_the_same_table(form):
    """MLflow's forms give the columns of the signature, in its order and types, without what else is sent."""
    found = rows.from_json(json.dumps(FORMS[form]).encode(), COLUMNS)
    assert found.to_dict("list") == {"x": [1.5, -2.0], "n": [3, 4], "word": ["one", "2"]}
    assert found["x"].dtype == "float64" and found["n"].dtype == "int64"


def test_csv_is_read_as_the_stages_read_it():
    """Numbers are those of pandas.read_csv, a text stays a text, and other columns are left out."""
    text = "id,word,x,n\n7,2,0.1,1\n8,NA,1e-3,2\n"
    found = rows.from_csv(text.encode(), COLUMNS)
    assert found.to_dict("list") == {"x": [0.1, 0.001], "n": [1, 2], "word": ["2", "NA"]}


@given(values=st.lists(number, min_size=1))
def test_every_number_arrives_as_it_was_sent(values):
    """A number has the same bits in JSON, whatever it is."""
    found = rows.from_json(json.dumps({"inputs": {"x": values}}).encode(), COLUMNS[:1])
    assert [math.copysign(1, v) for v in found["x"]] == [math.copysign(1, v) for v in values]
    assert found["x"].tolist() == values


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the body is no JSON ("),
        (b"\xff\xff", "the body is no UTF-8; expected JSON in UTF-8"),
        (b"[" * 100_000, "the body's JSON is too deep"),
        (b"[]", "the body is a list; expected an object with one of dataframe_split"),
        (b"{}", "the body has nothing; expected exactly one of"),
        (b'{"inputs": {"x": [NaN]}}', "the body is no JSON (NaN is no JSON)"),
        (b'{"inputs": {}, "dataframe_records": []}', "expected exactly one of"),
        (b'{"inputs": {"x": [1]}, "params": {"a": 1}}', "the body has params; expected none"),
        (b'{"dataframe_records": []}', "there are no rows"),
        (b'{"dataframe_records": [1]}', "row 1 is a number; expected an object"),
        (b'{"dataframe_records": [{"x": 1}]}', 'row 1 has no column "word"; expected a text there'),
        (b'{"dataframe_records": [{"x": "1", "word": ""}]}', 'row 1, column "x": "1"; expected a number'),
        (b'{"dataframe_records": [{"x": true, "word": ""}]}', 'row 1, column "x": true; expected a number'),
        (b'{"dataframe_records": [{"x": null, "word": ""}]}', 'row 1, column "x": null; expected a number'),
        (b'{"inputs": {"x": [1, 1e999], "word": ["", ""]}}', 'row 2, column "x": Infinity; expected a number'),
        (b'{"inputs": {"x": [1], "word": [5]}}', 'row 1, column "word": 5; expected a text'),
        (b'{"inputs": {"x": [1], "word": [""], "n": [1.5]}}', 'row 1, column "n": 1.5; expected a whole number'),
        (b'{"inputs": {"x": [1, 2], "word": [""]}}', "differ in length"),
        (
            b'{"inputs": {"word": [""]}}',
            'the column "x" is missing; expected a number there (found the columns "word")',
        ),
        (b'{"inputs": 5}', "inputs is a number; expected a list of rows"),
        (b'{"dataframe_split": {"columns": ["x", "x"], "data": []}}', "names a column twice"),
        (b'{"dataframe_split": {"columns": ["x"], "data": [[1, 2]]}}', "row 1 is 2 values; expected a list of 1"),
        (b'{"dataframe_split": []}', "dataframe_split is a list; expected an object"),
    ],
)
def test_bad_json_gets_a_sentence(body, sentence):
    """What cannot be read is named: row, column, what was found and what is expected."""
    with pytest.raises(rows.BadRows) as refused:
        rows.from_json(body, COLUMNS)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the table is empty"),
        ("x,n\n1,2\n", 'the column "word" is missing; expected a text there'),
        ("x,word\n1,a\nsix,b\n", 'row 2, column "x": "six"; expected a number'),
        ("x,word\n1,a\n,b\n", 'row 2, column "x": ""; expected a number'),
        ("x,word\n1,a\ninf,b\n", 'row 2, column "x": Infinity; expected a number'),
        ("x,word\n1,a\n5_1,b\n", 'row 2, column "x": "5_1"; expected a number'),
        ("x,word\nTrue,a\n", 'row 1, column "x": true; expected a number'),
        ("x,word,n\n1,a,1.5\n", 'row 1, column "n": 1.5; expected a whole number'),
        ("x,word\n1,a\n2,b,c\n", "row 2 has 3 cells; expected 2, as the header has"),
        ("x;word\n1;a\n", 'the column "x" is missing'),
    ],
)
def test_bad_csv_gets_a_sentence(text, sentence):
    """The same for CSV, whose rows are counted below the header."""
    with pytest.raises(rows.BadRows) as refused:
        rows.from_csv(text.encode(), COLUMNS)
    assert sentence in str(refused.value)


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_a_sentence(body):
    """No bytes make anything but rows of the signature's columns, or BadRows."""
    for read in (rows.from_json, rows.from_csv):
        for known in (COLUMNS, None):
            try:
                assert isinstance(read(body, known), pd.DataFrame)
            except rows.BadRows as error:
                assert str(error)
