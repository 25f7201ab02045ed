"""Texts are edited by lines: what is not edited stays byte for byte, and an edit does one thing."""

from pathlib import Path

import pytest

from scripts.pipeline import template
from scripts.pipeline.images import Image
from scripts.project import UserError
from scripts.scaffold import text

IMAGES = {name: Image(name, f"stages/{name}:0", {}) for name in ("base", "one", "two", "three", "new")}
PARAMS = {"one": {"names": ["two", "three"]}}
ONE = '{{ stage("one", outputs={"out": "data/one/x"}) }}'
TWO = '{{ stage("two", inputs={"in": "data/one/x"}, outputs={"out": "data/two/x"}) }}'
THREE = '{{ stage("three", outputs={"out": "data/three/x"}) }}'
NEW = '{{ stage("new",\n         outputs={"out": "data/new/x"}) }}'
LOOP = '{% for name in params.one.names %}\n{{ stage(name, outputs={"out": "data/" ~ name ~ "/x"}) }}\n{% endfor %}\n'
MACRO = '{% macro of(name) %}\n{{ stage(name, outputs={"out": "data/" ~ name ~ "/x"}) }}\n{% endmacro %}\n'
HEAD = "stages:\n"


def placed(given: str, after: str, block: str = NEW) -> str:
    before = template.render(given, PARAMS, IMAGES)
    return text.with_block(given, block, "new", after, PARAMS, IMAGES, Path("/"), before)


