"""YAML means here what it means to DVC, which reads and writes it with ruamel.yaml, and its dvc.lock stays its own."""

from datetime import date
from typing import Any

import pytest
import ruamel.yaml
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from scripts.pipeline import dvc_adapter
from scripts.yaml12 import dump_yaml, load_strangers_yaml, load_yaml

PLAIN = [
    *("1e-5", "1e5", "1.5E3", "-2e+10", ".5", "1.", "1_000", "1_000.5", "017", "0o17", "0x1F", "0b11", "+1", "-0"),
    *("yes", "no", "on", "off", "y", "n", "true", "True", "null", "~", "", "1:30", "190:20:30", "1:30.5"),
    *(".inf", "-.INF", ".nan", "2026-01-02", "2026-01-02 03:04:05", "2026-01-02T03:04:05Z", "09", "1e", "e5"),
]
"""What stands in a file without quotes, and is another thing in one version or the other, or looks as if."""

TEXTS = st.sampled_from([*PLAIN, "<<", "="]) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def of_dvc(text: str) -> Any:
    return ruamel.yaml.YAML(typ="safe").load(text)


def typed(value: Any) -> Any:
    """Return a value by which 1, 1.0 and true differ."""
    if isinstance(value, dict):
        return [(typed(key), typed(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [typed(each) for each in value]
    return type(value), value if isinstance(value, date) else repr(value)


@pytest.mark.parametrize("plain", PLAIN)
def test_a_value_without_quotes_is_what_dvc_finds(plain):
    """Numbers, dates, texts and nothing, each of the same kind, also in a list and from a stranger."""
    text = f"a: {plain}\nb: [{plain}]\n"
    assert typed(load_yaml(text)) == typed(load_strangers_yaml(text)) == typed(of_dvc(text))


@given(VALUES)
@example({"rate": 1e-5, "mode": "off", "at": "12:30"})
def test_what_is_written_here_is_read_alike_by_all(value):
    """By DVC, by who reads YAML 1.1, and here."""
    text = dump_yaml({"a": value})
    assert typed(of_dvc(text)) == typed(yaml.safe_load(text)) == typed(load_yaml(text)) == typed({"a": value})


@given(VALUES)
@example({"rate": 1e-5, "mode": "off", "at": "12:30"})
def test_a_dvc_lock_that_was_read_is_written_again_as_it_was(tmp_path_factory, value):
    """No parameter becomes another one when the stages of a dvc.lock are put in order."""
    path = tmp_path_factory.mktemp("lock") / "dvc.lock"
    dvc_adapter.write_lock(path, {"stages": {"a": {"params": value}}})
    before = path.read_text()
    dvc_adapter.write_lock(path, load_yaml(before))
    assert path.read_text() == before
