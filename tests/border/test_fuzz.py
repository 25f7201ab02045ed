"""Everything that the runner parses and did not write, fed with what nobody would: 10,000 cases a parser.

Each ends with a value or with one of the errors that its docstring names: no other exception, no hang, and no more
memory than MEMORY. `make test` feeds a hundred to each.
"""

import json
import math
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scripts import bounded
from scripts.pipeline import dvc_adapter, failures, live_metrics
from scripts.pipeline.console import harmless
from scripts.pipeline.params import read_params
from scripts.project import Project, UserError
from scripts.recovery import dvc_files
from scripts.registry import gate, logged, model_folder, plots, provenance, reader, records
from scripts.registry.stage_files import Table, read_table, read_value
from scripts.settings import read_dotenv
from scripts.yaml12 import load_strangers_yaml
from tests.border.test_printed import POWER

MEMORY = 3 << 30
"""Bytes of address space that the tests' process may have beyond what it has."""
FEW, MANY = 100, 10_000

# --- what is fed

NASTY = st.sampled_from(
    [
        "", "\x00", "\ufeff", "nan", "inf", "-inf", "1e999", "-0", "9" * 400, "0x10", "1_000", "true", "null", "~", "=",
        "<<", "*a", "&a [*a]", "a: &a {b: *a}", "!!python/object/apply:os.system [x]", "!!binary x", "!<x>",
        "%YAML 1.1", "---", "...", "[" * 2000, "{" * 2000, "- " * 2000, "? " * 500, '{"a":' * 2000, "\x1b]0;t\x07",
        "\u202e", "\u2028", "\ud800", '"', "'", "\\", "$(x)", "`x`", ";", "|", "# x", "../..", "/etc/passwd",
        "::metric ", "error: x", "docker: x", "exited with 125", "a=1 step=9" + "9" * 20, ",", ",,,", "\t", "\r",
        "a\rb", '"a\nb"',
        "score", "step", "path",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), NASTY)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([2**63, -(2**63) - 1, 10**400, 5e-324]))