@pytest.mark.parametrize(
    ("above", "below", "after"),
    [
        pytest.param(f"{HEAD}{ONE}\n", f"{TWO}\n", "one", id="between two"),
        pytest.param(f"{HEAD}{ONE}\n{TWO}\n", "", "two", id="at the end"),
        pytest.param(f"{HEAD}{ONE}\n", "plots: []\n", "one", id="before another section"),
        pytest.param(f"plots: []\n{HEAD}{ONE}\n", "", "one", id="below another section"),
        pytest.param(f"{{#- stage(\"one\") -#}}\n{HEAD}{ONE} {{# of one #}}\n", f"{{# {ONE} #}}\n{TWO}\n", "one",
                     id="comments"),
        pytest.param(f"{HEAD}{ONE} # of one\n", f"  # of two\n{TWO}\n", "one", id="comments of YAML"),
        pytest.param(f"{HEAD}{ONE}\n    desc: by hand\n", f"{TWO}\n", "one", id="a line by hand"),
        pytest.param(f"{HEAD}{ONE}\n{LOOP}", "plots: []\n", "two", id="the first of a loop"),
        pytest.param(f"{HEAD}{ONE}\n{LOOP}", "plots: []\n", "three", id="the last of a loop"),
        pytest.param(f"{HEAD}{ONE}\n", LOOP, "one", id="before a loop"),
        pytest.param(f"{HEAD}{ONE}\n{{% if params.one %}}\n{TWO}\n{{% else %}}\n{THREE}\n{{% endif %}}\n", "", "two",
                     id="a condition"),
        pytest.param(f"{MACRO}{HEAD}{{{{ of(\"one\") }}}}\n", "{{ of('two') }}\n", "one", id="a macro"),
        pytest.param("# {% raw %}{# {{ {% endraw %}\n" f"{HEAD}{ONE}\n", f"{TWO}\n", "one", id="raw text"),
        pytest.param(f"{HEAD}{ONE.replace(', ', chr(10) + '   , ')}\n", "\n\nplots: []\n", "one", id="several lines"),
        pytest.param(f"{{% set names = ['one',\n 'two'] -%}}\n{HEAD}{ONE}\n", f"{{%- set x = 1 %}}\n{TWO}\n", "one",
                     id="control of white space"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_block_is_placed(above, below, after, end):
    """The block comes in the first place below another one's, outside of loops, and all else stays byte for byte."""
    above, below, new = (each.replace("\n", end) for each in (above, below, f"{NEW}\n"))
    assert placed(above + below, after) == above + new + below


def test_a_block_is_placed_below_a_line_without_an_end():
    """A template whose last line has no line break is given one, between the two blocks."""
    assert placed(f"{HEAD}{ONE}", "one") == f"{HEAD}{ONE}\n{NEW}"


def test_a_long_template_takes_no_long_time():
    """In a template of 100 stages, few of its beginnings are read."""
    images = {f"s{n}": Image(f"s{n}", "s:0", {}) for n in range(100)} | IMAGES
    blocks = [f'{{{{ stage("s{n}",\n outputs={{"out": "data/s{n}/x"}}) }}}}\n' for n in range(100)]
    given = "".join([HEAD, *blocks])
    before = template.render(given, {}, images)
    read = []
    original = text._stages_of
    text._stages_of = lambda *arguments: read.append(1) or original(*arguments)
    try:
        new = text.with_block(given, NEW, "new", "s70", {}, images, Path("/"), before)
    finally:
        text._stages_of = original
    assert new == "".join([HEAD, *blocks[:71], NEW, "\n", *blocks[71:]])
    assert len(read) < 20


@pytest.mark.parametrize(
    ("given", "after"),
    [
        (f"{HEAD}{{% if true %}}\n{ONE}\nplots: []\n{{% endif %}}\n", "one"),
        (f"{HEAD}{{% filter indent(0) %}}\n{ONE}\nplots: []\n{{% endfilter %}}", "one"),
        (f"{{% set a = {ONE[2:-2]} %}}{{% if true %}}{HEAD}{{{{ a }}}}\nplots: []\n{{% endif %}}\n", "one"),
    ],
    ids=["a condition around all", "a filter around all", "a block that is kept"],
)
def test_a_template_without_a_place_is_refused(given, after):
    """Where every place would change something else, one sentence says so."""
    with pytest.raises(
        UserError, match=r"^dvc\.yaml\.template has no place below the block of one where .* by hand; no"
    ):
        placed(given, after)


def test_the_new_block_itself_is_judged():
    """What is wrong with the new block is in the sentence."""
    with pytest.raises(UserError, match=r"it and 'one' both write below data/one/"):
        placed(f"{HEAD}{ONE}\n", "one", NEW.replace("data/new", "data/one"))


# --- params.yaml

SECTION = "new:\n  keep: null # all"
YAML = """\
# All of them.

one: # the first
  # Of one.
  seed: 1 # 0 to 9

  names: ["a",
    "b"] # two

# The next.
two: {x: 1}
'mlflow':
  model: |
    # no comment
    text

# The end.
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    ("after", "last"),
    [(["one"], '    "b"] # two\n'), (["one", "two"], "two: {x: 1}\n"), (["one", "no"], '    "b"] # two\n'),
     (["mlflow"], "    text\n"), ([], "# The end.\n")],
    ids=["a block", "in one line", "one that is not there", "a text", "at the end"],
)  # fmt: skip
def test_a_section_is_placed(after, last, end):
    """The section comes below another one, above the comment of the next, and all else stays byte for byte."""
    given, new = YAML.replace("\n", end), f"\n{SECTION}\n".replace("\n", end)
    above, last, below = given.partition(last.replace("\n", end))
    assert text.with_section(given, "new", SECTION, {"keep": None}, after) == above + last + new + below


@pytest.mark.parametrize(
    "given",
    ["{one: {x: 1},\n two: {x: 1}}\n", "one: {x: 1}\n...\n", "  one:\n    x: 1\n", "? one\n: x: 1\n...\n"],
    ids=["in braces", "an end of the document", "indented", "an end, and a key with a mark"],
)
def test_a_file_that_cannot_take_a_section_is_refused(given):
    """Where lines do not make a section, one sentence says so."""
    with pytest.raises(UserError, match=r"^params\.yaml cannot be given the section new as lines of its own; expected"):
        text.with_section(given, "new", SECTION, {"keep": None}, ["one"])


def test_a_section_is_copied_with_its_comments():
    """A section's lines are those from its key to its last value, under another name."""
    lines = 'new: # the first\n  # Of one.\n  seed: 1 # 0 to 9\n\n  names: ["a",\n    "b"] # two'
    assert text.section_of(YAML, "one", "new") == lines
    assert text.section_of(YAML.replace("\n", "\r\n"), "one", "new") == lines
    assert text.section_of(YAML, "mlflow", "new") == "new:\n  model: |\n    # no comment\n    text"
    assert text.section_of(YAML, "three", "new") is None


# --- .gitignore


@pytest.mark.parametrize(
    ("given", "new"),
    [
        ("# a\n/data/a/\n/models/\n# b\n*.pyc\n", "# a\n/data/a/\n/models/\n/data/new/\n# b\n*.pyc\n"),
        ("# a\r\n/data/a/\r\n*.pyc\r\n", "# a\r\n/data/a/\r\n/data/new/\r\n*.pyc\r\n"),
        ("*.pyc\n", "*.pyc\n/data/new/\n"),
        ("*.pyc", "*.pyc\n/data/new/"),
        ("", "/data/new/\n"),
    ],
    ids=["below the last folder", "CRLF", "without others", "without a line's end", "empty"],
)
def test_a_folder_is_ignored(given, new):
    """The line comes below those of other stages' folders."""
    assert text.with_folder(given, "data/new", ["data/a", "models", "metrics"]) == new
