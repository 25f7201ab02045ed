"""What a registry says: whoever may write to it can offer models and records, and neither run code nor stop runs."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.border.test_printed import POWER
from tests.conftest import NOTHING, Clone, Make, last_line, stages_line

pytestmark = [pytest.mark.docker]

MODEL = "iris-classifier"
WRITES = f"""
import json, os, requests
from mlflow import MlflowClient
client, MODEL = MlflowClient(), {MODEL!r}
def model(key, value): client.set_registered_model_tag(MODEL, key, value)
def version(key, value): client.set_model_version_tag(MODEL, "1", key, value)
"""


class Hostile(NamedTuple):
    """Tags that somebody sets; `stops` is whether commands may end with a sentence until they are gone."""

    of: str  # "model" or "version"
    tags: dict[str, str]
    stops: bool = False


TITLE = "\x1b]0;t\x07\x1b[2J"
HOSTILE = {
    # 8. values that nobody checks
    "a machine that sets stages since abc": Hostile("model", {"applying_x": "abc"}),
    "a machine that sets stages since ever": Hostile("model", {"applying_x": "nan"}),
    "a machine that sets stages in no time": Hostile("model", {"applying_x": "1e999"}),
    "a machine with an odd name": Hostile("model", {"applying_x/../y": "1"}),
    "no turn": Hostile("model", {"production_turn": "abc"}),
    "the last turn": Hostile("model", {"production_turn": "9" * 4000}),
    "a negative turn": Hostile("model", {"production_turn": "-1"}),
    "a decision that is none": Hostile("version", {"decision": "Everywhere"}, stops=True),
    "a record that is a list": Hostile("version", {"decision_record": "[1]"}, stops=True),
    "a record that is a number": Hostile("version", {"decision_record": "1"}, stops=True),
    "a record that is no JSON": Hostile("version", {"decision_record": "{"}, stops=True),
    "a record that is deep": Hostile("version", {"decision_record": "[" * 4900}, stops=True),
    "a record that is deep, and an object": Hostile("version", {"decision_record": '{"a":' * 900}, stops=True),
    "a record of an endless turn": Hostile("version", {"decision_record": '{"turn": 1e999}'}, stops=True),
    "a record of a long turn": Hostile("version", {"decision_record": f'{{"turn": {"9" * 4500}}}'}, stops=True),
    "a record of no number": Hostile("version", {"decision_record": '{"turn": NaN, "score": Infinity}'}, stops=True),
    "a promotion of another version": Hostile("version", {"promotion_7": '{"turn": 7, "version": 99}'}, stops=True),
    "a promotion of a list": Hostile("version", {"promotion_7": "[[[]]]"}, stops=True),
    "a promotion with a long turn": Hostile("version", {f"promotion_{'9' * 200}": "{}"}, stops=True),
    "a score beyond all": Hostile("version", {"accuracy": "inf"}),
    "a score that is none": Hostile("version", {"accuracy": "nan"}),
    "a score that is a text": Hostile("version", {"accuracy": "very good"}),
    # 10. what reaches a terminal
    "a reason with power": Hostile("version", {"reason": f"better{TITLE}\nerror: all is lost"}),
    "a reason that turns": Hostile("version", {"reason": "\u202etxet\u2028x\x9b31m"}),
    "a commit with power": Hostile("version", {"git_commit": TITLE}, stops=True),
    "a score with power": Hostile("version", {"accuracy": TITLE}),
    # what is used as a name
    "a commit that is an option": Hostile("version", {"git_commit": "--upload-pack=touch /tmp/bad"}, stops=True),
    "a commit that is a command": Hostile("version", {"git_commit": "$(touch bad);`touch bad`"}, stops=True),
    "a file outside": Hostile("version", {"model_file": "model/../../../x"}, stops=True),
    "a file of the host": Hostile("version", {"model_file": "/etc/passwd"}, stops=True),
    "a file with a name too long": Hostile("version", {"model_file": f"model/{'x' * 4900}"}, stops=True),
    "an image of somebody": Hostile("version", {"scorer_image": "evil/image:latest"}),
    "test data of somebody": Hostile("version", {"test_data_sha256": "../../x"}),
    "parameters that are deep": Hostile("version", {"scorer_params": "[" * 4900}),
    "a digest that is a path": Hostile("version", {"model_sha256": "../../etc/passwd"}, stops=True),
    "a tag for each letter": Hostile("version", {f"tag-{n}": "x" * 4000 for n in range(100)}),
}


@pytest.fixture(scope="module")
def registry(clone_at: Callable[[str], Clone]) -> Clone:
    """A clone with one version in production."""
    clone = clone_at("border-registry")
    clone.make("run")
    return clone


def set_tags(clone: Clone, hostile: Hostile) -> dict[str, str | None]:
    """Set the tags; return what they were before."""
    code = f"""{WRITES}
