"""How the values of params.yaml are shown."""

import pytest

from scripts.pipeline import params


@pytest.mark.parametrize(
    ("written", "shown"),
    [("null", "null"), ("true", "true"), ("no", "no"), ("1.0", "1.0"), ("1e-5", "1e-05"), ("été", "été"),
     ("2026-11-27", "2026-11-27"), ("[a, null, 1]", '["a", null, 1]'), ("&x [*x]", "[[...]]"), ("'1'", "1")],
)  # fmt: skip
def test_a_value_is_shown_as_yaml_has_it(written, shown):
    """People see null and true, never Python's None and True; a list holding itself is no trap."""
    assert params.as_written(params.parse(f"a:\n  b: {written}\n")["a"]["b"]) == shown
