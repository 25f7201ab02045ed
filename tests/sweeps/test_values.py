"""params.yaml keeps its comments and its order when values are written into it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.pipeline import params
from scripts.project import UserError
from scripts.sweeps.values import written
from tests.sweeps.conftest import PARAMS


def test_only_the_values_change():
    """What else is in the file, comments too, stays byte for byte."""
    new = written(PARAMS, {"fit.depth": None, "fit.rate": 1e-05, "fit.tree.kind": "z", "split.share": 0.25})
    expected = PARAMS.replace("depth: 3", "depth: null").replace("1.0e-3", "1e-05").replace("'x y'", '"z"')
    assert new == expected.replace("share: 0.2", "share: 0.25")
    assert written(PARAMS, {"fit.depth": 3}) == PARAMS


TEXTS = st.text(st.characters(exclude_categories=["C"]), max_size=20)


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(-1e9, 1e9), TEXTS))
def test_what_is_written_is_read(value):
    """DVC reads each value as what it was, whatever it is."""
    found = params.parse(written(PARAMS, {"fit.depth": value}))["fit"]["depth"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["fit: &f\n  depth: 3\nother: *f\n", "fit: {depth: &d 3}\nscore: {n: *d}\n"])
def test_what_stands_for_two_values_is_refused(text):
    """A value that an anchor uses elsewhere is not changed behind somebody's back."""
    with pytest.raises(UserError, match=r"fit.depth cannot be written into params.yaml; expected each as"):
        written(text, {"fit.depth": 4})