tags = json.loads({json.dumps(hostile.tags)!r})
holder = client.get_registered_model(MODEL) if {hostile.of == "model"} else client.get_model_version(MODEL, "1")
there = holder.tags
print("WAS", json.dumps({{key: there.get(key) for key in tags}}))
for key, value in tags.items():
    try:
        {hostile.of}(key, value)
    except Exception as error:  # a name that the server itself refuses
        print("REFUSED", key, error)
"""
    printed = clone.python(code)
    return json.loads(re.search(r"WAS (.*)", printed)[1])


def restore(clone: Clone, hostile: Hostile, was: dict[str, str | None]) -> None:
    delete = "client.delete_registered_model_tag(MODEL, key)" if hostile.of == "model" else (
        "client.delete_model_version_tag(MODEL, '1', key)"
    )  # fmt: skip
    clone.python(f"""{WRITES}
for key, value in json.loads({json.dumps(was)!r}).items():
    try:
        {delete} if value is None else {hostile.of}(key, value)
    except Exception as error:
        print("LEFT", key, error)
""")


def check_said(done: Make, *, may_stop: bool) -> None:
    assert "Traceback" not in done.stdout, done.stdout
    assert not POWER.search(done.stdout), ascii(done.stdout)
    assert not re.search(r"^error: all is lost", done.stdout, re.M)
    if done.returncode:
        assert may_stop, done.stdout
        assert re.match(r"error: .+", last_line(done)), done.stdout


def check_hostile(registry: Clone, hostile: Hostile) -> None:
    was = set_tags(registry, hostile)
    try:
        for verb in ("run", "models", "lineage", "compare"):
            done = registry.make(verb, *(["A=1", "B=1"] if verb == "compare" else []), check=False, timeout=300)
            check_said(done, may_stop=hostile.stops or verb == "compare")
    finally:
        restore(registry, hostile, was)
    assert not list(registry.path.glob("bad*")) and registry.changes() == ["dvc.lock"]
    done = registry.make("run")
    assert stages_line(done) == NOTHING
    versions = registry.registry()
    assert [version["stage"] for version in versions[:1]] == ["Production"], versions


@pytest.mark.deep
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
def test_somebody_writes(registry: Clone, hostile: Hostile) -> None:
    """Each verb works, or ends with a sentence that names the tag; without the tag the next run is right."""
    check_hostile(registry, hostile)


def test_somebody_writes_one_of_a_kind(registry: Clone) -> None:
    """As above: a tag that stopped every run once."""
    check_hostile(registry, HOSTILE["a machine that sets stages since abc"])


RECORDS = {
    "another command": "text.replace('docker run', 'touch bad; docker run', 1)",
    "a command more": "text.replace('stages:', 'stages:\\n  bad:\\n    cmd: touch bad', 1)",
    "another image": "text.replace('stages/ingest:', 'evil/ingest:', 1)",
    "a mount of the host": "text.replace('--mount', '--mount type=bind,src=/,dst=/host --mount', 1)",
    "the socket": "text.replace('--rm', '--rm -v /var/run/docker.sock:/s', 1)",
    "an anchor that grows": (
        "'a: &a [x, x]\\n' + ''.join(f'{n}: &{n} [*{p}, *{p}]\\n' for p, n in zip('abcdefgh', 'bcdefghi'))"
    ),
    "brackets without end": "'[' * 100_000",
    "nothing": "''",
}


def write_record(registry: Clone, name: str, change: str) -> None:
    """Change a file of the record of version 1 in the registry."""
    registry.python(f"""{WRITES}