KEYS = [
    "score", "step", "path", "size", "stages", "outs", "deps", "md5", "cmd", "schema", "version", "turn",
    "decision", "at", "by", "why", "inputs", "outputs", "params", "type", "name", "tags", "key", "value", "aliases",
    "alias", "model_versions", "registered_model", "current_stage", "accuracy",
]  # fmt: skip
NAMES = st.one_of(
    TEXTS,
    st.sampled_from(KEYS),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(NAMES, inner, max_size=6)),
    max_leaves=25,
)
RECORDS = st.dictionaries(NAMES, VALUES, max_size=8)
LINES = st.lists(TEXTS, max_size=12)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _yaml(value: Any) -> str:
    try:
        return yaml.safe_dump(value, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        return _json(value)


TABLES = st.lists(st.lists(st.one_of(TEXTS, NUMBERS.map(str)), min_size=1, max_size=5), max_size=8).map(
    lambda rows: "\n".join(",".join(row) for row in rows)
)
SCORED = st.lists(st.tuples(st.one_of(NUMBERS.map(str), TEXTS), TEXTS), max_size=8).map(
    lambda rows: "\n".join(["score,x", *(f"{score},{x}" for score, x in rows)])
)
DOCUMENTS = st.one_of(VALUES.map(_json), VALUES.map(_yaml), RECORDS.map(_json), TEXTS, LINES.map("\n".join))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _readable(text: str) -> str:
    """Return the text as it comes from a file: in UTF-8."""
    return text.encode(errors="replace").decode()


BYTES = st.one_of(st.binary(max_size=200), DOCUMENTS.map(_bytes), TABLES.map(_bytes))


@pytest.fixture(autouse=True)
def in_bounds() -> Iterator[None]:
    """Let no test take more memory than MEMORY."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Parser:
    """A function that takes what `cases` makes, and the errors that it may raise."""

    def __init__(self, cases: st.SearchStrategy, function: Callable[..., Any], *errors: type[Exception]) -> None:
        self.cases, self.function, self.errors = cases, function, errors


def a_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], Any]:
    """Return a function that writes bytes to a file of this name and reads it."""

    def call(content: bytes, folder: Path) -> Any:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return call


def state_of(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "get", lambda call, **query: found)
    monkeypatch.setattr(bounded, "PAGES", 3)
    state = reader.read("iris")
    if state:
        decide(state)


def decide(state: records.State) -> None:
    records.promotions(state)
    records.next_step(state)
    records.history(state)
    records.champion(state)
    for version in state.versions:
        assert isinstance(version.record, dict)
        version.file  # noqa: B018


def state_by_tags(given: tuple[dict[str, str], dict[str, str]]) -> None:
    of_version, of_model = given
    versions = [records.Version(1, "Production", "run", of_version), records.Version(2, "None", "", {})]
    decide(records.State.of(versions, {"production": "1"}, of_model))


OUR_TAGS = [
    "decision", "decision_record", "reason", "promotion_1", "promotion_2", "model_sha256", "model_file",
    "production_turn", "applying_x", "accuracy", "git_commit", "dvc_lock_sha256",
]  # fmt: skip
TAG_NAMES = st.one_of(
    st.sampled_from(OUR_TAGS),
    TEXTS,
)
TAGS = st.dictionaries(TAG_NAMES, st.one_of(TEXTS, RECORDS.map(_json), NUMBERS.map(str)), max_size=6)
SERVED = st.fixed_dictionaries(
    {
        "registered_model": st.one_of(VALUES, st.fixed_dictionaries({"tags": VALUES, "aliases": VALUES})),
        "model_versions": st.one_of(
            VALUES,
            st.lists(
                st.fixed_dictionaries(
                    {"version": st.one_of(VALUES, st.just("1")), "current_stage": TEXTS, "tags": VALUES}
                ),
                max_size=3,
            ),
        ),
    }
)


def drawn(given: tuple[list[Any], list[list[str]]]) -> None:
    look, rows = given
    width = max(map(len, rows), default=1)
    table = Table([f"c{n}" for n in range(width)], [[*row, *[""] * (width - len(row))] for row in rows])
    list(plots.draw([{"t.csv": look}], {"t.csv": table}))


LOOKS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"template": st.sampled_from(["linear", "smooth", "scatter", "confusion", "bar_horizontal", "x"])},
        optional={"x": st.one_of(TEXTS, st.just("c0")), "y": st.one_of(VALUES, st.just("c1")), "title": VALUES},
    ),
)
CELLS = st.lists(st.lists(st.one_of(NUMBERS.map(str), TEXTS), min_size=2, max_size=2), min_size=1, max_size=6)


def shown(line: str) -> None:
    assert not POWER.search(harmless(line))


def lock(content: bytes, folder: Path) -> Any:
    project = Project(folder)
    project.dvc_lock.write_bytes(content)
    return provenance.read_lock(project)


def entry(content: bytes) -> None:
    assert dvc_adapter._is_entry(content, "a" * 64, "b" * 64) is False


def judged(given: tuple[dict[str, float], Any, dict[str, float], Any]) -> None:
    ours, our_rows, theirs, their_rows = given
    found = gate.judge(
        gate.Measurement(ours, our_rows), (1, gate.Measurement(theirs, their_rows)),
        gate.Gate("accuracy", confidence=0.9),
    )  # fmt: skip
    assert "\n" not in found.reason
    assert found.score is None or not math.isnan(found.score)


METRICS = st.dictionaries(st.sampled_from(["accuracy", "f1"]), st.floats(), max_size=2)
ROWS = st.one_of(st.none(), st.lists(st.floats(), max_size=8).map(tuple))

PARSERS = {
    "a value": Parser(BYTES, a_file("x.json", read_value), UserError),
    "a value in YAML": Parser(BYTES, a_file("x.yaml", read_value), UserError),
    "a value in TOML": Parser(BYTES, a_file("x.toml", read_value), UserError),
    "YAML of a stranger": Parser(BYTES, load_strangers_yaml, ValueError, yaml.YAMLError),
    "metrics": Parser(BYTES, a_file("metrics.json", logged.read_metrics), UserError),
    "metrics in YAML": Parser(BYTES, a_file("metrics.yaml", logged.read_metrics), UserError),
    "rows": Parser(
        st.one_of(BYTES, SCORED.map(_bytes)),
        a_file("rows.csv", logged.read_rows),
        UserError,
    ),
    "a table": Parser(BYTES, a_file("t.csv", read_table), UserError),
    "a table in YAML": Parser(BYTES, a_file("t.yaml", read_table), UserError),
    "a table in JSON": Parser(BYTES, a_file("t.json", read_table), UserError),
    "a signature": Parser(BYTES, a_file("signature.json", model_folder.read_signature), UserError),
    "a plot": Parser(st.tuples(LOOKS, CELLS), drawn),
    "what a registry has": Parser(SERVED, state_of, ValueError, records.Unclear),
    "tags": Parser(st.tuples(TAGS, TAGS), state_by_tags, records.Unclear),
    "live metrics": Parser(st.one_of(TEXTS, TEXTS.map(lambda text: f"::metric {text}")), live_metrics.parse),
    "a line": Parser(TEXTS, shown),
    "dvc.lock": Parser(BYTES, lock, UserError),
    "whether dvc.lock is whole": Parser(DOCUMENTS.map(_readable), dvc_files.is_whole),
    "DVC's locks": Parser(DOCUMENTS, dvc_files.is_idle),
    "an entry of the run-cache": Parser(BYTES, entry),
    "params.yaml": Parser(BYTES, a_file("params.yaml", read_params), UserError),
    ".env": Parser(BYTES, a_file(".env", read_dotenv), UserError),
    "why a stage failed": Parser(LINES, lambda lines: failures.why(lines, "train", Project(Path("/x")), starved=False)),
    "whether Docker was busy": Parser(LINES, failures.is_transient),
    "scores": Parser(st.tuples(METRICS, ROWS, METRICS, ROWS), judged),
}


def feed(parser: Parser, folder: Path, monkeypatch: pytest.MonkeyPatch, cases: int) -> None:
    wanted = parser.function.__code__.co_varnames[1 : parser.function.__code__.co_argcount]
    others = {"folder": folder, "monkeypatch": monkeypatch}
    extra = [others[name] for name in wanted if name in others]

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=HealthCheck,
        phases=[Phase.generate],
    )
    @given(parser.cases)
    def check(case: Any) -> None:
        try:
            parser.function(case, *extra)
        except parser.errors as error:
            assert len(str(error)) < 3000

    check()


@pytest.mark.parametrize("parser", PARSERS.values(), ids=list(PARSERS))
def test_a_hundred_cases(parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value or a sentence comes of whatever it is fed with."""
    feed(parser, tmp_path, monkeypatch, FEW)


@pytest.mark.deep
@pytest.mark.parametrize("parser", PARSERS.values(), ids=list(PARSERS))
def test_ten_thousand_cases(parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, 10,000 times."""
    feed(parser, tmp_path, monkeypatch, MANY)
