"""An entry of dvc.lock is put into its place; the others stay as they are, to the byte."""

import pytest

from scripts.pipeline.lock_text import HEAD, with_entry

ENTRIES = {
    name: f"  {name}:\n    cmd: 'x\n\n      {name}:\n\n      y'\n    outs:\n    - path: {name}\n" for name in "abc"
}
LOCK = HEAD + "".join(ENTRIES.values())
NEW = "    cmd: new\n"


@pytest.mark.parametrize("name", "abc")
def test_an_entry_is_replaced(name):
    """The entry of that name gives its place to the new one, wherever it stands."""
    changed = HEAD + "".join(f"  {name}:\n{NEW}" if each == name else text for each, text in ENTRIES.items())
    assert with_entry(LOCK, f"{HEAD}  {name}:\n{NEW}") == changed


@pytest.mark.parametrize("name", ["d", "ab", "a@x", "my-stage"])
def test_a_new_entry_comes_last(name):
    """The entry of a stage that had none is the last one."""
    assert with_entry(LOCK, f"{HEAD}  {name}:\n{NEW}") == f"{LOCK}  {name}:\n{NEW}"
    assert with_entry(HEAD, f"{HEAD}  {name}:\n{NEW}") == f"{HEAD}  {name}:\n{NEW}"


@pytest.mark.parametrize(
    "lock",
    [
        "",
        LOCK[:-1],
        LOCK[:-9],
        f"# a remark\n{LOCK}",
        f"{LOCK}# a remark\n",
        f"{LOCK}  # a remark\n",
        f"{LOCK}datasets: []\n",
        LOCK.replace("'2.0'", "'3.0'"),
        LOCK.replace("  b:", "  'b':"),
        LOCK.replace("  b:\n", "  b: {}\n"),
        LOCK.replace("  b:\n", "<<<<<<< ours\n  b:\n"),
    ],
)
def test_what_dvc_did_not_write_is_left_alone(lock):
    """Nothing is put into a file with anything else in it, or with half a line, and no such thing into a file."""
    assert with_entry(lock, f"{HEAD}  d:\n{NEW}") is None
    assert with_entry(LOCK, lock) is None