import pathlib, tempfile
run = client.get_model_version(MODEL, "1").run_id
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(client.download_artifacts(run, "pipeline/{name}", folder))
    text = path.read_text()
    path.write_text({change})
    client.log_artifact(run, str(path), "pipeline")
""")


def check_record(registry: Clone, name: str, change: str, *, may_work: bool = False) -> None:
    registry.python(
        f"{WRITES}\nimport pathlib\nrun = client.get_model_version(MODEL, '1').run_id\n"
        f"kept = pathlib.Path(client.download_artifacts(run, 'pipeline/{name}'))\n"
        "pathlib.Path('.local/kept').write_bytes(kept.read_bytes())\n"
    )
    try:
        write_record(registry, name, change)
        done = registry.make("reproduce", "VERSION=1", check=False, timeout=300)
        if done.returncode or not may_work:
            assert done.returncode == 2 and re.match(r"error: ", last_line(done)), done.stdout
        assert "Traceback" not in done.stdout
    finally:
        write_record(registry, name, "pathlib.Path('.local/kept').read_text()")
    assert not list(registry.path.rglob("bad")) and registry.changes() == ["dvc.lock"]


@pytest.mark.deep
@pytest.mark.parametrize("change", RECORDS.values(), ids=list(RECORDS))
def test_somebody_writes_a_pipeline(registry: Clone, change: str) -> None:
    """`make reproduce` runs no command that the registry names and the commit does not."""
    check_record(registry, "dvc.yaml", change)


def test_somebody_writes_a_command(registry: Clone) -> None:
    """As above: another command."""
    check_record(registry, "dvc.yaml", RECORDS["another command"])


PARAMS = {
    "a key that is a command": "text.replace('  seed:', '  \"x; touch bad; #\": 1\\n  seed:', 1)",
    "a key that is substituted": "text.replace('  seed:', '  \"$(touch bad)\": 1\\n  seed:', 1)",
    "a value that is a command": "text.replace('source: bundled', 'source: \"x; touch bad; #\"', 1)",
    "a value that is substituted": "text.replace('source: bundled', 'source: $(touch bad)', 1)",
}


@pytest.mark.deep
@pytest.mark.parametrize("change", PARAMS.values(), ids=list(PARAMS))
def test_somebody_writes_parameters(registry: Clone, change: str) -> None:
    """`make reproduce` hands no parameter of the registry to a shell as more than a word."""
    check_record(registry, "params.yaml", change, may_work=True)  # an odd word is a word


def test_a_patch_of_somebody_is_shown_first(registry: Clone) -> None:
    """A patch that this clone has not recorded is shown, without power over the terminal, and runs only with YES=1."""
    patch = (
        "diff --git a/stages/base/bad.py b/stages/base/bad.py\nnew file mode 100644\n--- /dev/null\n"
        "+++ b/stages/base/bad.py\n@@ -0,0 +1 @@\n+print('\x1b]0;t\x07')\n"
    )
    registry.python(f"""{WRITES}
import pathlib, tempfile
run = client.get_model_version(MODEL, "1").run_id
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "uncommitted.patch")
    path.write_text({patch!r})
    client.log_artifact(run, str(path), "pipeline")
""")
    done = registry.make("reproduce", "VERSION=1", check=False, stdin="")
    assert done.returncode == 2, done.stdout
    assert "+print('?" in done.stdout or "+print(''" in done.stdout, done.stdout
    assert not POWER.search(done.stdout)
    assert "nothing was run; expected somebody who has read the changes above" in last_line(done)
